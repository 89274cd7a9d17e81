//! What every service shares: it starts, listens, reacts and stops the same way everywhere.
//! The outbox and the inbox are here: a state change and its events commit together or not at all.

pub mod cause;
pub mod clock;
pub mod envelope;
pub mod inbox;
pub mod outbox;
pub mod parked;
pub mod policy;
pub mod telemetry;
pub mod trail;
