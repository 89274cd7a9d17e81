//! The trace context that travels with calls and events: the span in which something was created, and the baggage that
//! may go along. The relay copies it unchanged.

use std::sync::{Arc, OnceLock};

use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataKey, MetadataMap};
use uuid::Uuid;

use crate::envelope::Headers;

/// The baggage entry that tells a called service which order a call is about; it has the attribute's name.
pub(crate) const CONVERSATION: &str = "messaging.message.conversation_id";

/// The names of the baggage entries that go on.
static ALLOWED: OnceLock<Vec<String>> = OnceLock::new();

/// The W3C trace context of a call or an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    span: SpanContext,
    baggage: Option<Arc<str>>,
}

impl Default for TraceContext {
    /// Of nothing: whatever happens in it begins a trace of its own.
    fn default() -> Self {
        Self { span: SpanContext::NONE, baggage: None }
    }
}

impl TraceContext {
    /// Of a received message.
    pub fn from_headers(headers: Headers<'_>) -> Self {
        Self::from_lookup(|name| headers.text(name), allowed())
    }

    /// Of a call.
    pub fn from_metadata(headers: &http::HeaderMap) -> Self {
        Self::from_lookup(|name| headers.get(name)?.to_str().ok(), allowed())
    }

    /// A new trace, where none came along and none is recorded. Nobody records what follows from it either: it would
    /// hang from a span that does not exist.
    pub fn random() -> Self {
        let (trace, span) = (Uuid::new_v4().as_u128(), Uuid::new_v4().as_u64_pair().0);
        let (trace, span) = (TraceId::from(trace), SpanId::from(span));
        Self::of(SpanContext::new(trace, span, TraceFlags::default(), true, TraceState::NONE))
    }

    pub(crate) fn of(span: SpanContext) -> Self {
        Self { span, baggage: None }
    }

    /// The same baggage, in another span.
    pub(crate) fn within(&self, span: SpanContext) -> Self {
        Self { span, baggage: self.baggage.clone() }
    }

    /// The trace's id, 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<String> {
        self.span.is_valid().then(|| self.span.trace_id().to_string())
    }

    /// Sends it along with a call to another service.
    pub fn inject(&self, metadata: &mut MetadataMap) {
        for (name, value) in self.fields() {
            if let (Ok(name), Ok(value)) = (MetadataKey::from_bytes(name.as_bytes()), value.parse())
            {
                metadata.insert(name, value);
            }
        }
    }

    /// The headers that carry it, the CloudEvents one included.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.fields().chain(self.traceparent().map(|value| ("ce_traceparent", value)))
    }

    pub(crate) fn span(&self) -> &SpanContext {
        &self.span
    }

    pub(crate) fn context(&self) -> Context {
        // A span that is none would count as one that is not sampled.
        match self.span.is_valid() {
            true => Context::new().with_remote_span_context(self.span.clone()),
            false => Context::new(),
        }
    }

    fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        let state = Some(self.span.trace_state().header()).filter(|state| !state.is_empty());
        let baggage = self.baggage.as_deref().map(str::to_owned);
        [("traceparent", self.traceparent()), ("tracestate", state), ("baggage", baggage)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
    }

    fn traceparent(&self) -> Option<String> {
        let span = &self.span;
        let flags = span.trace_flags().to_u8();
        span.is_valid().then(|| format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()))
    }

    fn from_lookup<'a>(lookup: impl Fn(&str) -> Option<&'a str>, allowed: &[String]) -> Self {
        let baggage = if allowed.is_empty() { None } else { lookup("baggage") };
        // A malformed traceparent is none at all, as W3C has it.
        let given = Given { parent: lookup("traceparent"), state: lookup("tracestate") };
        let context = TraceContextPropagator::new().extract(&given);
        Self {
            span: context.span().span_context().clone(),
            baggage: baggage.and_then(|text| kept(text, allowed)),
        }
    }
}

struct Given<'a> {
    parent: Option<&'a str>,
    state: Option<&'a str>,
}

impl Extractor for Given<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.parent,
            "tracestate" => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Lets these baggage entries go on, from now on.
pub(crate) fn allow_baggage(names: &[String]) {
    // Once per process; a second service in it changes nothing.
    let _ = ALLOWED.set(names.to_vec());
}

fn allowed() -> &'static [String] {
    ALLOWED.get().map_or(&[], Vec::as_slice)
}

/// Tells the called service which order the call is about.
pub(crate) fn add_conversation(metadata: &mut MetadataMap, order_id: Uuid) {
    let already = metadata.get("baggage").and_then(|value| value.to_str().ok());
    let entry = format!("{CONVERSATION}={order_id}");
    let baggage = already.map_or(entry.clone(), |already| format!("{already},{entry}"));
    if let Ok(value) = baggage.parse() {
        metadata.insert("baggage", value);
    }
}

/// The value of a baggage entry of a call.
pub(crate) fn entry<'a>(headers: &'a http::HeaderMap, name: &str) -> Option<&'a str> {
    let text = headers.get("baggage")?.to_str().ok()?;
    let mut entries = text.split(',').filter_map(|member| member.split_once('='));
    let (_, value) = entries.find(|(key, _)| key.trim() == name)?;
    value.split(';').next().map(str::trim)
}

/// What may go on of a baggage header; None when nothing may.
fn kept(text: &str, allowed: &[String]) -> Option<Arc<str>> {
    let is_allowed = |member: &&str| {
        let name = member.split('=').next().unwrap_or_default().trim();
        allowed.iter().any(|allowed| allowed == name)
    };
    let kept: Vec<&str> = text.split(',').map(str::trim).filter(is_allowed).collect();
    (!kept.is_empty()).then(|| kept.join(",").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_survives_its_headers() {
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let headers = [
            ("traceparent".to_owned(), Some(given.as_bytes().to_vec())),
            ("tracestate".to_owned(), Some(b"vendor=1".to_vec())),
        ];
        let context = TraceContext::from_headers(Headers(&headers));
        assert_eq!(context.trace_id().as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        let written: Vec<_> = context.headers().collect();
        let expected =
            [("traceparent", given), ("tracestate", "vendor=1"), ("ce_traceparent", given)];
        assert_eq!(written, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn what_is_made_up_is_not_recorded_by_anybody() {
        assert!(TraceContext::random().span().is_valid());
        assert!(!TraceContext::random().span().is_sampled());
    }

    #[test]
    fn only_named_baggage_goes_on() {
        let allowed = ["tenant".to_owned(), "channel".to_owned()];
        let given = "tenant=7;secret=no, password=x,channel = web";
        assert_eq!(kept(given, &allowed).as_deref(), Some("tenant=7;secret=no,channel = web"));
        assert_eq!(kept("password=x", &allowed), None);
        let received = TraceContext::from_lookup(
            |name| (name == "baggage").then_some("tenant=7,secret=no"),
            &allowed,
        );
        let caused = received.within(TraceContext::random().span().clone());
        let sent = caused.headers().find(|(name, _)| *name == "baggage");
        assert_eq!(sent, Some(("baggage", "tenant=7".to_owned())));
        assert_eq!(kept(given, &[]), None);
    }

    #[test]
    fn a_baggage_entry_is_found_by_its_name() {
        let mut headers = http::HeaderMap::new();
        headers.insert("baggage", http::HeaderValue::from_static("a=1, b=2;p=3"));
        assert_eq!((entry(&headers, "b"), entry(&headers, "c")), (Some("2"), None));
    }
}
