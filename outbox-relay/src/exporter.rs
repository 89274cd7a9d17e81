//! Where spans go: a bounded queue in front of an OTLP collector. What finds no room, or no collector, is dropped and
//! counted; shipping never waits for it.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

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
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter},
};
use tonic::transport::Channel;

use crate::Error;

/// The spans of some thousand rows; further ones are not even built.
const LONGEST_QUEUE: usize = 16_384;

/// How long the collector may take to answer.
const LONGEST_EXPORT: Duration = Duration::from_secs(10);

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

/// Sends to the collector at `endpoint`. Call it inside the Tokio runtime.
///
/// # Errors
/// When the endpoint is not a URL.
pub(crate) fn provider(endpoint: &str, queue: &'static Queue) -> Result<SdkTracerProvider, Error> {
    let channel = Channel::from_shared(endpoint.to_owned())
        .map_err(|error| Error::Spans(error.into()))?
        .timeout(LONGEST_EXPORT)
        .connect_lazy();
    let client = TraceServiceClient::new(channel);
    let config = BatchConfigBuilder::default().with_max_queue_size(LONGEST_QUEUE).build();
    let collector = Collector { client, resource: None, queue };
    let processor = BatchSpanProcessor::builder(collector).with_batch_config(config).build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_resource(Resource::builder().with_service_name("outbox-relay").build())
        .build())
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
    fn a_drain_of_a_million_rows_keeps_the_queue_short() {
        let queue = Queue::new();
        let taken = (0..1_000_000).filter(|_| queue.takes_one()).count();
        assert_eq!(taken, LONGEST_QUEUE);
        assert_eq!(queue.dropped(), (1_000_000 - LONGEST_QUEUE) as u64);
        queue.sent(512, &Ok(()));
        assert_eq!((0..1_000).filter(|_| queue.takes_one()).count(), 512);
    }
}
