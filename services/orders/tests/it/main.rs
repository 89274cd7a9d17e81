//! orders on a real Postgres: what it answers, what it decides when it hears from the others, and what it tells.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod shop;

mod commands;
mod fates;
mod placing;
mod replica;
mod stock_checks;

mod groups;
mod input;
mod listing;
mod requests;
mod watching;

mod batches;
mod rebalance;

mod reconciling;
mod rows;

mod operations;
mod program;
mod server;
mod shutdown;
