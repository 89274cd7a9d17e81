//! The trail: what every transaction handled, what came of it and what it emitted, kept 30 days. It is the inbox too: a
//! message found here was handled before.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{cause::Cause, outbox::Outgoing};

/// What came of a message, call or timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It changed something.
    Applied,
    /// The row shows that it was handled before; nothing changed.
    Duplicate,
    /// It was the consequence of this service's own decision; nothing had to change.
    OwnOrigin,
    /// Somebody else's decision overtook it; nothing had to change.
    Raced,
    /// It does not concern this service in this state.
    Ignored,
    /// It could not be handled and waits for an operator.
    Parked,
    /// An operator gave it up.
    Skipped,
}

impl Outcome {
    /// Its name in the table and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::OwnOrigin => "own_origin",
            Self::Raced => "raced",
            Self::Ignored => "ignored",
            Self::Parked => "parked",
            Self::Skipped => "skipped",
        }
    }
}

/// What was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message from Kafka.
    Message,
    /// A gRPC call.
    Call,
    /// A timer, such as an order's deadline.
    Timer,
    /// An operator's act.
    Verb,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Call => "call",
            Self::Timer => "timer",
            Self::Verb => "verb",
        }
    }
}

/// Where a message came from in Kafka.
#[derive(Clone, Debug)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Kafka's timestamp.
    pub kafka_time: DateTime<Utc>,
}

/// One row of the trail.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was handled.
    pub kind: Kind,
    /// Its id.
    pub event_id: Uuid,
    /// Who handled it: the service as a consumer, or the method.
    pub consumer: String,
    /// Its type: the event's full name, the method or the timer.
    pub event_type: String,
    /// The order it belongs to.
    pub correlation_id: Option<Uuid>,
    /// What caused it.
    pub causation_id: Option<Uuid>,
    /// Who sent it.
    pub source: String,
    /// When it came about.
    pub created_at: DateTime<Utc>,
    /// When this process got it.
    pub received_at: DateTime<Utc>,
    /// Where it came from, for a message.
    pub position: Option<Position>,
    /// What came of it.
    pub outcome: Outcome,
    /// The trace it belongs to.
    pub trace_id: Option<String>,
    /// The events it emitted, as a JSON array.
    pub emitted: String,
    /// How many times it was delivered, so far as this transaction knows.
    pub deliveries: i32,
}

impl Entry {
    /// The row of a call, timer or verb of this service.
    pub fn local(kind: Kind, cause: &Cause, outcome: Outcome, emitted: &[Outgoing]) -> Self {
        Self {
            kind,
            event_id: cause.id,
            consumer: cause.name.clone(),
            event_type: cause.name.clone(),
            correlation_id: cause.correlation_id,
            causation_id: None,
            source: cause.service.to_owned(),
            created_at: cause.now,
            received_at: cause.now,
            position: None,
            outcome,
            trace_id: cause.trace.trace_id(),
            emitted: emitted_json(emitted),
            deliveries: 1,
        }
    }
}

/// The emitted events as the trail keeps them.
pub(crate) fn emitted_json(events: &[Outgoing]) -> String {
    let list = events.iter().map(|event| {
        serde_json::json!({ "id": event.event_id, "type": event.event_type, "topic": event.topic, "key": event.key })
    });
    serde_json::Value::Array(list.collect()).to_string()
}

/// The partition of an event: the UTC day of its time mod 32. A duplicate carries the same time, so it meets the
/// original's row.
pub fn slot(time: DateTime<Utc>) -> i16 {
    // In 0..32, so it always fits.
    time.timestamp().div_euclid(86_400).rem_euclid(32) as i16
}

/// One look into the primary key for each event. Asked for all at once, a planner without statistics reads everything
/// that the consumer has ever handled and filters it: the `limit` keeps it from turning the looks into such a join.
pub const SEEN: &str = "
    select wanted.event_id
    from unnest($1::smallint[], $2::uuid[]) as wanted (slot, event_id)
    cross join lateral (
        select
        from messaging.trail
        where trail.slot = wanted.slot
          and trail.event_id = wanted.event_id
          and trail.consumer = $3
          and trail.outcome <> 'parked'
        limit 1
    ) seen";

/// Which of these messages this consumer has handled before. A parked one has not been.
pub(crate) async fn seen(
    conn: &mut PgConnection,
    consumer: &str,
    events: impl Iterator<Item = (Uuid, DateTime<Utc>)>,
) -> sqlx::Result<HashSet<Uuid>> {
    let (event_ids, slots): (Vec<Uuid>, Vec<i16>) =
        events.map(|(id, time)| (id, slot(time))).unzip();
    let seen: Vec<Uuid> =
        sqlx::query_scalar(SEEN).bind(slots).bind(event_ids).bind(consumer).fetch_all(conn).await?;
    Ok(seen.into_iter().collect())
}

/// Writes rows in the caller's transaction. A row that is there already counts one more delivery; one that was parked and
/// is not any more takes over what has come of it, and that was no delivery. No message may stand twice in `entries`.
pub async fn note(conn: &mut PgConnection, entries: &[Entry]) -> sqlx::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let position = |index: usize| entries[index].position.as_ref();
    let all = 0..entries.len();
    sqlx::query(
        "insert into messaging.trail as existing
             (slot, event_id, consumer, kind, type, correlation_id, causation_id, source, created_at, kafka_time,
              received_at, topic, partition, \"offset\", outcome, trace_id, emitted, deliveries)
         select slot, event_id, consumer, kind, type, correlation_id, causation_id, source, created_at, kafka_time,
                received_at, topic, partition, \"offset\", outcome, trace_id, emitted::jsonb, deliveries
         from unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::uuid[], $8::text[],
                     $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::integer[],
                     $14::bigint[], $15::text[], $16::text[], $17::text[], $18::integer[])
             as entry (slot, event_id, consumer, kind, type, correlation_id, causation_id, source, created_at,
                       kafka_time, received_at, topic, partition, \"offset\", outcome, trace_id, emitted, deliveries)
         order by slot, event_id, consumer
         on conflict (slot, event_id, consumer) do update
         set deliveries = existing.deliveries
                 + case when existing.outcome = 'parked' and excluded.outcome <> 'parked' then 0
                        else excluded.deliveries end,
             outcome = case when existing.outcome = 'parked' then excluded.outcome else existing.outcome end,
             emitted = case when existing.outcome = 'parked' then excluded.emitted else existing.emitted end,
             handled_at = case when existing.outcome = 'parked' then excluded.handled_at else existing.handled_at end",
    )
    .bind(entries.iter().map(|entry| slot(entry.created_at)).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.event_id).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.consumer.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.kind.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.event_type.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.correlation_id).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.causation_id).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.source.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.created_at).collect::<Vec<_>>())
    .bind(all.clone().map(|index| position(index).map(|at| at.kafka_time)).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.received_at).collect::<Vec<_>>())
    .bind(all.clone().map(|index| position(index).map(|at| at.topic.as_str())).collect::<Vec<_>>())
    .bind(all.clone().map(|index| position(index).map(|at| at.partition)).collect::<Vec<_>>())
    .bind(all.map(|index| position(index).map(|at| at.offset)).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.outcome.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.trace_id.as_deref()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.emitted.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.deliveries).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}
