//! The spans of a service. One call is one trace, and all that follows from it hangs below it:
//! ```text
//! <method>                SERVER    a call, until the last byte of its answer
//!   <method>              CLIENT    a call to another service
//!   create <topic>        PRODUCER  an event comes about; its context is stored in the outbox row
//!     transit <topic>     INTERNAL  Kafka has it, until it is handed over
//!     process <topic>     CONSUMER  one attempt to handle it, until that is committed; link -> create
//!       create <topic>    ...
//! transaction <service>   CLIENT    one commit for many calls or messages, in a trace of its own; links to each
//! ```
//! The relay adds `outbox wait` and `send`. Nothing is built where nobody records, nor below what is not sampled.

use std::{
    fmt::Display,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, KeyValue, Value,
    trace::{Link, Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::trace::SdkTracer;
use otlp::Room;
use tonic::Code;
use uuid::Uuid;

use crate::{
    cause::Cause,
    clock,
    envelope::Headers,
    inbox::Record,
    trace_context::{self, CONVERSATION, TraceContext},
    trail::Outcome,
};

/// What reacts to an older event begins a trace of its own, with a link: a trace is not to last for hours.
const LONGEST_TRACE: chrono::Duration = chrono::Duration::minutes(15);

/// Kafka's timestamps are cut off to the millisecond.
const CUT_OFF: Duration = Duration::from_micros(999);

static RECORDER: OnceLock<Recorder> = OnceLock::new();

struct Recorder {
    tracer: SdkTracer,
    room: Room,
}

/// Records spans from now on.
pub(crate) fn record(tracer: SdkTracer, room: Room) {
    // Once per process; a second service in it would record as the first.
    let _ = RECORDER.set(Recorder { tracer, room });
}

/// Whether any span is recorded.
pub(crate) fn is_on() -> bool {
    RECORDER.get().is_some()
}

/// A span, if it is recorded. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Box<opentelemetry_sdk::trace::Span>>);

impl Span {
    /// Built only if it will be recorded.
    fn start(parent: &TraceContext, build: impl FnOnce() -> SpanBuilder) -> Self {
        let none_above = !parent.span().is_valid();
        let Some(recorder) = RECORDER.get().filter(|_| none_above || parent.span().is_sampled())
        else {
            return Self(None);
        };
        if !recorder.room.is_left() {
            return Self(None);
        }
        let span = recorder.tracer.build_with_context(build(), &parent.context());
        Self(span.is_recording().then(|| Box::new(span)))
    }

    /// The context of what happens in it; of what is above it where it is not recorded.
    pub fn trace(&self, above: &TraceContext) -> TraceContext {
        match &self.0 {
            Some(span) => above.within(span.span_context().clone()),
            None => above.clone(),
        }
    }

    /// How a message ended.
    pub(crate) fn came_to(&mut self, outcome: Outcome) {
        self.set("settle.outcome", outcome.as_str());
    }

    /// The answer to a call of ours.
    pub fn answered(&mut self, code: Code) {
        self.set("rpc.response.status_code", code_name(code));
        if let (Some(span), true) = (&mut self.0, code != Code::Ok) {
            span.set_status(Status::error(code.description()));
        }
    }

    /// It did not do what it was to do.
    pub fn failed(&mut self, why: &dyn Display) {
        if let Some(span) = &mut self.0 {
            let why = why.to_string();
            span.add_event("exception", vec![KeyValue::new("exception.message", why.clone())]);
            span.set_status(Status::error(why));
        }
    }

    /// Runs something whose logs shall name this span.
    pub(crate) fn in_scope<T>(&self, run: impl FnOnce() -> T) -> T {
        let context = self.0.as_ref().map(|span| span.span_context().clone());
        let _entered = context.map(|span| Context::new().with_remote_span_context(span).attach());
        run()
    }

    fn set(&mut self, name: &'static str, value: &'static str) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(name, value));
        }
    }
}

