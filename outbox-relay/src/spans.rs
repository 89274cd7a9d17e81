//! What the relay adds to an event's trace: how long its row waited, and how long sending it took. The spans are made
//! when Kafka has the event, of what is known by then, and only where a collector is configured and the event's own
//! trace is sampled. The trace context in the event's headers goes on unchanged.

use std::{
    cell::LazyCell,
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};
use opentelemetry::{
    Context, KeyValue, Value,
    propagation::{Extractor, TextMapPropagator},
    trace::{Link, Span as _, SpanBuilder, SpanContext, SpanKind, TraceContextExt},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracer};
use otlp::{Room, Spans};
use rdkafka::{
    Message,
    message::{BorrowedMessage, Headers},
};

use crate::Error;

/// An older event begins a trace of its own, with a link: a trace is not to last for hours.
const LONGEST_TRACE: Duration = Duration::from_secs(15 * 60);

/// The last spans are given up when the collector takes longer.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(3);

static DROPPED: AtomicU64 = AtomicU64::new(0);
static RECORDER: OnceLock<(SdkTracer, Room)> = OnceLock::new();

/// The spans of this process, on their way to a collector.
#[derive(Debug)]
pub struct Tracing(Spans);

impl Tracing {
    /// Records spans from now on, for the OTLP collector at `endpoint`. Call it inside the Tokio runtime.
    ///
    /// # Errors
    /// When the endpoint is not a URL, or a variable that says how it is called cannot be read.
    pub fn start(endpoint: &str) -> Result<Self, Error> {
        let spans = Spans::start("outbox-relay", endpoint, |count| {
            DROPPED.fetch_add(count, Relaxed);
        })?;
        // Once per process: a second relay in it records with the first one's.
        let _ = RECORDER.set((spans.tracer(), spans.room()));
        Ok(Self(spans))
    }

    /// Sends what is still to be sent, for at most some seconds.
    pub async fn shutdown(self) {
        self.0.shutdown(LONGEST_SHUTDOWN).await;
    }
}

/// How many spans nobody has collected in time.
pub fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}

/// When the rows on their way were written and sent, by the ordinals under which their deliveries are reported.
/// Empty where no spans are recorded.
#[derive(Debug, Default)]
pub(crate) struct Underway(Mutex<HashMap<usize, (SystemTime, SystemTime)>>);

impl Underway {
    /// The row is about to be handed to Kafka's client.
    pub(crate) fn sends(&self, ordinal: usize, created_at: DateTime<Utc>) {
        if RECORDER.get().is_some() {
            self.lock().insert(ordinal, (created_at.into(), opentelemetry::time::now()));
        }
    }

    /// Kafka has it.
    pub(crate) fn delivered(&self, ordinal: usize, message: &BorrowedMessage<'_>) {
        let Some((tracer, room)) = RECORDER.get() else { return };
        let Some((created_at, sent_at)) = self.lock().remove(&ordinal) else { return };
        let Some(headers) = message.headers() else { return };
        let created = TraceContextPropagator::new().extract(&Given(headers));
        let created = created.span().span_context().clone();
        if created.is_sampled() {
            let delivered_at = opentelemetry::time::now();
            let way =
                Way { message, headers, created: &created, created_at, sent_at, delivered_at };
            way.draw(tracer, room);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, (SystemTime, SystemTime)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an event got from its row to Kafka.
struct Way<'a, H> {
    message: &'a BorrowedMessage<'a>,
    headers: &'a H,
    created: &'a SpanContext,
    created_at: SystemTime,
    sent_at: SystemTime,
    delivered_at: SystemTime,
}

impl<H: Headers> Way<'_, H> {
    fn draw(&self, tracer: &SdkTracer, room: &Room) {
        let age = self.delivered_at.duration_since(self.created_at).unwrap_or_default();
        let (above, common) = (Context::new(), LazyCell::new(|| self.attributes()));
        if age > LONGEST_TRACE {
            // The wait is too long to draw.
            end(tracer, room, &above, self.delivered_at, || self.sending(common.to_vec()));
        } else {
            let above = above.with_remote_span_context(self.created.clone());
            end(tracer, room, &above, self.sent_at, || self.waiting(common.to_vec()));
            end(tracer, room, &above, self.delivered_at, || self.sending(common.to_vec()));
        }
    }

    fn waiting(&self, attributes: Vec<KeyValue>) -> SpanBuilder {
        SpanBuilder::from_name("outbox wait")
            .with_kind(SpanKind::Internal)
            .with_start_time(self.created_at.min(self.sent_at))
            .with_attributes(attributes)
    }

    fn sending(&self, mut attributes: Vec<KeyValue>) -> SpanBuilder {
        let message = self.message;
        attributes.extend([
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new(
                "messaging.destination.partition.id",
                text(&message.partition().to_string()),
            ),
            KeyValue::new("messaging.kafka.offset", message.offset()),
        ]);
        SpanBuilder::from_name(format!("send {}", message.topic()))
            .with_kind(SpanKind::Client)
            .with_start_time(self.sent_at)
            .with_attributes(attributes)
            .with_links(vec![Link::with_context(self.created.clone())])
    }

    /// What both spans say.
    fn attributes(&self) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(9);
        attributes.push(KeyValue::new("messaging.system", "kafka"));
        attributes.push(KeyValue::new("messaging.destination.name", text(self.message.topic())));
        for header in self.headers.iter() {
            let attribute = match header.key {
                "ce_id" => "cloudevents.event_id",
                "ce_type" => "cloudevents.event_type",
                "ce_correlationid" => "messaging.message.conversation_id",
                _ => continue,
            };
            if let Some(value) = header.value.and_then(|value| str::from_utf8(value).ok()) {
                attributes.push(KeyValue::new(attribute, text(value)));
            }
        }
        attributes
    }
}

fn text(value: &str) -> Value {
    value.to_owned().into()
}

/// A whole span, if there is room for it and the sampler wants it.
fn end(
    tracer: &SdkTracer,
    room: &Room,
    above: &Context,
    ended_at: SystemTime,
    build: impl FnOnce() -> SpanBuilder,
) {
    if room.is_left() {
        build().start_with_context(tracer, above).end_with_timestamp(ended_at);
    }
}

struct Given<'a, H>(&'a H);

impl<H: Headers> Extractor for Given<'_, H> {
    fn get(&self, key: &str) -> Option<&str> {
        let header = self.0.iter().find(|header| header.key == key)?;
        str::from_utf8(header.value?).ok()
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}
