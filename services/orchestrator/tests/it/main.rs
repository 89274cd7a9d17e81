//! The orchestrator against a real Postgres. Every test has a database of its own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod driving;
mod listing;
mod program;
mod retrying;
mod shop;
mod verbs;
mod watching;