/// A call that is answered. What runs in the returned context belongs to it; None where it is not recorded.
pub(crate) fn answer(
    method: &str,
    incoming: &TraceContext,
    headers: &http::HeaderMap,
) -> Option<Context> {
    let span = Span::start(incoming, || {
        let mut attributes = called(method);
        // The caller's word, so only in the form that it should have.
        let order = trace_context::entry(headers, CONVERSATION).map(Uuid::try_parse);
        attributes.extend(order.and_then(Result::ok).map(conversation));
        builder(method.to_owned(), SpanKind::Server, attributes)
    });
    Some(Context::new().with_span(*span.0?))
}

/// A page that is answered; to be ended by [`served`]. What runs in the returned context belongs to it; None where it is not
/// recorded.
pub(crate) fn serve(method: &str, route: &str, incoming: &TraceContext) -> Option<Context> {
    let span = Span::start(incoming, || {
        let attributes = vec![
            KeyValue::new("http.request.method", text(method)),
            KeyValue::new("http.route", text(route)),
        ];
        builder(format!("{method} {route}"), SpanKind::Server, attributes)
    });
    Some(Context::new().with_span(*span.0?))
}

/// The end of a page.
pub(crate) fn served(page: &Context, status: http::StatusCode) {
    let span = page.span();
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    // The visitor's mistakes are his.
    if status.is_server_error() {
        span.set_status(Status::error(status.to_string()));
    }
    span.end();
}

/// The order that the call being answered turned out to be about.
pub(crate) fn concerns(order_id: Uuid) {
    Context::map_current(|context| {
        if context.span().is_recording() {
            context.span().set_attribute(conversation(order_id));
        }
    });
}

/// The end of an answer.
pub(crate) fn answered(call: &Context, code: Code) {
    let span = call.span();
    span.set_attribute(KeyValue::new("rpc.response.status_code", code_name(code)));
    // The caller's mistakes are his.
    let ours = [
        Code::Unknown,
        Code::DeadlineExceeded,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
    ];
    if ours.contains(&code) {
        span.set_status(Status::error(code.description()));
    }
    span.end();
}

/// A call to another service, on behalf of `cause`; fills in what goes along with it.
pub fn ask<T>(method: &'static str, cause: &Cause, request: &mut tonic::Request<T>) -> Span {
    let span = Span::start(&cause.trace, || {
        let mut attributes = called(method);
        attributes.extend(cause.correlation_id.map(conversation));
        builder(method, SpanKind::Client, attributes)
    });
    span.trace(&cause.trace).inject(request.metadata_mut());
    if let Some(order_id) = cause.correlation_id {
        trace_context::add_conversation(request.metadata_mut(), order_id);
    }
    span
}

/// A timer that has gone off for an order: the beginning of a trace.
pub fn timer(name: &'static str, order_id: Uuid) -> TraceContext {
    let span = Span::start(&TraceContext::default(), || {
        builder(name, SpanKind::Internal, vec![conversation(order_id)])
    });
    match span.0 {
        Some(span) => TraceContext::of(span.span_context().clone()),
        None => TraceContext::random(),
    }
}

/// An event comes about; the context travels with it.
pub(crate) fn create(topic: &'static str, event_type: &str, event_id: Uuid, cause: &Cause) -> Span {
    Span::start(&cause.trace, || {
        let mut attributes = messaging("create", topic);
        attributes.push(KeyValue::new("cloudevents.event_id", uuid(event_id)));
        attributes.push(KeyValue::new("cloudevents.event_type", text(event_type)));
        attributes.extend(cause.correlation_id.map(conversation));
        builder(format!("create {topic}"), SpanKind::Producer, attributes)
    })
}

/// The way of a message from Kafka's log to us. It is too long to draw where the event is old.
pub(crate) fn transit(record: &Record, group: &'static str) {
    let (now, created) = (clock::now(), TraceContext::from_headers(Headers(&record.headers)));
    if !created.span().is_sampled() || is_old(record, now) {
        return;
    }
    let sent = SystemTime::from(record.kafka_time) + CUT_OFF;
    let _ended = Span::start(&created, || {
        builder(
            format!("transit {}", record.topic),
            SpanKind::Internal,
            received("transit", record, group),
        )
        .with_start_time(sent.min(now.into()))
    });
}

