//! Spans on the wire, written in one pass from what the SDK hands over. The published exporter copies every span, converts the
//! copy and encodes that, which costs more than everything else about a span together.
//! <https://github.com/open-telemetry/opentelemetry-proto/blob/v1.10.0/opentelemetry/proto/trace/v1/trace.proto>

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::{
    Array, KeyValue, Value,
    trace::{Event, Link, SpanContext, SpanId, SpanKind, Status},
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use prost::encoding::{WireType, encode_key, encode_varint};

/// Says in a span's flags that it is known whether its parent was remote; and that it was.
const KNOWS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Adds one span to the `spans` of a `ScopeSpans`.
pub(crate) fn span(out: &mut Vec<u8>, span: &SpanData) {
    message(out, 2, |out| {
        bytes(out, 1, &span.span_context.trace_id().to_bytes());
        bytes(out, 2, &span.span_context.span_id().to_bytes());
        text(out, 3, &span.span_context.trace_state().header());
        if span.parent_span_id != SpanId::INVALID {
            bytes(out, 4, &span.parent_span_id.to_bytes());
        }
        text(out, 5, &span.name);
        number(out, 6, kind(&span.span_kind));
        time(out, 7, span.start_time);
        time(out, 8, span.end_time);
        attributes(out, 9, &span.attributes);
        number(out, 10, span.dropped_attributes_count.into());
        span.events.iter().for_each(|event| message(out, 11, |out| self::event(out, event)));
        number(out, 12, span.events.dropped_count.into());
        span.links.iter().for_each(|link| message(out, 13, |out| self::link(out, link)));
        number(out, 14, span.links.dropped_count.into());
        message(out, 15, |out| status(out, &span.status));
        flags(out, 16, &span.span_context, span.parent_span_is_remote);
    });
}

/// A whole `ExportTraceServiceRequest`, as what goes before its spans, which end it.
pub(crate) fn request(resource: &Resource, scope: &str, spans: usize) -> Vec<u8> {
    let mut above = Vec::new();
    message(&mut above, 1, |out| {
        for (key, value) in resource.iter() {
            message(out, 1, |out| attribute(out, key.as_str(), value));
        }
    });
    text(&mut above, 3, resource.schema_url().unwrap_or_default());
    let mut scope_spans = Vec::new();
    message(&mut scope_spans, 1, |out| text(out, 1, scope));
    // Two lengths that count what follows here.
    open(&mut above, 2, scope_spans.len() + spans);
    let mut request = Vec::new();
    open(&mut request, 1, above.len() + scope_spans.len() + spans);
    request.extend(above);
    request.extend(scope_spans);
    request
}

fn event(out: &mut Vec<u8>, event: &Event) {
    time(out, 1, event.timestamp);
    text(out, 2, &event.name);
    attributes(out, 3, &event.attributes);
    number(out, 4, event.dropped_attributes_count.into());
}

fn link(out: &mut Vec<u8>, link: &Link) {
    bytes(out, 1, &link.span_context.trace_id().to_bytes());
    bytes(out, 2, &link.span_context.span_id().to_bytes());
    text(out, 3, &link.span_context.trace_state().header());
    attributes(out, 4, &link.attributes);
    number(out, 5, link.dropped_attributes_count.into());
    flags(out, 6, &link.span_context, link.span_context.is_remote());
}

fn status(out: &mut Vec<u8>, status: &Status) {
    match status {
        Status::Unset => {}
        Status::Ok => number(out, 3, 1),
        Status::Error { description } => {
            text(out, 2, description);
            number(out, 3, 2);
        }
    }
}

fn kind(kind: &SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn flags(out: &mut Vec<u8>, field: u32, context: &SpanContext, is_remote: bool) {
    let remote = if is_remote { KNOWS_REMOTE | IS_REMOTE } else { KNOWS_REMOTE };
    encode_key(field, WireType::ThirtyTwoBit, out);
    out.extend((u32::from(context.trace_flags().to_u8()) | remote).to_le_bytes());
}

fn attributes(out: &mut Vec<u8>, field: u32, attributes: &[KeyValue]) {
    for KeyValue { key, value, .. } in attributes {
        message(out, field, |out| attribute(out, key.as_str(), value));
    }
}

fn attribute(out: &mut Vec<u8>, key: &str, value: &Value) {
    text(out, 1, key);
    message(out, 2, |out| self::value(out, value));
}

/// One of a union: written also where it is empty.
fn value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(value) => bytes(out, 1, value.as_str().as_bytes()),
        Value::Bool(value) => boolean(out, *value),
        Value::I64(value) => integer(out, *value),
        Value::F64(value) => double(out, *value),
        Value::Array(array) => message(out, 5, |out| elements(out, array)),
        // What a later version of the API adds; the OTLP crate has no value for it either.
        _ => {}
    }
}

