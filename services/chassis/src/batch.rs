//! A batch on its way through the inbox: the messages as they came in, and what deciding them leaves behind.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    envelope::Envelope,
    inbox::Record,
    outbox::Outgoing,
    policy::{Book, Decoded, Reaction, Refused},
    spans::{self, Span},
    telemetry::TraceContext,
    trail::{self, Entry, Kind, Outcome, Position},
};

/// A message of a type that this service reacts to.
pub(crate) struct Incoming<'a, B: Book> {
    pub(crate) record: &'a Record,
    pub(crate) received_at: DateTime<Utc>,
    /// Of its creation, then of handling it.
    pub(crate) trace: TraceContext,
    pub(crate) envelope: Result<Envelope, Refused>,
    pub(crate) decoded: Result<Box<dyn Decoded<B> + 'a>, Refused>,
}

impl<B: Book> Incoming<'_, B> {
    /// Whether it is among those `seen` before, and need not be decided again.
    pub(crate) fn is_done(&self, seen: &HashSet<Uuid>) -> bool {
        let repeats = self.decoded.as_ref().is_ok_and(|decoded| !decoded.skips_duplicates());
        !repeats && self.envelope.as_ref().is_ok_and(|envelope| seen.contains(&envelope.event_id))
    }

    /// An attempt to handle it begins; what follows from it belongs to this attempt.
    pub(crate) fn begin(&mut self, service: &'static str) -> Span {
        let span = spans::process(self.record, &self.trace, service);
        self.trace = span.trace(&self.trace);
        if let Ok(envelope) = &mut self.envelope {
            envelope.trace = self.trace.clone();
        }
        span
    }

    /// The row of the trail; none for a message whose headers cannot be read.
    pub(crate) fn entry(&self, service: &str, reaction: &Reaction) -> Option<Entry> {
        let envelope = self.envelope.as_ref().ok()?;
        Some(Entry {
            kind: Kind::Message,
            event_id: envelope.event_id,
            consumer: service.to_owned(),
            event_type: envelope.event_type.clone(),
            correlation_id: envelope.correlation_id,
            causation_id: envelope.causation_id,
            source: envelope.source.clone(),
            created_at: envelope.time,
            received_at: self.received_at,
            position: Some(Position {
                topic: self.record.topic.clone(),
                partition: self.record.partition,
                offset: self.record.offset,
                kafka_time: self.record.kafka_time,
            }),
            outcome: reaction.outcome,
            trace_id: envelope.trace.trace_id(),
            emitted: trail::emitted_json(&reaction.events),
            deliveries: 1,
        })
    }
}

/// What a batch leaves behind, gathered while it is decided.
#[derive(Default)]
pub(crate) struct Batch<'a> {
    pub(crate) events: Vec<Outgoing>,
    pub(crate) entries: Vec<Entry>,
    positions: HashMap<Uuid, usize>,
    pub(crate) parked: Vec<(&'a Record, String)>,
    pub(crate) outcomes: HashMap<Outcome, usize>,
}

impl<'a> Batch<'a> {
    /// Takes over what came of a message; of one that came twice, that it did.
    pub(crate) fn add<B: Book>(
        &mut self,
        service: &str,
        message: &Incoming<'a, B>,
        reaction: Reaction,
    ) {
        *self.outcomes.entry(reaction.outcome).or_default() += 1;
        if let Some(entry) = message.entry(service, &reaction) {
            match self.positions.get(&entry.event_id) {
                Some(&index) => self.entries[index].deliveries += 1,
                None => {
                    self.positions.insert(entry.event_id, self.entries.len());
                    self.entries.push(entry);
                }
            }
        }
        self.events.extend(reaction.events);
    }
}
