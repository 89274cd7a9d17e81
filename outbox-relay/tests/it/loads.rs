//! relay.md's fourth and tenth: what grows without bound elsewhere stays flat here.

use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};
use tokio::time::Instant;

use crate::{
    database::{Database, append_many},
    kafka,
    relay::Relay,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_held_costs_neither_latency_nor_dead_rows() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let seconds = if crate::setting("RELAY_FULL").is_some() { 180 } else { 8 };
    let relay = Relay::start(&database, &kafka::bootstrap(), &["--record-every", "1ms"]).await;
    relay.says("test: shipping").await;
    let mut writer = database.connect().await;
    let before = worst_delay(&database, &mut writer, &topic, Duration::from_secs(3)).await;
    let mut holder = database.connect().await;
    let mut held = holder.begin().await.unwrap();
    held.execute("set transaction isolation level repeatable read").await.unwrap();
    held.execute("select count(*) from messaging.outbox").await.unwrap();
    let during = worst_delay(&database, &mut writer, &topic, Duration::from_secs(seconds)).await;
    held.rollback().await.unwrap();
    let dead: i64 = sqlx::query_scalar(
        "select coalesce(sum(pg_stat_get_dead_tuples(relid)), 0)::bigint
         from pg_stat_user_tables
         where relname ~ '^outbox_[0-3]$'",
    )
    .fetch_one(&mut writer)
    .await
    .unwrap();
    let cursor: i64 = sqlx::query_scalar("select pg_table_size('messaging.outbox_cursor')")
        .fetch_one(&mut writer)
        .await
        .unwrap();
    relay.stop().await.unwrap();
    assert_eq!(dead, 0, "publishing leaves dead rows behind");
    // One row per move; with all 64 it would be megabytes within seconds.
    assert!(cursor < 1 << 20, "the cursor takes {cursor} bytes");
    assert!(
        during < before * 4 + Duration::from_millis(500),
        "p99 {before:?} before, {during:?} beside the snapshot"
    );
}

/// Appends a hundred events at a time, and returns the 99th percentile of the time until they are shipped.
async fn worst_delay(
    database: &Database,
    writer: &mut PgConnection,
    topic: &str,
    how_long: Duration,
) -> Duration {
    let until = Instant::now() + how_long;
    let mut delays = Vec::new();
    while Instant::now() < until {
        let started = Instant::now();
        append_many(writer, topic, 1, 100).await;
        database.drained().await;
        delays.push(started.elapsed());
    }
    delays.sort_unstable();
    delays[delays.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_transaction_with_very_many_rows_is_shipped_in_order_and_within_bounds() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let rows = if crate::setting("RELAY_FULL").is_some() { 1_000_000 } else { 100_000 };
    let relay =
        Relay::start(&database, &kafka::bootstrap(), &["--in-flight-bytes", "4194304"]).await;
    relay.says("test: shipping").await;
    let before = memory();
    append_many(&mut database.connect().await, &topic, 1, rows).await;
    let mut most = 0;
    crate::eventually("all of it is shipped", async || {
        most = most.max(memory().saturating_sub(before));
        database.unsent().await == 0
    })
    .await;
    relay.stop().await.unwrap();
    let numbers = kafka::by_key(&kafka::read(&kafka::bootstrap(), &topic).await);
    assert_eq!(numbers.values().map(Vec::len).sum::<usize>(), usize::try_from(rows).unwrap());
    assert!(numbers.values().all(|numbers| numbers.is_sorted()));
    assert!(most < 200 << 20, "{} MB more while {rows} rows were shipped", most >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_load_on_one_key_is_shipped_in_order() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    let mut connection = database.connect().await;
    for round in 0..20_i64 {
        sqlx::query(
            "insert into messaging.outbox (event_id, topic, key, payload)
             select gen_random_uuid(), $1, 'hot', convert_to(n::text, 'utf8')
             from generate_series($2, $2 + 999) n",
        )
        .bind(&topic)
        .bind(round * 1000 + 1)
        .execute(&mut connection)
        .await
        .unwrap();
    }
    database.drained().await;
    relay.stop().await.unwrap();
    let numbers = kafka::by_key(&kafka::read(&kafka::bootstrap(), &topic).await);
    assert_eq!(numbers["hot"], (1..=20_000).collect::<Vec<_>>());
}

/// The memory of this process, in bytes.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}
