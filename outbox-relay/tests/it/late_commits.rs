//! relay.md's first two: transactions that commit later than their numbers suggest.

use std::time::Duration;

use sqlx::{Connection, Executor};

use crate::{
    database::{Database, append},
    kafka,
    relay::Relay,
    writers::{Writers, change, versions},
};

#[tokio::test(flavor = "multi_thread")]
async fn late_committers_lose_duplicate_and_invert_nothing() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    let writers = Writers::start(&database, &topic, 12, 30).await;
    let mut late = database.connect().await;
    let mut open = late.begin().await.unwrap();
    change(&mut open, &topic, "the-late-one").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    open.commit().await.unwrap();
    let versions = writers.end().await;
    database.drained().await;
    relay.stop().await.unwrap();

    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    let written: i64 = versions.values().sum();
    assert!(written > 300, "only {written} events were written");
    assert_eq!(kafka::judge(&messages, &versions), kafka::Verdict::default());
    assert_eq!(i64::try_from(messages.len()).unwrap(), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_number_with_a_late_row_lock_keeps_the_order_of_the_key() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    let (mut first, mut second) = (database.connect().await, database.connect().await);

    let mut early = first.begin().await.unwrap();
    early.execute("select pg_current_xact_id()").await.unwrap();
    let mut late = second.begin().await.unwrap();
    change(&mut late, &topic, "k").await;
    late.commit().await.unwrap();
    database.drained().await;
    change(&mut early, &topic, "k").await;
    early.commit().await.unwrap();
    database.drained().await;
    relay.stop().await.unwrap();

    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    assert_eq!(kafka::judge(&messages, &versions(&database).await), kafka::Verdict::default());
    assert_eq!(messages.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_with_a_cache_is_refused_until_it_is_mended() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    connection.execute("alter sequence messaging.outbox_seq cache 20").await.unwrap();
    append(&mut connection, &topic, "k", Some(b"1")).await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    relay.says("has cache 20").await;
    assert_eq!(relay.page("/readyz").await.0, 503);
    assert_eq!(database.unsent().await, 1);

    connection.execute("alter sequence messaging.outbox_seq cache 1").await.unwrap();
    relay.says("test: shipping").await;
    database.drained().await;
    relay.stop().await.unwrap();
}
