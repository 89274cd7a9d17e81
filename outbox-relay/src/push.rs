//! Where metrics go besides `/metrics`, when asked: to an OTLP collector. One that is away is told of once, and nobody waits
//! for it; the next export says all that this one would have.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{PeriodicReader, Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
};
use tonic::transport::Channel;

use crate::Error;

/// How long the collector may take to answer.
const LONGEST_EXPORT: Duration = Duration::from_secs(10);

/// Sends to the collector at `endpoint`, every so often. Call it inside the Tokio runtime.
///
/// # Errors
/// When the endpoint is not a URL.
pub(crate) fn reader(endpoint: &str, every: Duration) -> Result<PeriodicReader<Collector>, Error> {
    let channel = Channel::from_shared(endpoint.to_owned())
        .map_err(|error| Error::Metrics(error.into()))?
        .timeout(LONGEST_EXPORT)
        .connect_lazy();
    let collector =
        Collector { client: MetricsServiceClient::new(channel), away: AtomicBool::new(false) };
    Ok(PeriodicReader::builder(collector).with_interval(every).build())
}

/// The collector.
#[derive(Debug)]
pub(crate) struct Collector {
    client: MetricsServiceClient<Channel>,
    away: AtomicBool,
}

impl PushMetricExporter for Collector {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let request = ExportMetricsServiceRequest::from(metrics);
        match self.client.clone().export(request).await {
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
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}
