//! products on a real Postgres: what it does when it hears of orders, and what it answers.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod shop;

mod calls;
mod commands;
mod reactions;
mod reservations;

mod batches;
mod rebalance;

mod retries;
