//! The relay against a real Postgres and a real Kafka. Where a broker must misbehave, the client library's mock stands in.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod between_commits;
mod broker;
mod certificates;
mod database;
mod kafka;
mod leash;
mod relay;
mod writers;

mod broker_faults;
mod chaos;
mod contract;
mod crashes;
mod exactly_once;
mod failover;
mod foreign;
mod late_commits;
mod leases;
mod loads;
mod open_writer;
mod parking;
mod plans;
mod ring;
mod secure_broker;
mod secure_postgres;
mod sources;
mod verbs;

use std::time::Duration;

use tokio::time::Instant;

/// Asks until the answer is yes; panics with the sentence when it stays no.
async fn eventually(sentence: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within a minute: {sentence}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn setting(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "tests are configured by the environment alone")]
    std::env::var(name).ok()
}

fn required(name: &str) -> String {
    setting(name).expect("run the tests by `settle infra -- cargo test`, or by `make test`")
}
