//! Exactly-once mode, on Apache Kafka: readers of committed events see each one once, in order, whatever dies when.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{
    database::{Database, append, append_many},
    kafka,
    relay::{Process, Relay},
    writers::{Writers, change},
};

const EXACTLY: [&str; 9] = [
    "--exactly-once",
    "--delivery-timeout",
    "1s",
    "--lease",
    "2s",
    "--renew-every",
    "200ms",
    "--record-every",
    "1ms",
];

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_it_loses_repeats_and_inverts_nothing() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let writers = Writers::start(&database, &topic, 8, 40).await;
    for _ in 0..6 {
        let relay = Process::start(&database, &kafka::bootstrap(), &EXACTLY);
        database.progress(50).await;
        tokio::time::sleep(Duration::from_millis(rand::random_range(20..400))).await;
        relay.signal(Signal::SIGKILL);
        relay.ended().await;
    }
    let last = Process::start(&database, &kafka::bootstrap(), &EXACTLY);
    let versions = writers.end().await;
    database.drained().await;
    last.signal(Signal::SIGTERM);
    assert_eq!(last.ended().await, Some(0));
    let messages = kafka::read_committed(&kafka::bootstrap(), &topic).await;
    assert_eq!(kafka::judge(&messages, &versions), kafka::Verdict::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_was_not_moved_after_the_commit_follows_the_note() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    let relay = Process::start(&database, &kafka::bootstrap(), &EXACTLY);
    append_many(&mut connection, &topic, 1, 1_000).await;
    database.drained().await;
    relay.signal(Signal::SIGKILL);
    relay.ended().await;
    // As if it had died between Kafka's commit and the move.
    sqlx::query(
        "update messaging.outbox_cursor set follows = null, acked = '3:3:', target = null, sent_seq = null",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let successor = Relay::start(&database, &kafka::bootstrap(), &EXACTLY).await;
    append_many(&mut connection, &topic, 1_001, 500).await;
    database.drained().await;
    successor.stop().await.unwrap();
    let numbers = kafka::by_key(&kafka::read_committed(&kafka::bootstrap(), &topic).await);
    assert_eq!(numbers.values().map(Vec::len).sum::<usize>(), 1_500);
    assert!(numbers.values().all(|numbers| numbers.is_sorted()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_from_before_a_replay_or_of_another_timeline_counts_no_more() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    append_many(&mut connection, &topic, 1, 100).await;
    for statement in [
        "update messaging.outbox_cursor set follows = null, acked = '3:3:', target = null, sent_seq = null, moves = moves + 1",
        "update messaging.outbox_cursor set follows = null, acked = '3:3:', target = null, sent_seq = null, timeline = timeline",
    ] {
        let relay = Process::start(&database, &kafka::bootstrap(), &EXACTLY);
        database.drained().await;
        relay.signal(Signal::SIGKILL);
        relay.ended().await;
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    let last = Relay::start(&database, &kafka::bootstrap(), &EXACTLY).await;
    database.drained().await;
    last.stop().await.unwrap();
    // Once, and once more for the replay; the third time the note of the second counts.
    assert_eq!(kafka::read_committed(&kafka::bootstrap(), &topic).await.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_owner_is_fenced_and_nothing_of_its_transaction_counts() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let writers = Writers::start(&database, &topic, 4, 20).await;
    let zombie = Process::start(&database, &kafka::bootstrap(), &EXACTLY);
    database.progress(50).await;
    zombie.signal(Signal::SIGSTOP);
    let successor = Relay::start(&database, &kafka::bootstrap(), &EXACTLY).await;
    database.progress(50).await;
    zombie.signal(Signal::SIGCONT);
    database.is_shared(&[32, 32]).await;
    database.progress(50).await;
    let versions = writers.end().await;
    database.drained().await;
    zombie.signal(Signal::SIGTERM);
    assert_eq!(zombie.ended().await, Some(0));
    successor.stop().await.unwrap();
    let messages = kafka::read_committed(&kafka::bootstrap(), &topic).await;
    assert_eq!(kafka::judge(&messages, &versions), kafka::Verdict::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_measures_what_it_has_sent_and_what_kafka_refuses() {
    let (database, known) = (Database::fresh().await, kafka::topic().await);
    let narrow = format!("{known}-narrow");
    kafka::create(&narrow, &[("max.message.bytes", "1000")]).await;
    let mut connection = database.connect().await;
    let measured =
        [EXACTLY.as_slice(), &["--measure-every", "50ms", "--compression", "none"]].concat();
    let relay = Relay::start(&database, &kafka::bootstrap(), &measured).await;
    append_many(&mut connection, &known, 1, 300).await;
    database.drained().await;
    let metric = async |name: &str| relay.metric(name).await;
    assert_eq!(metric("messaging_client_sent_messages_total").await, 300.0);
    crate::eventually("all are counted", async || {
        metric("outbox_relay_published_total").await == 300.0
    })
    .await;
    assert!(metric("outbox_wait_duration_seconds_count").await > 0.0);
    assert_eq!(metric("outbox_relay_window_rows_sum").await, 300.0);
    assert_eq!(metric("outbox_relay_in_flight_bytes").await, 0.0);
    crate::eventually("nothing is left", async || metric("outbox_backlog").await == 0.0).await;
    assert_eq!(metric("outbox_parked").await, 0.0);

    // The transaction that the large one was in has failed: nothing of it is on its way any more.
    append(&mut connection, &narrow, "a", Some(&[7; 5_000])).await;
    crate::eventually("it is parked", async || metric("outbox_parked").await == 1.0).await;
    append(&mut connection, &narrow, "a", Some(b"behind")).await;
    crate::eventually("so is its key", async || metric("outbox_parked").await == 2.0).await;
    assert_eq!(metric("outbox_parked_keys").await, 1.0);
    assert_eq!(metric("outbox_relay_in_flight_bytes").await, 0.0);
    let (_, page) = relay.page("/metrics").await;
    let refused =
        r#"messaging_client_operation_duration_seconds_count{error_type="MessageSizeTooLarge""#;
    assert!(page.contains(refused), "{page}");
    relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_key_goes_out_exactly_once_too() {
    let (database, known) = (Database::fresh().await, kafka::topic().await);
    let unknown = format!("{known}-later");
    let mut connection = database.connect().await;
    let relay = Process::start(&database, &kafka::bootstrap(), &EXACTLY);
    change(&mut connection, &unknown, "a").await;
    for key in ["a", "b", "a", "b"] {
        change(&mut connection, &known, key).await;
    }
    database.drained().await;
    relay.signal(Signal::SIGKILL);
    relay.ended().await;
    kafka::create(&unknown, &[]).await;
    append(&mut connection, &known, "a", Some(b"4")).await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &EXACTLY).await;
    database.drained().await;
    crate::eventually("nothing is parked", async || {
        sqlx::query("select from messaging.outbox_parked")
            .fetch_optional(&mut connection)
            .await
            .unwrap()
            .is_none()
    })
    .await;
    append(&mut connection, &known, "a", Some(b"5")).await;
    database.drained().await;
    relay.stop().await.unwrap();
    let numbers = kafka::by_key(&kafka::read_committed(&kafka::bootstrap(), &known).await);
    assert_eq!(
        (numbers["a"].as_slice(), numbers["b"].as_slice()),
        (&[2, 3, 4, 5][..], &[1, 2][..])
    );
    let unknown = kafka::by_key(&kafka::read_committed(&kafka::bootstrap(), &unknown).await);
    assert_eq!(unknown["a"], [1]);
}
