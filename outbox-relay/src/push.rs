//! Where metrics go besides `/metrics`, when asked: to an OTLP collector. One that is away is told of once, and nobody waits
//! for it; the next export says all that this one would have.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{PeriodicReader, Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
};

use crate::{Error, exporter};

/// Sends to the collector at `endpoint`, every so often. Call it inside the Tokio runtime.
///
/// # Errors
/// When the endpoint is not a URL.
pub(crate) fn reader(endpoint: &str, every: Duration) -> Result<PeriodicReader<Collector>, Error> {
    let exporter = exporter::aimed(MetricExporter::builder().with_tonic(), endpoint)?;
    let inner = exporter.build().map_err(|error| Error::Metrics(error.into()))?;
    let collector = Collector { inner, away: AtomicBool::new(false) };
    Ok(PeriodicReader::builder(collector).with_interval(every).build())
}

/// The collector.
#[derive(Debug)]
pub(crate) struct Collector {
    inner: MetricExporter,
    away: AtomicBool,
}

impl PushMetricExporter for Collector {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        match self.inner.export(metrics).await {
            Ok(_) if self.away.swap(false, Relaxed) => {
                tracing::info!("metrics are collected again")
            }
            Ok(_) => {}
            Err(error) if !self.away.swap(true, Relaxed) => {
                tracing::warn!(%error, "metrics are not collected; /metrics has them");
            }
            Err(error) => tracing::debug!(%error, "metrics are still not collected"),
        }
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}
