//! Where spans go: a bounded queue in front of an OTLP collector. What finds no room, or no collector, is dropped and
//! counted; nobody waits for it.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter,
        SpanProcessor,
    },
};
use tonic::transport::ClientTlsConfig;

use crate::metrics;

/// The spans of some large batches; further ones are not even built.
const LONGEST_QUEUE: usize = 16_384;

/// As many as one transaction may serve.
const MOST_LINKS: u32 = 1024;

/// How many spans wait to be sent.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: AtomicUsize,
    away: AtomicBool,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self { waiting: AtomicUsize::new(0), away: AtomicBool::new(false) }
    }

    /// Whether another span can wait; counts one that cannot.
    pub(crate) fn has_room(&self) -> bool {
        let has_room = self.waiting.load(Relaxed) < LONGEST_QUEUE;
        if !has_room {
            lost(1);
        }
        has_room
    }

    fn sent(&self, count: usize, result: &OTelSdkResult) {
        self.waiting.fetch_sub(count, Relaxed);
        match result {
            Ok(()) if self.away.swap(false, Relaxed) => tracing::info!("spans are collected again"),
            Ok(()) => {}
            Err(error) => {
                lost(count);
                if !self.away.swap(true, Relaxed) {
                    tracing::warn!(%error, "spans are not collected; they are dropped");
                }
            }
        }
    }
}

fn lost(count: usize) {
    metrics::instruments().spans_dropped.add(count as u64, &[]);
}

/// Sends to the collector at `endpoint`, as the other `OTEL_EXPORTER_OTLP_*` variables say. Call it inside the Tokio
/// runtime. Errors: the endpoint is not a URL, or no authorities are known that could vouch for it.
pub(crate) fn provider(
    service: &'static str,
    endpoint: &str,
    queue: &'static Queue,
) -> anyhow::Result<SdkTracerProvider> {
    let exporter = aimed(opentelemetry_otlp::SpanExporter::builder().with_tonic(), endpoint)?;
    let collector = Collector { inner: exporter.build()?, queue };
    let config = BatchConfigBuilder::default().with_max_queue_size(LONGEST_QUEUE).build();
    let inner = BatchSpanProcessor::builder(collector).with_batch_config(config).build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(Bounded { inner, queue })
        .with_max_links_per_span(MOST_LINKS)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build())
}

/// Aims an exporter at a collector. Errors: that is no URL.
pub(crate) fn aimed<E: WithExportConfig + WithTonicConfig>(
    exporter: E,
    endpoint: &str,
) -> anyhow::Result<E> {
    let exporter = exporter.with_endpoint(endpoint);
    match endpoint.split_once("://") {
        Some(("http", _)) => Ok(exporter),
        Some(("https", _)) => {
            Ok(exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots()))
        }
        _ => anyhow::bail!("the OTLP endpoint {endpoint:?} is neither http:// nor https://"),
    }
}

/// Lets in what there is room for.
#[derive(Debug)]
struct Bounded {
    inner: BatchSpanProcessor,
    queue: &'static Queue,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.has_room() {
            self.queue.waiting.fetch_add(1, Relaxed);
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
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
    fn a_queue_that_is_full_takes_nothing_until_something_was_sent() {
        let queue = Queue::new();
        queue.waiting.store(LONGEST_QUEUE, Relaxed);
        assert!(!queue.has_room());
        queue.sent(512, &Ok(()));
        assert!(queue.has_room());
    }

    #[test]
    fn an_endpoint_that_is_no_url_is_refused() {
        static QUEUE: Queue = Queue::new();
        for endpoint in
            ["127.0.0.1:4317", "http//127.0.0.1:4317", "ftp://a", "http://a b", "https://"]
        {
            assert!(provider("it", endpoint, &QUEUE).is_err(), "{endpoint}");
        }
    }
}
