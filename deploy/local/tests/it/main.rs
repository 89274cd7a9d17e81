//! The machine of one person: real Postgres, real Kafka, real signals. The services are left out.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod command;
mod deployment;
mod events;
mod jaeger;
mod machine;
