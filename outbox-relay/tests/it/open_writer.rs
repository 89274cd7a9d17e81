//! relay.md's third: a writer that stays open holds back its own event and no other.

use std::time::Duration;

use sqlx::Connection;
use tokio::time::Instant;

use crate::{
    database::Database,
    kafka,
    relay::Relay,
    writers::{change, versions},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_open_writer_does_not_delay_the_other_keys() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let relay = Relay::start(&database, &kafka::bootstrap(), &["--record-every", "1ms"]).await;
    relay.says("test: shipping").await;
    let open_for = Duration::from_secs(if crate::setting("RELAY_FULL").is_some() { 60 } else { 4 });

    let before = worst_delay(&database, &topic, Duration::from_secs(2)).await;
    let mut holder = database.connect().await;
    let mut open = holder.begin().await.unwrap();
    change(&mut open, &topic, "held").await;
    let during = worst_delay(&database, &topic, open_for).await;
    let early = kafka::read(&kafka::bootstrap(), &topic).await;
    assert!(
        early.iter().all(|message| kafka::key(message) != "held"),
        "an uncommitted event was sent"
    );
    open.commit().await.unwrap();
    database.drained().await;
    relay.stop().await.unwrap();

    // Behind an xmin watermark the delay would be as long as the writer is open.
    assert!(
        during < before * 4 + Duration::from_millis(500),
        "p99 {before:?} before, {during:?} beside the open writer"
    );
    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    assert_eq!(kafka::judge(&messages, &versions(&database).await), kafka::Verdict::default());
    assert_eq!(messages.iter().filter(|message| kafka::key(message) == "held").count(), 1);
}

/// The 99th percentile of the time from an event's commit until the cursor has passed it.
async fn worst_delay(database: &Database, topic: &str, how_long: Duration) -> Duration {
    let mut connection = database.connect().await;
    let mut watcher = database.connect().await;
    let mut delays = Vec::new();
    let until = Instant::now() + how_long;
    while Instant::now() < until {
        let key = format!("other-{}", rand::random_range(0..20));
        let mut transaction = connection.begin().await.unwrap();
        change(&mut transaction, topic, &key).await;
        let xid: String = sqlx::query_scalar("select pg_current_xact_id()::text")
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        let committed = Instant::now();
        while !sqlx::query_scalar::<_, bool>(
            "select pg_visible_in_snapshot($1::text::xid8, coalesce(target, acked)) from messaging.outbox_standing where shard = 0",
        )
        .bind(&xid)
        .fetch_one(&mut watcher)
        .await
        .unwrap()
        {
            assert!(committed.elapsed() < Duration::from_secs(30), "an event was not shipped for 30 s");
        }
        delays.push(committed.elapsed());
    }
    delays.sort_unstable();
    delays[delays.len() * 99 / 100]
}
