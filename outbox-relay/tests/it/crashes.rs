//! relay.md's sixth, and the ends that are not crashes: killed, stopped, and resumed.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{
    database::{Database, append_many},
    kafka,
    relay::{Process, Relay},
    writers::Writers,
};

const SHORT: [&str; 6] = ["--delivery-timeout", "1s", "--lease", "2s", "--renew-every", "200ms"];

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_loses_nothing_and_repeats_at_most_what_was_on_its_way() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let writers = Writers::start(&database, &topic, 8, 40).await;
    // A row weighs at least 256 bytes: at most 256 rows on their way. Twice the cursor is written late, so that the kill
    // falls between the acknowledgement and the cursor; twice rows linger unsent, and a hasty cursor would lose them.
    let window = 256;
    let bounded = [SHORT.as_slice(), &["--in-flight-bytes", "65536"]].concat();
    let late_cursor = [bounded.as_slice(), &["--record-every", "400ms"]].concat();
    let late_send = [bounded.as_slice(), &["--record-every", "1ms", "--linger", "200ms"]].concat();
    let kills = [&late_cursor, &late_send, &late_cursor, &late_send];
    for arguments in kills {
        let relay = Process::start(&database, &kafka::bootstrap(), arguments);
        database.progress(50).await;
        tokio::time::sleep(Duration::from_millis(rand::random_range(200..900))).await;
        relay.signal(Signal::SIGKILL);
        assert_eq!(relay.ended().await, None);
    }
    let last = Process::start(&database, &kafka::bootstrap(), &bounded);
    let versions = writers.end().await;
    database.drained().await;
    last.signal(Signal::SIGTERM);
    assert_eq!(last.ended().await, Some(0));

    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    let verdict = kafka::judge(&messages, &versions);
    assert_eq!((verdict.lost, verdict.inverted), (0, 0), "{verdict:?}");
    assert!(verdict.duplicated <= kills.len() * window, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_relay_moves_the_cursor_so_that_nothing_is_sent_twice() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let writers = Writers::start(&database, &topic, 8, 40).await;
    for _ in 0..3 {
        let relay = Process::start(&database, &kafka::bootstrap(), &["--record-every", "2s"]);
        database.progress(50).await;
        relay.signal(Signal::SIGTERM);
        assert_eq!(relay.ended().await, Some(0));
    }
    let last = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    let versions = writers.end().await;
    database.drained().await;
    last.stop().await.unwrap();
    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    assert_eq!(kafka::judge(&messages, &versions), kafka::Verdict::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_window_is_resumed_in_its_middle() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let rows = 30_000;
    append_many(&mut database.connect().await, &topic, 1, rows).await;
    let slow = ["--page-rows", "500", "--in-flight-bytes", "100000", "--record-every", "5ms"];
    let mut stops_inside = 0;
    loop {
        let relay = Relay::start(&database, &kafka::bootstrap(), &slow).await;
        let before = database.unsent().await;
        crate::eventually("some pages are shipped", async || {
            database.unsent().await < (before - 2_000).max(1)
        })
        .await;
        relay.stop().await.unwrap();
        let inside = sqlx::query_scalar::<_, bool>(
            "select bool_and(target is not null) from messaging.outbox_standing",
        )
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap();
        stops_inside += u32::from(inside);
        if database.unsent().await == 0 {
            break;
        }
    }
    assert!(stops_inside > 0, "the window was never interrupted");
    let numbers = kafka::by_key(&kafka::read(&kafka::bootstrap(), &topic).await);
    assert_eq!(numbers.values().map(Vec::len).sum::<usize>(), usize::try_from(rows).unwrap());
    assert!(numbers.values().all(|numbers| numbers.is_sorted()));
}
