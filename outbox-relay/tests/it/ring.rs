//! Emptying the ring: what is acknowledged goes, and nothing else.

use std::time::Duration;

use outbox_relay::{backlog::Backlog, metrics::Telemetry, rotation::Rotation};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    database::Database,
    kafka,
    relay::{Relay, config},
};

fn rotation(database: &Database) -> Rotation {
    let source = config(database, "127.0.0.1:1", &[]).given.all().next().unwrap().clone();
    Rotation {
        source,
        every: Duration::from_secs(1),
        metrics: Telemetry::new().unwrap().source("test"),
    }
}

/// A row in the child that is the clock's turn in `ahead` minutes.
async fn append_to(connection: &mut PgConnection, ahead: i64) {
    sqlx::query(
        "insert into messaging.outbox (slot, event_id, topic, key)
         values ((floor(extract(epoch from clock_timestamp()) / 60)::bigint + $1) % 4, $2, 't', 'k')",
    )
    .bind(ahead)
    .bind(Uuid::now_v7())
    .execute(connection)
    .await
    .unwrap();
}

/// As if everything so far were shipped. Not the snapshot of now: other tests' open transactions would hold it back.
async fn acknowledge_all(connection: &mut PgConnection) {
    let statement = "update messaging.outbox_cursor
                     set acked = format('%s:%s:', pg_current_xact_id(), pg_current_xact_id())::pg_snapshot";
    connection.execute(statement).await.unwrap();
}

async fn rows(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from messaging.outbox").fetch_one(connection).await.unwrap()
}

/// Away from the turn of the minute, so that the current child stays the current one during the test.
async fn early_in_the_minute(connection: &mut PgConnection) {
    crate::eventually("the minute is young", async || {
        sqlx::query_scalar::<_, bool>("select extract(second from clock_timestamp()) < 40")
            .fetch_one(&mut *connection)
            .await
            .unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_child_is_truncated_and_the_current_one_is_not() {
    let database = Database::fresh().await;
    let (rotation, mut own) = (rotation(&database), None);
    let mut connection = database.connect().await;
    early_in_the_minute(&mut connection).await;
    for ahead in [0, 1, 2, 2] {
        append_to(&mut connection, ahead).await;
    }
    assert_eq!(rotation.step(&mut own).await.unwrap(), 0, "nothing is acknowledged yet");
    acknowledge_all(&mut connection).await;
    append_to(&mut connection, 1).await;
    assert_eq!(rotation.step(&mut own).await.unwrap(), 1, "one child holds only acknowledged rows");
    assert_eq!(rows(&mut connection).await, 3);
    connection
        .execute("update messaging.outbox_cursor set acked = '1:1:' where shard = 63")
        .await
        .unwrap();
    assert_eq!(rotation.step(&mut own).await.unwrap(), 0, "one shard is behind");
    acknowledge_all(&mut connection).await;
    assert_eq!(rotation.step(&mut own).await.unwrap(), 1);
    assert_eq!(rows(&mut connection).await, 1, "the current child stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncommitted_row_survives() {
    let database = Database::fresh().await;
    let (rotation, mut own) = (rotation(&database), None);
    let (mut connection, mut late) = (database.connect().await, database.connect().await);
    early_in_the_minute(&mut connection).await;
    append_to(&mut connection, 2).await;
    acknowledge_all(&mut connection).await;
    let mut open = late.begin().await.unwrap();
    append_to(&mut open, 2).await;
    assert_eq!(rotation.step(&mut own).await.unwrap(), 0);
    open.commit().await.unwrap();
    assert_eq!(
        rotation.step(&mut own).await.unwrap(),
        0,
        "the row that came late is not acknowledged"
    );
    assert_eq!(rows(&mut connection).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_in_progress_stalls_no_insert_longer_than_the_lock_timeout() {
    let database = Database::fresh().await;
    let (mut connection, mut dump) = (database.connect().await, database.connect().await);
    early_in_the_minute(&mut connection).await;
    append_to(&mut connection, 2).await;
    acknowledge_all(&mut connection).await;
    let mut dumping = dump.begin().await.unwrap();
    dumping.execute("lock table messaging.outbox in access share mode").await.unwrap();
    let rotating = async {
        let (rotation, mut own) = (rotation(&database), None);
        for _ in 0..5 {
            assert_eq!(rotation.step(&mut own).await.unwrap(), 0, "the dump holds the child");
        }
    };
    let inserting = async {
        let mut slowest = Duration::ZERO;
        let until = Instant::now() + Duration::from_millis(400);
        while Instant::now() < until {
            let started = Instant::now();
            append_to(&mut connection, 2).await;
            slowest = slowest.max(started.elapsed());
        }
        slowest
    };
    let both = async { tokio::join!(rotating, inserting) };
    let ((), slowest) = tokio::time::timeout(Duration::from_secs(30), both)
        .await
        .expect("the inserts wait for the dump");
    assert!(slowest < Duration::from_secs(1), "an insert waited {slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_relay_empties_its_ring() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    early_in_the_minute(&mut connection).await;
    sqlx::query(
        "insert into messaging.outbox (slot, event_id, topic, key)
         select (floor(extract(epoch from clock_timestamp()) / 60)::bigint + 2) % 4, gen_random_uuid(), $1, 'k' || n
         from generate_series(1, 1000) n",
    )
    .bind(&topic)
    .execute(&mut connection)
    .await
    .unwrap();
    let relay = Relay::start(&database, &kafka::bootstrap(), &["--rotate-every", "100ms"]).await;
    crate::eventually("the ring is empty", async || rows(&mut connection).await == 0).await;
    relay.stop().await.unwrap();
    assert_eq!(kafka::read(&kafka::bootstrap(), &topic).await.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_and_what_is_parked_are_measured_by_sql_without_a_running_relay() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    for ahead in 0..3 {
        append_to(&mut connection, ahead).await;
    }
    for (seq, key) in [(-1, "a"), (-2, "a"), (-3, "b")] {
        sqlx::query(
            "insert into messaging.outbox_parked
                 (seq, shard, event_id, topic, key, headers, created_at, reason)
             values ($1, 0, gen_random_uuid(), 'events', $2, '{}', now(), 'invalid')",
        )
        .bind(seq)
        .bind(key)
        .execute(&mut connection)
        .await
        .unwrap();
    }
    let telemetry = Telemetry::new().unwrap();
    let source = config(&database, "127.0.0.1:1", &[]).given.all().next().unwrap().clone();
    let backlog =
        Backlog { source, every: Duration::from_secs(1), metrics: telemetry.source("test") };
    backlog.step(&mut None).await.unwrap();
    let text =
        prometheus::TextEncoder::new().encode_to_string(&telemetry.registry.gather()).unwrap();
    for (metric, value) in [("outbox_backlog", 3), ("outbox_parked", 3), ("outbox_parked_keys", 2)]
    {
        let is_it = |line: &&str| line.split('{').next() == Some(metric);
        let line = text.lines().find(is_it).unwrap();
        assert!(line.ends_with(&format!(" {value}")), "{line}");
        assert!(line.contains(r#"source="test""#), "{line}");
    }
}
