//! What every service shares: it starts, listens, reacts and stops the same way everywhere.
//! The outbox and the inbox are here: a state change and its events commit together or not at all.

pub mod config;
pub mod saga;
pub mod service;
pub mod site;

pub mod call;
pub mod cause;
pub mod clock;
pub mod doorbell;
pub mod envelope;
pub mod idempotency;
pub mod outbox;

pub mod consumer;
pub mod inbox;
pub mod operations;
pub mod parked;
pub mod policy;
pub mod progress;
pub mod trail;

pub mod page_token;
pub mod status;
pub mod switches;
pub mod violations;
pub mod watch;
pub mod wire;

pub mod housekeeping;
pub mod spans;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

mod allocator;
mod answered;
mod answering;
mod batch;
mod consumption;
mod database;
mod failure;
mod health;
mod logs;
mod measuring;
mod metrics;
mod running;
mod trace_context;
