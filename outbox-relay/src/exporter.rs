//! Where spans go: a bounded queue in front of an OTLP collector. What finds no room, or no collector, is dropped and
//! counted; shipping never waits for it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter},
};
use tonic::transport::ClientTlsConfig;

use crate::Error;

/// The spans of some thousand rows; further ones are not even built.
const LONGEST_QUEUE: usize = 16_384;

/// How many spans wait to be sent.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: AtomicUsize,
    dropped: AtomicU64,
    away: AtomicBool,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            away: AtomicBool::new(false),
        }
    }

    /// Keeps room for one more, or counts it as dropped.
    pub(crate) fn takes_one(&self) -> bool {
        let taken = self.waiting.fetch_add(1, Relaxed) < LONGEST_QUEUE;
        if !taken {
            self.gives_back(1);
            self.lose(1);
        }
        taken
    }

    /// So many do not come after all.
    pub(crate) fn gives_back(&self, count: usize) {
        self.waiting.fetch_sub(count, Relaxed);
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn sent(&self, count: usize, result: &OTelSdkResult) {
        self.gives_back(count);
        match result {
            Ok(()) if self.away.swap(false, Relaxed) => tracing::info!("spans are collected again"),
            Ok(()) => {}
            Err(error) => {
                self.lose(count);
                if !self.away.swap(true, Relaxed) {
                    tracing::warn!(%error, "spans are not collected; they are dropped");
                }
            }
        }
    }

    fn lose(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Relaxed);
    }
}

/// Sends to the collector at `endpoint`, as the other `OTEL_EXPORTER_OTLP_*` variables say. Call it inside the Tokio
/// runtime.
///
/// # Errors
/// When the endpoint is not a URL, or no authorities are known that could vouch for it.
pub(crate) fn provider(endpoint: &str, queue: &'static Queue) -> Result<SdkTracerProvider, Error> {
    let exporter = aimed(opentelemetry_otlp::SpanExporter::builder().with_tonic(), endpoint)?;
    let inner = exporter.build().map_err(|error| Error::Spans(error.into()))?;
    let collector = Collector { inner, queue };
    let config = BatchConfigBuilder::default().with_max_queue_size(LONGEST_QUEUE).build();
    let processor = BatchSpanProcessor::builder(collector).with_batch_config(config).build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_resource(Resource::builder().with_service_name("outbox-relay").build())
        .build())
}

/// Aims an exporter at a collector.
pub(crate) fn aimed<E: WithExportConfig + WithTonicConfig>(
    exporter: E,
    endpoint: &str,
) -> Result<E, Error> {
    let exporter = exporter.with_endpoint(endpoint);
    match endpoint.split_once("://") {
        Some(("http", _)) => Ok(exporter),
        Some(("https", _)) => {
            Ok(exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots()))
        }
        _ => Err(Error::Spans(format!("{endpoint:?} is neither http:// nor https://").into())),
    }
}

/// The collector, which may be away: that is said once, not with every batch.
#[derive(Debug)]
struct Collector {
    inner: opentelemetry_otlp::SpanExporter,
    queue: &'static Queue,
}

impl SpanExporter for Collector {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.inner.export(batch).await;
        self.queue.sent(count, &result);
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_of_a_million_rows_keeps_the_queue_short() {
        let queue = Queue::new();
        let taken = (0..1_000_000).filter(|_| queue.takes_one()).count();
        assert_eq!(taken, LONGEST_QUEUE);
        assert_eq!(queue.dropped(), (1_000_000 - LONGEST_QUEUE) as u64);
        queue.sent(512, &Ok(()));
        assert_eq!((0..1_000).filter(|_| queue.takes_one()).count(), 512);
    }

    #[test]
    fn an_endpoint_that_is_no_url_is_refused() {
        static QUEUE: Queue = Queue::new();
        for endpoint in
            ["127.0.0.1:4317", "http//127.0.0.1:4317", "ftp://a", "http://a b", "https://"]
        {
            assert!(provider(endpoint, &QUEUE).is_err(), "{endpoint}");
        }
    }
}
