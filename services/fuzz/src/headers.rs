//! Headers as Kafka hands them over: none make the envelope panic, what is wrong is named, and what follows from a message
//! that was understood is understood too, with the same order, path and trace. An input has a line for each header,
//! `name: value`; one without a colon has no value.

use chassis::{
    cause::{Cause, Coordination},
    envelope::{Envelope, EnvelopeError, Headers},
    outbox::Outgoing,
    telemetry::TraceContext,
};
use chrono::DateTime;
use proto::{event::Event, orders::v1::OrderConfirmed};
use tonic::metadata::MetadataMap;

type Received = Vec<(String, Option<Vec<u8>>)>;

/// What must hold.
pub fn check(input: &[u8]) {
    let headers: Received = input.split(|&byte| byte == b'\n').filter_map(header).collect();
    call(&headers);
    match read(&headers) {
        Ok(envelope) => event(&envelope),
        Err(EnvelopeError::Missing(name) | EnvelopeError::Wrong { name, .. }) => {
            assert!(name.starts_with("ce_") || name == "content-type", "{name}");
        }
    }
}

/// The envelope of a message with these headers.
pub(crate) fn read(headers: &[(String, Option<Vec<u8>>)]) -> Result<Envelope, EnvelopeError> {
    Envelope::parse(Headers(headers))
}

/// The headers of an event that was emitted, as whoever consumes it gets them.
pub(crate) fn sent(event: &Outgoing) -> Received {
    let headers: Result<std::collections::BTreeMap<String, String>, _> =
        serde_json::from_str(&event.headers);
    let headers = headers.unwrap_or_default().into_iter();
    headers.map(|(name, value)| (name, Some(value.into_bytes()))).collect()
}

fn header(line: &[u8]) -> Option<(String, Option<Vec<u8>>)> {
    let mut parts = line.splitn(2, |&byte| byte == b':');
    let name = String::from_utf8(parts.next()?.to_vec()).ok()?;
    Some((name, parts.next().map(|value| value.strip_prefix(b" ").unwrap_or(value).to_vec())))
}

/// The same headers on a call: whatever trace they tell of can go on to another service.
fn call(headers: &Received) {
    let mut received = http::HeaderMap::new();
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes());
        let value = http::HeaderValue::from_bytes(value.as_deref().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            received.insert(name, value);
        }
    }
    let trace = TraceContext::from_metadata(&received);
    let mut passed_on = MetadataMap::new();
    trace.inject(&mut passed_on);
    assert_eq!(TraceContext::from_metadata(&passed_on.into_headers()), trace, "{received:?}");
}

fn event(envelope: &Envelope) {
    let path = envelope.path.to_string();
    assert_eq!(path.parse().as_ref(), Ok(&envelope.path), "{path}");

    let cause = Cause::message("orders", envelope, DateTime::UNIX_EPOCH);
    let order_id = envelope.event_id.to_string();
    let event = OrderConfirmed { order_id, customer: None };
    let emitted = cause.emit(&event);
    let Ok(emitted) = emitted else { panic!("{emitted:?}") };
    assert_eq!((emitted.topic, emitted.key.as_str()), (OrderConfirmed::TOPIC, event.key()));
    let follows = read(&sent(&emitted));
    let Ok(follows) = follows else { panic!("{follows:?} after {envelope:?}") };
    assert_eq!(follows.causation_id, Some(envelope.event_id));
    assert_eq!(follows.correlation_id, envelope.correlation_id);
    assert_eq!(follows.coordination, envelope.coordination);
    assert_eq!(follows.trace, envelope.trace);
    assert_eq!(follows.path, cause.path);
    assert!(follows.path.contains(envelope.event_id), "{}", follows.path);
    let commanded = envelope.coordination == Some(Coordination::Orchestration);
    assert_eq!(Coordination::is_commanded(follows.coordination), commanded);
}
