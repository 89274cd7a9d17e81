//! Several databases in one process.

use sqlx::Executor;

use crate::{
    database::{Database, append_many},
    kafka,
    relay::Relay,
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
