//! The transactional outbox: events are appended in the transaction that changes the state, or not at all.
//! Append after the aggregate's row is locked, so that sequence order within a key is commit order.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::spans::Span;

/// An event, ready to be appended.
#[derive(Debug)]
pub struct Outgoing {
    /// Its id.
    pub event_id: Uuid,
    /// Its full protobuf name.
    pub event_type: String,
    /// The topic it goes to.
    pub topic: &'static str,
    /// Its ordering key.
    pub key: String,
    /// The Kafka headers, as a JSON object of strings.
    pub headers: String,
    /// The payload, ProtoJSON.
    pub payload: Vec<u8>,
    /// Fails with the batch that is taken back.
    pub(crate) created: Span,
}

/// Appends the events, in this order, to the caller's transaction. Whoever commits it should ring the
/// [`crate::doorbell::Doorbell`] afterwards; forgetting that costs latency only.
pub async fn append(conn: &mut PgConnection, events: &[Outgoing]) -> sqlx::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let event_ids: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
    let topics: Vec<&str> = events.iter().map(|event| event.topic).collect();
    let keys: Vec<&str> = events.iter().map(|event| event.key.as_str()).collect();
    let headers: Vec<&str> = events.iter().map(|event| event.headers.as_str()).collect();
    let payloads: Vec<&[u8]> = events.iter().map(|event| event.payload.as_slice()).collect();
    // Ordered by ordinality, so that the sequence follows the decisions.
    sqlx::query(
        "insert into messaging.outbox (event_id, topic, key, headers, payload)
         select event_id, topic, key, headers::json, payload
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[])
             with ordinality as event (event_id, topic, key, headers, payload, position)
         order by position",
    )
    .bind(event_ids)
    .bind(topics)
    .bind(keys)
    .bind(headers)
    .bind(payloads)
    .execute(conn)
    .await?;
    Ok(())
}
