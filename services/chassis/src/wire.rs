//! Times between Rust and protobuf.

use chrono::{DateTime, Datelike as _, Utc};
use proto::Timestamp;

/// A time as protobuf has it.
pub fn timestamp(time: DateTime<Utc>) -> Timestamp {
    // Below a billion, even in a leap second's doubled one after the modulo.
    Timestamp {
        seconds: time.timestamp(),
        nanos: (time.timestamp_subsec_nanos() % 1_000_000_000) as i32,
    }
}

/// A time from protobuf; none when it is not within its years 1 to 9999.
pub fn time(timestamp: &Timestamp) -> Option<DateTime<Utc>> {
    let nanos = u32::try_from(timestamp.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    DateTime::from_timestamp(timestamp.seconds, nanos)
        .filter(|time| (1..=9999).contains(&time.year()))
}
