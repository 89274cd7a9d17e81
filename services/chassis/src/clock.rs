//! The one place that reads the clock; everything else is told the time.

use chrono::{DateTime, SubsecRound, Utc};

/// Now, to the microsecond: what Postgres keeps.
pub fn now() -> DateTime<Utc> {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    Utc::now().trunc_subsecs(6)
}
