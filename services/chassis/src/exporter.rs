//! Where spans go: a bounded queue in front of an OTLP collector. What finds no room, or no collector, is dropped and
//! counted; nobody waits for it.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_proto::{
    tonic::{
        collector::trace::v1::{
            ExportTraceServiceRequest, trace_service_client::TraceServiceClient,
        },
        resource::v1 as proto_resource,
        trace::v1::{ResourceSpans, ScopeSpans},
    },
    transform::common::tonic::ResourceAttributesWithSchema,
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter,
        SpanProcessor,
    },
};
use tonic::transport::Channel;

use crate::metrics;

/// The spans of some large batches; further ones are not even built.
const LONGEST_QUEUE: usize = 16_384;

/// As many as one transaction may serve.
const MOST_LINKS: u32 = 1024;

/// How long the collector may take to answer.
const LONGEST_EXPORT: Duration = Duration::from_secs(10);

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

/// Sends to the collector at `endpoint`. Call it inside the Tokio runtime. Errors: the endpoint is not a URL.
pub(crate) fn provider(
    service: &'static str,
    endpoint: &str,
    queue: &'static Queue,
) -> anyhow::Result<SdkTracerProvider> {
    let channel = Channel::from_shared(endpoint.to_owned())?.timeout(LONGEST_EXPORT).connect_lazy();
    let client = TraceServiceClient::new(channel);
    let config = BatchConfigBuilder::default().with_max_queue_size(LONGEST_QUEUE).build();
    let inner = BatchSpanProcessor::builder(Collector { client, resource: None, queue })
        .with_batch_config(config)
        .build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(Bounded { inner, queue })
        .with_max_links_per_span(MOST_LINKS)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build())
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

/// The collector, which may be away: that is said once, not with every batch. Batches go out as they are: the published
/// exporter copies each of them twice first, which took half of a span's cost.
#[derive(Debug)]
struct Collector {
    client: TraceServiceClient<Channel>,
    resource: Option<proto_resource::Resource>,
    queue: &'static Queue,
}

impl Collector {
    fn request(&self, batch: Vec<SpanData>) -> ExportTraceServiceRequest {
        let scope = batch.first().map(|span| (&span.instrumentation_scope, None).into());
        let spans = batch.into_iter().map(Into::into).collect();
        let scope_spans = vec![ScopeSpans { scope, spans, schema_url: String::new() }];
        let resource = self.resource.clone();
        let resource_spans =
            vec![ResourceSpans { resource, scope_spans, schema_url: String::new() }];
        ExportTraceServiceRequest { resource_spans }
    }
}

impl SpanExporter for Collector {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let answer = self.client.clone().export(self.request(batch)).await;
        let result =
            answer.map(drop).map_err(|status| OTelSdkError::InternalFailure(status.to_string()));
        self.queue.sent(count, &result);
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        let ResourceAttributesWithSchema { attributes, .. } = resource.into();
        let attributes = attributes.0;
        self.resource = Some(proto_resource::Resource { attributes, ..Default::default() });
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
}