fn elements(out: &mut Vec<u8>, array: &Array) {
    fn each<T>(out: &mut Vec<u8>, values: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
        values.iter().for_each(|value| message(out, 1, |out| write(out, value)));
    }
    match array {
        Array::Bool(values) => each(out, values, |out, value| boolean(out, *value)),
        Array::I64(values) => each(out, values, |out, value| integer(out, *value)),
        Array::F64(values) => each(out, values, |out, value| double(out, *value)),
        Array::String(values) => {
            each(out, values, |out, value| bytes(out, 1, value.as_str().as_bytes()));
        }
        _ => {}
    }
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    encode_key(2, WireType::Varint, out);
    out.push(value.into());
}

fn integer(out: &mut Vec<u8>, value: i64) {
    encode_key(3, WireType::Varint, out);
    encode_varint(value.cast_unsigned(), out);
}

fn double(out: &mut Vec<u8>, value: f64) {
    encode_key(4, WireType::SixtyFourBit, out);
    out.extend(value.to_le_bytes());
}

fn time(out: &mut Vec<u8>, field: u32, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    encode_key(field, WireType::SixtyFourBit, out);
    out.extend((since.as_nanos() as u64).to_le_bytes());
}

/// A number that is zero where it is left out.
fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        encode_key(field, WireType::Varint, out);
        encode_varint(value, out);
    }
}

/// A text that is empty where it is left out.
fn text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        bytes(out, field, text.as_bytes());
    }
}

fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    open(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// The beginning of what is so many bytes long.
fn open(out: &mut Vec<u8>, field: u32, len: usize) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// A message of a length that is known when it is written: most are shorter than the 128 bytes whose length takes one byte,
/// and the longer ones are moved by another one.
fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    encode_key(field, WireType::LengthDelimited, out);
    let start = out.len();
    out.push(0);
    write(out);
    let mut len = [0; 10];
    let mut rest = &mut len[..];
    encode_varint((out.len() - start - 1) as u64, &mut rest);
    let width = 10 - rest.len();
    out.splice(start..=start, len.into_iter().take(width));
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use opentelemetry::{
        Context,
        trace::{
            Span as _, SpanBuilder, TraceContextExt as _, TraceFlags, TraceId, TraceState,
            TracerProvider as _,
        },
    };
    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest, trace::v1 as published,
    };
    use opentelemetry_sdk::{
        error::OTelSdkResult,
        trace::{SdkTracerProvider, SpanExporter},
    };
    use proptest::{collection::vec, prelude::*};
    use prost::Message as _;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().expect("not poisoned").extend(batch);
            Ok(())
        }
    }

    #[derive(Debug, Clone)]
    struct Described {
        name: String,
        kind: SpanKind,
        parent: Option<SpanContext>,
        start: u64,
        lasted: u64,
        attributes: Vec<KeyValue>,
        events: Vec<(String, Vec<KeyValue>)>,
        links: Vec<(SpanContext, Vec<KeyValue>)>,
        status: Status,
    }

    /// What the SDK makes of it.
    fn made(described: Described) -> SpanData {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(kept.clone())
            .with_max_links_per_span(3)
            .with_max_events_per_span(3)
            .with_max_attributes_per_span(5)
            .build();
        let above = match described.parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let start = UNIX_EPOCH + Duration::from_nanos(described.start);
        let links = described.links.into_iter();
        let mut span = SpanBuilder::from_name(described.name)
            .with_kind(described.kind)
            .with_start_time(start)
            .with_attributes(described.attributes)
            .with_links(links.map(|(span, attributes)| Link::new(span, attributes, 2)).collect())
            .start_with_context(&provider.tracer("it"), &above);
        for (name, attributes) in described.events {
            span.add_event_with_timestamp(name, start, attributes);
        }
        span.set_status(described.status);
        span.end_with_timestamp(start + Duration::from_nanos(described.lasted));
        kept.0.lock().expect("not poisoned").remove(0)
    }

    fn context() -> impl Strategy<Value = SpanContext> {
        let state = prop_oneof![
            Just(TraceState::default()),
            Just(TraceState::from_key_value([("a", "b"), ("c", "d")]).expect("valid")),
        ];
        (1..u128::MAX, 1..u64::MAX, any::<bool>(), state).prop_map(
            |(trace, span, remote, state)| {
                let (trace, span) = (TraceId::from(trace), SpanId::from(span));
                SpanContext::new(trace, span, TraceFlags::SAMPLED, remote, state)
            },
        )
    }

    fn attribute() -> impl Strategy<Value = KeyValue> {
        let value = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
            ".{0,200}".prop_map(Value::from),
            vec(any::<bool>(), 0..4).prop_map(|values| Value::Array(Array::Bool(values))),
            vec(any::<i64>(), 0..40).prop_map(|values| Value::Array(Array::I64(values))),
            vec(-1.0..1.0, 0..4).prop_map(|values| Value::Array(Array::F64(values))),
            vec(".{0,9}", 0..4).prop_map(|values| {
                Value::Array(Array::String(values.into_iter().map(Into::into).collect()))
            }),
        ];
        (".{0,9}", value).prop_map(|(key, value): (_, Value)| KeyValue::new(key, value))
    }

    fn described() -> impl Strategy<Value = Described> {
        let kind = prop_oneof![
            Just(SpanKind::Internal),
            Just(SpanKind::Server),
            Just(SpanKind::Client),
            Just(SpanKind::Producer),
            Just(SpanKind::Consumer),
        ];
        let status =
            prop_oneof![Just(Status::Unset), Just(Status::Ok), ".{0,9}".prop_map(Status::error)];
        let about = (".{0,300}", kind, proptest::option::of(context()), status);
        let within = (
            vec(attribute(), 0..8),
            vec((".{0,9}", vec(attribute(), 0..3)), 0..5),
            vec((context(), vec(attribute(), 0..3)), 0..5),
        );
        let times = (0..u64::MAX / 4, 0..u64::MAX / 4);
        (about, within, times).prop_map(|(about, within, (start, lasted))| {
            let (name, kind, parent, status) = about;
            let (attributes, events, links) = within;
            Described { name, kind, parent, start, lasted, attributes, events, links, status }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_what_the_published_exporter_sends(
            described in vec(described(), 0..4)
        ) {
            let spans: Vec<_> = described.into_iter().map(made).collect();
            let mut body = Vec::new();
            spans.iter().for_each(|span| self::span(&mut body, span));
            let resource = Resource::builder_empty()
                .with_attributes([KeyValue::new("service.name", "orders"), KeyValue::new("n", 7)])
                .build();
            let mut request = request(&resource, "settle", body.len());
            request.extend(body);

            let mut read = ExportTraceServiceRequest::decode(&request[..])?;
            let mut of_resource = read.resource_spans.remove(0);
            prop_assert!(read.resource_spans.is_empty());
            let mut attributes = of_resource.resource.unwrap_or_default().attributes;
            attributes.sort_by(|a, b| a.key.cmp(&b.key));
            let keys: Vec<_> = attributes.iter().map(|attribute| &attribute.key[..]).collect();
            prop_assert_eq!(keys, ["n", "service.name"]);
            let of_scope = of_resource.scope_spans.remove(0);
            prop_assert!(of_resource.scope_spans.is_empty());
            prop_assert_eq!(of_scope.scope.unwrap_or_default().name, "settle");
            let published: Vec<published::Span> = spans.into_iter().map(Into::into).collect();
            prop_assert_eq!(of_scope.spans, published);
        }
    }
}
