//! The CloudEvents 1.0 headers around every payload (Kafka binary mode). Written by hand: the Rust SDK lags behind the
//! Kafka client this project uses.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    cause::{CausalPath, Cause, Coordination},
    telemetry::TraceContext,
};

/// Whether a payload is ProtoJSON or binary protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`: standard ProtoJSON.
    Json,
    /// `application/protobuf`.
    Protobuf,
}

/// What the headers of a received message say.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// `ce_id`: the event's id, a UUID in this system.
    pub event_id: Uuid,
    /// `ce_type`: the full protobuf name.
    pub event_type: String,
    /// `ce_source`: the service that sent it.
    pub source: String,
    /// `ce_time`: when it came about.
    pub time: DateTime<Utc>,
    /// `ce_correlationid`: the order.
    pub correlation_id: Option<Uuid>,
    /// `ce_causationid`: the event, call or timer that caused it.
    pub causation_id: Option<Uuid>,
    /// `ce_causalpath`: the causes behind it.
    pub path: CausalPath,
    /// `ce_coordination`: how its order is coordinated.
    pub coordination: Option<Coordination>,
    /// `traceparent` and its companions.
    pub trace: TraceContext,
    /// `content-type`.
    pub content_type: ContentType,
}

/// Why headers cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A required header is absent.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// A header is not what it should be.
    #[error("the header {name} is wrong: {why}")]
    Wrong {
        /// The header.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// The headers of a message as Kafka hands them over; the last of equal names counts.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a>(pub &'a [(String, Option<Vec<u8>>)]);

impl<'a> Headers<'a> {
    /// A header's text, if it is there and is text. One with a NUL is none: Postgres could not keep it.
    pub fn text(self, name: &str) -> Option<&'a str> {
        let (_, value) = self.0.iter().rev().find(|(header, _)| header == name)?;
        let text = value.as_deref().and_then(|bytes| str::from_utf8(bytes).ok());
        text.filter(|text| !text.contains('\0'))
    }

    fn required(self, name: &'static str) -> Result<&'a str, EnvelopeError> {
        self.text(name).ok_or(EnvelopeError::Missing(name))
    }

    fn optional<T>(
        self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, EnvelopeError> {
        self.text(name)
            .map(|text| parse(text).map_err(|why| EnvelopeError::Wrong { name, why }))
            .transpose()
    }
}

impl Envelope {
    /// Reads the headers. Errors: the first one that is missing or wrong.
    pub fn parse(headers: Headers<'_>) -> Result<Self, EnvelopeError> {
        let uuid = |text: &str| Uuid::parse_str(text).map_err(|error| error.to_string());
        if headers.required("ce_specversion")? != "1.0" {
            return Err(EnvelopeError::Wrong {
                name: "ce_specversion",
                why: "only 1.0 is understood".to_owned(),
            });
        }
        let time = headers.required("ce_time")?;
        let event_id = headers.required("ce_id")?;
        Ok(Self {
            event_id: uuid(event_id).map_err(|why| EnvelopeError::Wrong { name: "ce_id", why })?,
            event_type: headers.required("ce_type")?.to_owned(),
            source: headers.required("ce_source")?.to_owned(),
            time: DateTime::parse_from_rfc3339(time)
                .map_err(|error| EnvelopeError::Wrong { name: "ce_time", why: error.to_string() })?
                .to_utc(),
            correlation_id: headers.optional("ce_correlationid", uuid)?,
            causation_id: headers.optional("ce_causationid", uuid)?,
            path: headers.optional("ce_causalpath", str::parse)?.unwrap_or_default(),
            coordination: headers.optional("ce_coordination", str::parse)?,
            trace: TraceContext::from_headers(headers),
            content_type: headers
                .optional("content-type", parse_content_type)?
                .unwrap_or(ContentType::Json),
        })
    }

    /// The type without its package: OrderPlaced.
    pub fn short_type(&self) -> &str {
        short_type(&self.event_type)
    }
}

/// A type without its package: `OrderPlaced` of `shop.orders.v1.OrderPlaced`.
pub fn short_type(full: &str) -> &str {
    full.rsplit('.').next().unwrap_or(full)
}

fn parse_content_type(text: &str) -> Result<ContentType, String> {
    match text.split(';').next().unwrap_or(text).trim() {
        "application/json" => Ok(ContentType::Json),
        "application/protobuf" | "application/x-protobuf" => Ok(ContentType::Protobuf),
        other => Err(format!("{other:?} is neither application/json nor application/protobuf")),
    }
}

/// The headers of an event that follows from a cause, as the outbox keeps them.
pub(crate) fn headers(
    cause: &Cause,
    event_type: &str,
    event_id: Uuid,
    key: &str,
    trace: &TraceContext,
) -> String {
    let mut headers = Map::new();
    let mut put = |name: &str, value: String| headers.insert(name.to_owned(), Value::String(value));
    put("ce_specversion", "1.0".to_owned());
    put("ce_id", event_id.to_string());
    put("ce_type", event_type.to_owned());
    put("ce_source", cause.service.to_owned());
    put("ce_subject", key.to_owned());
    put("ce_time", cause.now.to_rfc3339_opts(SecondsFormat::Micros, true));
    put("ce_partitionkey", key.to_owned());
    put("ce_causationid", cause.id.to_string());
    put("ce_causalpath", cause.path.to_string());
    put("content-type", "application/json".to_owned());
    if let Some(order_id) = cause.correlation_id {
        put("ce_correlationid", order_id.to_string());
    }
    if let Some(coordination) = cause.coordination {
        put("ce_coordination", coordination.as_str().to_owned());
    }
    for (name, value) in trace.headers() {
        put(name, value);
    }
    Value::Object(headers).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn received(cause: &Cause) -> Vec<(String, Option<Vec<u8>>)> {
        let text =
            headers(cause, "shop.orders.v1.OrderPlaced", Uuid::now_v7(), "key", &cause.trace);
        let Ok(Value::Object(map)) = serde_json::from_str(&text) else { panic!("{text}") };
        map.into_iter()
            .map(|(name, value)| (name, value.as_str().map(|text| text.as_bytes().to_vec())))
            .collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let order_id = Uuid::now_v7();
        let cause = Cause::local(
            "orders",
            "PlaceOrder",
            Uuid::now_v7(),
            TraceContext::random(),
            clock::now(),
        )
        .of_order(order_id, Coordination::Orchestration);
        let envelope = Envelope::parse(Headers(&received(&cause))).unwrap();
        assert_eq!(envelope.short_type(), "OrderPlaced");
        assert_eq!(envelope.correlation_id, Some(order_id));
        assert_eq!(envelope.causation_id, Some(cause.id));
        assert_eq!(envelope.path, cause.path);
        assert_eq!(envelope.time, cause.now);
        assert_eq!(envelope.coordination, Some(Coordination::Orchestration));
        assert_eq!(envelope.trace, cause.trace);
    }

    #[test]
    fn a_header_that_is_missing_or_wrong_is_named() {
        let cause = Cause::local(
            "orders",
            "PlaceOrder",
            Uuid::now_v7(),
            TraceContext::random(),
            clock::now(),
        );
        let mut headers = received(&cause);
        headers.retain(|(name, _)| name != "ce_id");
        assert_eq!(
            Envelope::parse(Headers(&headers)).unwrap_err(),
            EnvelopeError::Missing("ce_id")
        );
        headers.push(("ce_id".to_owned(), Some(b"not a uuid".to_vec())));
        let error = Envelope::parse(Headers(&headers)).unwrap_err();
        assert!(matches!(error, EnvelopeError::Wrong { name: "ce_id", .. }), "{error}");
    }
}
