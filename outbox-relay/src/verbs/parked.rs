//! Parked rows as people see them: by key, because the first row of a key holds all later ones.

pub mod list;
pub mod retry;
pub mod show;
pub mod skip;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, types::Json};
use uuid::Uuid;

use super::{
    error::{Error, doing},
    terminal,
};

/// One parked row.
#[derive(Debug, FromRow)]
pub(crate) struct Row {
    pub(crate) seq: i64,
    shard: i16,
    event_id: Uuid,
    pub(crate) topic: String,
    pub(crate) key: String,
    headers: Json<Value>,
    payload: Option<Vec<u8>>,
    created_at: DateTime<Utc>,
    pub(crate) reason: String,
    parked_at: DateTime<Utc>,
    wish: Option<String>,
    /// How many later rows of its key are parked.
    pub(crate) behind: i64,
    /// Whether the role may read payloads.
    pub(crate) payload_readable: bool,
}

/// Which row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    Seq(i64),
    FirstOf(&'a str),
}

/// A payload in JSON and on the screen.
#[derive(Debug, Serialize)]
#[serde(tag = "payload_encoding", content = "payload", rename_all = "snake_case")]
enum Payload {
    Text(String),
    Base64(String),
    Tombstone,
    Unreadable,
}

/// The row as JSON: everything that is needed to write it again.
#[derive(Debug, Serialize)]
struct Record<'a> {
    source: &'a str,
    seq: i64,
    shard: i16,
    event_id: Uuid,
    topic: &'a str,
    key: &'a str,
    headers: &'a Value,
    #[serde(flatten)]
    payload: Payload,
    created_at: String,
    reason: &'a str,
    parked_at: String,
    wish: Option<&'a str>,
    behind: i64,
}

impl Row {
    /// Finds a row; a payload that the role may not read is left out.
    pub(crate) async fn find(
        connection: &mut PgConnection,
        which: Which<'_>,
    ) -> Result<Option<Self>, Error> {
        let readable: bool = sqlx::query_scalar(
            "select has_column_privilege('messaging.outbox_parked', 'payload', 'select')",
        )
        .fetch_one(&mut *connection)
        .await
        .map_err(doing("asking for rights"))?;
        let payload = if readable { "payload" } else { "null::bytea" };
        let (condition, seq, key) = match which {
            Which::Seq(seq) => ("seq = $1", Some(seq), None),
            Which::FirstOf(key) => ("key = $2", None, Some(key)),
        };
        let statement = format!(
            "select seq, shard, event_id, topic, key, headers, {payload} as payload, created_at, reason, parked_at, wish,
                    (select count(*) from messaging.outbox_parked later where later.key = parked.key and later.seq > parked.seq) as behind,
                    {readable} as payload_readable
             from messaging.outbox_parked parked
             where {condition}
               and ($1::bigint is null or $2::text is null)
             order by seq
             limit 1"
        );
        sqlx::query_as(AssertSqlSafe(statement))
            .bind(seq)
            .bind(key)
            .fetch_optional(connection)
            .await
            .map_err(doing("reading a parked row"))
    }

    /// As JSON, in one line.
    pub(crate) fn json(&self, source: &str) -> Value {
        let record = Record {
            source,
            seq: self.seq,
            shard: self.shard,
            event_id: self.event_id,
            topic: &self.topic,
            key: &self.key,
            headers: &self.headers.0,
            payload: self.payload(),
            created_at: terminal::time(self.created_at),
            reason: &self.reason,
            parked_at: terminal::time(self.parked_at),
            wish: self.wish.as_deref(),
            behind: self.behind,
        };
        serde_json::to_value(record).unwrap_or_default()
    }

    fn payload(&self) -> Payload {
        match &self.payload {
            _ if !self.payload_readable => Payload::Unreadable,
            None => Payload::Tombstone,
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Payload::Text(text.to_owned()),
                Err(_) => Payload::Base64(STANDARD.encode(bytes)),
            },
        }
    }
}
