//! Several databases in one process.

use std::{sync::Arc, time::Duration};

use outbox_relay::{backoff::Backoff, health::Board, metrics::Telemetry, source::Supervisor};
use sqlx::{Executor, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::{
    database::{Database, append_many},
    kafka,
    relay::{Relay, config},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_missing_does_not_stop_the_other() {
    let (here, topic) = (Database::fresh().await, kafka::topic().await);
    let missing = here.relay_url().replace(&here.name, "not_there_yet");
    let relay =
        Relay::of(&[("here", &here.relay_url()), ("missing", &missing)], &kafka::bootstrap(), &[])
            .await;
    append_many(&mut here.connect().await, &topic, 1, 100).await;
    here.drained().await;
    relay.says("here: shipping").await;
    relay.says("missing: failing: Postgres: connecting").await;
    assert_eq!(relay.page("/readyz").await.0, 503);
    assert_eq!(relay.page("/healthz").await.0, 200);
    let (_, metrics) = relay.page("/metrics").await;
    let documented = include_str!("../../README.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for name in
        documented.filter(|name| name.starts_with("outbox_") || name.starts_with("messaging_"))
    {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{name} is missing in\n{metrics}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cuts_its_connections_is_shipped_again() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    let mut connection = database.connect().await;
    for round in 0..3 {
        relay.says("test: shipping").await;
        append_many(&mut connection, &topic, round * 1000 + 1, 1000).await;
        cut(&mut connection).await;
    }
    database.drained().await;
    relay.stop().await.unwrap();
    let mut numbers: Vec<i64> = kafka::by_key(&kafka::read(&kafka::bootstrap(), &topic).await)
        .into_values()
        .flatten()
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (1..=3000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_fails_as_soon_as_it_has_joined_comes_back_ever_more_slowly() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    let supervisor = supervisor(&database);
    let mut backoff = tried();
    connection.execute("revoke select on messaging.outbox_parked from outbox_relay").await.unwrap();
    let failed = supervisor.step(&CancellationToken::new(), &mut backoff).await;
    assert!(failed.is_err());
    let had_joined: bool =
        sqlx::query_scalar("select bool_or(epoch > 0) from messaging.outbox_cursor")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert!(had_joined);
    assert!(backoff.pause() >= LATER / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_fails_after_a_full_lease_comes_back_at_once() {
    let database = Database::fresh().await;
    let supervisor = supervisor(&database);
    let mut backoff = tried();
    let stop = CancellationToken::new();
    let cut = async {
        let mut connection = database.connect().await;
        crate::eventually("the lease has lasted for longer than it does unrenewed", async || {
            sqlx::query_scalar(
                "select exists (
                     select
                     from messaging.outbox_relay
                     where started_at < clock_timestamp() - interval '1200 milliseconds')",
            )
            .fetch_one(&mut connection)
            .await
            .unwrap()
        })
        .await;
        cut(&mut connection).await;
    };
    let (failed, ()) = tokio::join!(supervisor.step(&stop, &mut backoff), cut);
    assert!(failed.is_err());
    assert!(backoff.pause() <= FIRST);
}

const FIRST: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_millis(8);

fn supervisor(database: &Database) -> Supervisor {
    let terms = ["--delivery-timeout", "200ms", "--lease", "600ms", "--renew-every", "100ms"];
    let config = config(database, &kafka::bootstrap(), &terms);
    let source = config.given.all().next().unwrap().clone();
    let metrics = Telemetry::new().unwrap().source(&source.name);
    Supervisor::new(Arc::new(config), source, metrics, Board::default())
}

/// As after three failures: the next pause is at least half of [`LATER`], unless it starts over with [`FIRST`].
fn tried() -> Backoff {
    let mut backoff = Backoff::new(FIRST, LATER);
    for _ in 0..3 {
        backoff.pause();
    }
    backoff
}

/// Ends every connection of the relay.
async fn cut(connection: &mut PgConnection) {
    connection
        .execute(
            "select pg_terminate_backend(pid)
             from pg_stat_activity
             where datname = current_database()
               and usename = 'outbox_relay'",
        )
        .await
        .unwrap();
}
