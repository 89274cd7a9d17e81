//! Delivery against a real Postgres. Every test has a database of its own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod batches;
mod calls;
mod commands;
mod listing;
mod parking;
mod program;
mod races;
mod reactions;
mod shop;
