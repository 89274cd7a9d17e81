//! The chassis on a real Postgres and a real Kafka: what it promises to the services that stand on it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod diary;
mod letter;

mod commands;
mod parking;
mod races;
mod redrive;

mod faults;
mod hostile;

mod housekeeping;
mod outbox;
mod plans;
mod requests;

mod kafka;
mod refusals;
