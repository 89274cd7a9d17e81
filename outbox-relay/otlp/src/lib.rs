//! Where spans and metrics of a process go: an OTLP collector, which may be away. Nobody waits for it: what finds no room is
//! dropped and counted, and that it is away is said once. It is called as the standard variables say (`OTEL_EXPORTER_OTLP_*`,
//! `OTEL_BSP_SCHEDULE_DELAY`).

mod collector;
mod encoding;
mod error;
mod metrics;
mod spans;
mod variables;

pub use error::Error;
pub use metrics::{Metrics, metrics};
pub use spans::{Room, Spans};
