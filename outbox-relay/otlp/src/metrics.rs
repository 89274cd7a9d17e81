//! Where metrics go besides `/metrics`, when asked. The next export says all that one which is not collected would have.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use opentelemetry_otlp::{MetricExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{PeriodicReader, Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
};

use crate::{Error, collector::tls};

/// Sends metrics to the collector at `endpoint`, every so often. Call it inside the Tokio runtime.
///
/// # Errors
/// When the endpoint is not a URL, or no authorities are known that could vouch for it.
pub fn metrics(endpoint: &str, every: Duration) -> Result<PeriodicReader<Metrics>, Error> {
    let mut exporter = MetricExporter::builder().with_tonic().with_endpoint(endpoint);
    if let Some(tls) = tls(endpoint)? {
        exporter = exporter.with_tls_config(tls);
    }
    let inner = exporter.build().map_err(Error::Metrics)?;
    let metrics = Metrics { inner, away: AtomicBool::new(false) };
    Ok(PeriodicReader::builder(metrics).with_interval(every).build())
}

/// The collector of metrics.
#[derive(Debug)]
pub struct Metrics {
    inner: MetricExporter,
    away: AtomicBool,
}

impl PushMetricExporter for Metrics {
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
