//! Logs, spans, and the trace context that travels with calls and events. The context of an event is the one in which it
//! was created: it is stored in the outbox row and copied unchanged by the relay.

use std::collections::HashMap;

use opentelemetry::{
    Context,
    propagation::TextMapPropagator as _,
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};
use uuid::Uuid;

use crate::{cause::Cause, envelope::Envelope, envelope::Headers};

const TRACE_HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// The W3C trace context of a call or an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    fields: HashMap<String, String>,
}

impl TraceContext {
    /// Of a received message.
    pub fn from_headers(headers: Headers<'_>) -> Self {
        Self::from_lookup(|name| headers.text(name))
    }

    /// Of a call.
    pub fn from_metadata(headers: &http::HeaderMap) -> Self {
        Self::from_lookup(|name| headers.get(name)?.to_str().ok())
    }

    /// A new trace, where none came along and none is recorded.
    pub fn random() -> Self {
        let (trace, span) = (Uuid::new_v4().simple(), &Uuid::new_v4().simple().to_string()[..16]);
        let traceparent = format!("00-{trace}-{span}-01");
        Self { fields: HashMap::from([("traceparent".to_owned(), traceparent)]) }
    }

    /// Of a span, if spans are recorded.
    pub fn of(span: &Span) -> Option<Self> {
        let context = span.context();
        if !context.span().span_context().is_valid() {
            return None;
        }
        let mut fields = HashMap::new();
        TraceContextPropagator::new().inject_context(&context, &mut fields);
        fields.retain(|_, value| !value.is_empty());
        Some(Self { fields })
    }

    /// The trace's id, 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<&str> {
        self.fields.get("traceparent")?.split('-').nth(1).filter(|id| id.len() == 32)
    }

    /// The headers that carry it, the CloudEvents one included.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain(self.fields.get("traceparent").map(|value| ("ce_traceparent", value.as_str())))
    }

    /// Sends it along with a call to another service.
    pub fn inject(&self, metadata: &mut tonic::metadata::MetadataMap) {
        for (name, value) in &self.fields {
            let name = tonic::metadata::MetadataKey::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, value.parse()) {
                metadata.insert(name, value);
            }
        }
    }

    pub(crate) fn context(&self) -> Context {
        TraceContextPropagator::new().extract(&self.fields)
    }

    fn from_lookup<'a>(lookup: impl Fn(&str) -> Option<&'a str>) -> Self {
        let fields = TRACE_HEADERS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), lookup(name)?.to_owned())));
        let given = Self { fields: fields.collect() };
        // A malformed one is none at all, as W3C has it.
        if given.context().span().span_context().is_valid() { given } else { Self::default() }
    }
}

/// The span in which an event comes about; its context travels with the event.
pub(crate) fn created(
    topic: &str,
    event_type: &str,
    event_id: Uuid,
    cause: &Cause,
) -> TraceContext {
    let span = tracing::info_span!(
        "create",
        otel.name = format!("create {topic}"),
        otel.kind = "producer",
        messaging.system = "kafka",
        messaging.operation.type = "create",
        messaging.destination.name = topic,
        messaging.message.conversation_id = cause.correlation_id.map(tracing::field::display),
        cloudevents.event_id = %event_id,
        cloudevents.event_type = event_type,
    );
    TraceContext::of(&span).unwrap_or_else(|| cause.trace.clone())
}

/// The span in which a message is decided, in the trace of its creation.
pub(crate) fn process_span(envelope: &Envelope) -> Span {
    let span = tracing::info_span!(
        "process",
        otel.name = format!("process {}", envelope.event_type),
        otel.kind = "consumer",
        messaging.system = "kafka",
        messaging.operation.type = "process",
        messaging.message.conversation_id = envelope.correlation_id.map(tracing::field::display),
        cloudevents.event_id = %envelope.event_id,
        cloudevents.event_type = envelope.event_type,
    );
    // Before the span is entered: afterwards it would stay in the wrong trace. It fails where spans are not recorded.
    let _ = span.set_parent(envelope.trace.context());
    span
}

/// Logs and spans of this process; dropping it without [`Telemetry::shutdown`] may lose the last spans.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Logs to standard error, filtered by `filter` (`RUST_LOG` syntax); spans to the OTLP collector at `otlp_endpoint`,
    /// if there is one. Call it inside the Tokio runtime. Errors: the endpoint is not a URL.
    pub fn start(
        service: &'static str,
        filter: &str,
        otlp_endpoint: Option<&str>,
    ) -> anyhow::Result<Self> {
        let filter = EnvFilter::try_new(filter)?;
        let logs =
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter);
        let provider = otlp_endpoint.map(|endpoint| provider(service, endpoint)).transpose()?;
        let spans = provider.as_ref().map(|provider| {
            let spans_only = tracing_subscriber::filter::filter_fn(|metadata| metadata.is_span());
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer(service))
                .with_filter(spans_only)
        });
        tracing_subscriber::registry().with(logs).with(spans).try_init()?;
        Ok(Self { provider })
    }

    /// Sends what is still to be sent, for at most some seconds.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else { return };
        // It blocks: inside the runtime it would wait for itself.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last spans were not delivered");
        }
    }
}

fn provider(service: &'static str, endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter =
        opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build())
}
