//! One owner at a time.

use std::time::Duration;

use nix::sys::signal::Signal;
use outbox_relay::{
    cluster::{self, Cluster},
    lease::{self, Terms},
};
use sqlx::Executor;

use crate::{
    database::{Database, append},
    kafka,
    relay::{Process, Relay, config},
    writers::Writers,
};

const SHORT: [&str; 6] = ["--delivery-timeout", "1s", "--lease", "2s", "--renew-every", "200ms"];

#[tokio::test(flavor = "multi_thread")]
async fn a_second_relay_stands_by_and_takes_over_when_the_first_is_killed() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let writers = Writers::start(&database, &topic, 4, 20).await;
    let first = Process::start(&database, &kafka::bootstrap(), &SHORT);
    crate::eventually("the first owns the lease", async || epoch(&database).await == 1).await;
    let second = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    second.says("test: standby").await;
    assert_eq!(second.page("/readyz").await.0, 200);
    first.signal(Signal::SIGKILL);
    first.ended().await;
    second.says("test: shipping").await;
    assert_eq!(epoch(&database).await, 2);
    let versions = writers.end().await;
    database.drained().await;
    second.stop().await.unwrap();
    let verdict = kafka::judge(&kafka::read(&kafka::bootstrap(), &topic).await, &versions);
    assert_eq!((verdict.lost, verdict.inverted), (0, 0), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stops_hands_over_at_once() {
    let database = Database::fresh().await;
    // With these terms a lease that is not released would be waited for longer than the test waits.
    let long = ["--delivery-timeout", "100s", "--lease", "200s", "--renew-every", "200ms"];
    let first = Relay::start(&database, &kafka::bootstrap(), &long).await;
    first.says("test: shipping").await;
    let second = Relay::start(&database, &kafka::bootstrap(), &long).await;
    second.says("test: standby").await;
    first.stop().await.unwrap();
    second.says("test: shipping").await;
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_was_stopped_past_its_lease_sends_nothing_and_stands_by() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let writers = Writers::start(&database, &topic, 4, 20).await;
    let zombie = Process::start(&database, &kafka::bootstrap(), &SHORT);
    database.progress(50).await;
    zombie.signal(Signal::SIGSTOP);
    let successor = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    successor.says("test: shipping").await;
    zombie.signal(Signal::SIGCONT);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(epoch(&database).await, 2, "the zombie has taken the lease back");
    let versions = writers.end().await;
    database.drained().await;
    zombie.signal(Signal::SIGTERM);
    assert_eq!(zombie.ended().await, Some(0));
    successor.stop().await.unwrap();
    let verdict = kafka::judge(&kafka::read(&kafka::bootstrap(), &topic).await, &versions);
    assert_eq!((verdict.lost, verdict.inverted), (0, 0), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_not_moved_with_the_epoch_of_the_past() {
    let database = Database::fresh().await;
    let config = config(&database, "127.0.0.1:1", &[]);
    let mut connection = cluster::connect(&config.sources[0].database).await.unwrap();
    let cluster = Cluster::identify(&mut connection, false).await.unwrap();
    let terms = |owner: &str| Terms {
        owner: owner.to_owned(),
        lease: Duration::from_millis(1),
        delivery_timeout: Duration::ZERO,
        renew_every: Duration::from_millis(1),
    };
    let (old, cursor) =
        lease::acquire(&mut connection, &terms("old"), &cluster).await.unwrap().unwrap();
    crate::eventually("the lease runs out", async || {
        lease::acquire(&mut connection, &terms("new"), &cluster).await.unwrap().is_some()
    })
    .await;
    assert!(!old.is_valid());
    assert!(matches!(
        cursor.record(&mut connection, &old).await,
        Err(outbox_relay::Error::LeaseLost(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_is_refused_until_it_is_adopted_and_then_sends_its_ring_again() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    append(&mut connection, &topic, "k", Some(b"1")).await;
    // As after a dump: numbers of transactions that this cluster has not reached, and a cursor far ahead.
    for statement in [
        "update messaging.outbox set xid = '90000000000'",
        "update messaging.outbox_cursor set system_identifier = 42, acked = '80000000000:80000000000:'",
    ] {
        connection.execute(statement).await.unwrap();
    }
    append(&mut connection, &topic, "k", Some(b"2")).await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    relay.says("belongs to cluster 42").await;
    relay.stop().await.unwrap();
    let relay = Relay::start(&database, &kafka::bootstrap(), &["--adopt-cluster"]).await;
    relay.says("test: shipping").await;
    append(&mut connection, &topic, "k", Some(b"3")).await;
    database.drained().await;
    relay.stop().await.unwrap();
    let numbers = kafka::by_key(&kafka::read(&kafka::bootstrap(), &topic).await);
    assert_eq!(numbers["k"], [1, 2, 3]);
}

async fn epoch(database: &Database) -> i64 {
    sqlx::query_scalar("select max(epoch) from messaging.outbox_cursor")
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap()
}
