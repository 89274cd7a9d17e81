//! Messages that could not be handled, and the later ones of their keys behind them. Whoever reads a key's rows locks
//! one, so that a redrive that empties the key and a batch that adds to it wait for each other.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};
use tokio_util::sync::CancellationToken;

use crate::{inbox::Record, measuring, metrics};

/// A parked message.
#[derive(Clone, Debug)]
pub struct Parked {
    /// Its id in this service.
    pub parked_id: i64,
    /// The message, as it came.
    pub record: Record,
    /// Why it is here.
    pub reason: String,
    /// Since when.
    pub parked_at: DateTime<Utc>,
}

/// Which of these keys have something parked.
pub(crate) async fn keys(
    conn: &mut PgConnection,
    consumer: &str,
    keys: impl Iterator<Item = &str>,
) -> sqlx::Result<HashSet<String>> {
    let keys: Vec<&str> = keys.collect::<HashSet<_>>().into_iter().collect();
    let rows: Vec<String> = sqlx::query_scalar(
        "select key
         from messaging.inbox_parked
         where consumer = $1 and key = any($2)
         order by parked_id
         for share",
    )
    .bind(consumer)
    .bind(keys)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Parks messages with their reasons. One that is parked already stays as it is, also when it comes at another offset: a command
/// that is refused is repeated for as long as it has no answer.
pub(crate) async fn add(
    conn: &mut PgConnection,
    consumer: &str,
    messages: &[(&Record, String)],
) -> sqlx::Result<()> {
    for (record, reason) in messages {
        sqlx::query(
            "insert into messaging.inbox_parked
                 (consumer, key, topic, partition, \"offset\", kafka_time, headers, payload, reason)
             select $1, $2, $3, $4, $5, $6, $7, $8, $9
             where not exists (
                 select
                 from messaging.inbox_parked
                 where consumer = $1 and key = $2 and event_id = messaging.event_id($7)
             )
             on conflict on constraint inbox_parked_once do nothing",
        )
        .bind(consumer)
        .bind(&record.key)
        .bind(&record.topic)
        .bind(record.partition)
        .bind(record.offset)
        .bind(record.kafka_time)
        .bind(sqlx::types::Json(&record.headers))
        .bind(&record.payload)
        // It may repeat what the message says, and Postgres keeps no NUL.
        .bind(reason.replace('\0', "\u{fffd}"))
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// The first parked message of a key.
pub(crate) async fn first(
    conn: &mut PgConnection,
    consumer: &str,
    key: &str,
) -> sqlx::Result<Option<Parked>> {
    let row = sqlx::query(
        "select *
         from messaging.inbox_parked
         where consumer = $1 and key = $2
         order by parked_id
         limit 1",
    )
    .bind(consumer)
    .bind(key)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// A page of what is parked, by id, after `after`; all keys when `key` is none.
pub(crate) async fn page(
    conn: &mut PgConnection,
    consumer: &str,
    key: Option<&str>,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Parked>> {
    let rows = sqlx::query(
        "select *
         from messaging.inbox_parked
         where consumer = $1 and ($2::text is null or key = $2) and parked_id > $3
         order by parked_id
         limit $4",
    )
    .bind(consumer)
    .bind(key)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// Takes a message out, with the copies of it that older versions parked; false when somebody else has.
pub(crate) async fn take(conn: &mut PgConnection, parked: &Parked) -> sqlx::Result<bool> {
    let deleted = sqlx::query(
        "delete from messaging.inbox_parked
         where parked_id in (
             select copy.parked_id
             from messaging.inbox_parked as parked
             join messaging.inbox_parked as copy
                 on copy.parked_id = parked.parked_id
                 or (copy.consumer, copy.key, copy.event_id)
                     = (parked.consumer, parked.key, parked.event_id)
             where parked.parked_id = $1
             order by copy.parked_id
             for update of copy
         )",
    )
    .bind(parked.parked_id)
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected() > 0)
}

/// How many messages are parked.
pub(crate) async fn count(conn: &mut PgConnection, consumer: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from messaging.inbox_parked where consumer = $1")
        .bind(consumer)
        .fetch_one(conn)
        .await
}

/// Measures every few seconds how much is parked, until told to stop.
pub(crate) async fn watch(pool: PgPool, consumer: &'static str, shutdown: CancellationToken) {
    let instruments = metrics::instruments();
    let ask = || -> BoxFuture<'static, _> {
        let pool = pool.clone();
        Box::pin(async move { standing(&mut *pool.acquire().await?, consumer).await })
    };
    let record = |standing| {
        let Some((messages, keys)) = standing else { return };
        instruments.parked.record(messages, &[]);
        instruments.parked_keys.record(keys, &[]);
    };
    measuring::watch("what is parked", &instruments.inbox_measured, ask, record, shutdown).await;
}

/// Counting for a gauge stops here: an alarm needs no more, and it is done every few seconds.
const COUNTED: i64 = 10_000;

/// How many messages are parked and how many keys they have, of the first [`COUNTED`].
async fn standing(conn: &mut PgConnection, consumer: &str) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "select count(*), count(distinct key)
         from (
             select key
             from messaging.inbox_parked
             where consumer = $1
             order by key
             limit $2
         ) as parked",
    )
    .bind(consumer)
    .bind(COUNTED)
    .fetch_one(conn)
    .await
}

fn read(row: &PgRow) -> sqlx::Result<Parked> {
    let headers: sqlx::types::Json<Vec<(String, Option<Vec<u8>>)>> = row.try_get("headers")?;
    Ok(Parked {
        parked_id: row.try_get("parked_id")?,
        record: Record {
            topic: row.try_get("topic")?,
            partition: row.try_get("partition")?,
            offset: row.try_get("offset")?,
            kafka_time: row.try_get("kafka_time")?,
            key: row.try_get("key")?,
            headers: headers.0,
            payload: row.try_get("payload")?,
        },
        reason: row.try_get("reason")?,
        parked_at: row.try_get("parked_at")?,
    })
}