/// One attempt to handle a message.
pub(crate) fn process(record: &Record, created: &TraceContext, group: &'static str) -> Span {
    // The flag of the event counts, also where a new trace begins.
    if !is_on() || created.span().is_valid() && !created.span().is_sampled() {
        return Span(None);
    }
    let none = TraceContext::default();
    let parent = if is_old(record, clock::now()) { &none } else { created };
    let creation = Some(created.span()).filter(|span| span.is_valid()).cloned();
    Span::start(parent, || {
        builder(
            format!("process {}", record.topic),
            SpanKind::Consumer,
            received("process", record, group),
        )
        .with_links(creation.map(Link::with_context).into_iter().collect())
    })
}

/// A transaction that serves several calls or messages at once.
pub fn transaction<'a>(
    service: &'static str,
    served: impl ExactSizeIterator<Item = &'a TraceContext>,
) -> Span {
    if !is_on() {
        return Span(None);
    }
    let count = served.len();
    let sampled = served.map(TraceContext::span).filter(|span| span.is_sampled());
    let links: Vec<Link> = sampled.cloned().map(Link::with_context).collect();
    if links.is_empty() {
        return Span(None);
    }
    Span::start(&TraceContext::default(), || {
        let attributes = vec![
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.namespace", service),
            KeyValue::new("db.operation.batch.size", i64::try_from(count).unwrap_or(i64::MAX)),
        ];
        builder(format!("transaction {service}"), SpanKind::Client, attributes).with_links(links)
    })
}

fn is_old(record: &Record, now: chrono::DateTime<chrono::Utc>) -> bool {
    let time = Headers(&record.headers).text("ce_time");
    let time = time.and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    time.is_some_and(|time| now.signed_duration_since(time) > LONGEST_TRACE)
}

fn builder(
    name: impl Into<std::borrow::Cow<'static, str>>,
    kind: SpanKind,
    attributes: Vec<KeyValue>,
) -> SpanBuilder {
    SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes)
}

fn called(method: &str) -> Vec<KeyValue> {
    vec![KeyValue::new("rpc.system.name", "grpc"), KeyValue::new("rpc.method", text(method))]
}

fn messaging(operation: &'static str, topic: impl Into<Value>) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(12);
    attributes.push(KeyValue::new("messaging.system", "kafka"));
    attributes.push(KeyValue::new("messaging.operation.name", operation));
    attributes.push(KeyValue::new("messaging.destination.name", topic));
    if matches!(operation, "create" | "process") {
        attributes.push(KeyValue::new("messaging.operation.type", operation));
    }
    attributes
}

/// As far as the headers can be read at all.
fn received(operation: &'static str, record: &Record, group: &'static str) -> Vec<KeyValue> {
    let mut attributes = messaging(operation, text(&record.topic));
    attributes.push(KeyValue::new("messaging.consumer.group.name", group));
    attributes.push(KeyValue::new(
        "messaging.destination.partition.id",
        text(&record.partition.to_string()),
    ));
    attributes.push(KeyValue::new("messaging.kafka.offset", record.offset));
    let names = [
        ("ce_id", "cloudevents.event_id"),
        ("ce_type", "cloudevents.event_type"),
        ("ce_correlationid", CONVERSATION),
    ];
    for (header, attribute) in names {
        if let Some(value) = Headers(&record.headers).text(header) {
            attributes.push(KeyValue::new(attribute, text(value)));
        }
    }
    attributes
}

fn conversation(order_id: Uuid) -> KeyValue {
    KeyValue::new(CONVERSATION, uuid(order_id))
}

fn uuid(id: Uuid) -> Value {
    text(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

fn text(value: &str) -> Value {
    value.to_owned().into()
}

/// As gRPC writes it: INVALID_ARGUMENT.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
