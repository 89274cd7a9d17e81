//! How far a database has been shipped. A cursor moves only over rows that Kafka has acknowledged, and only while
//! the lease's epoch holds.

use std::sync::Arc;

use sqlx::PgConnection;

use crate::{Error, error::postgres, lease::Grant};

/// A Postgres snapshot in its text form: which transactions had committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(Arc<str>);

impl Snapshot {
    /// The text that Postgres reads back as pg_snapshot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Snapshot {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// Every row visible in `acked` is in Kafka; of the window up to `within.target`, every row up to `within.sent_seq` is too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The last window that is done.
    pub acked: Snapshot,
    /// How far the window after it has come, if it has begun.
    pub within: Option<Within>,
}

/// A position inside a window: its rows are those visible in `target` and not in the cursor's `acked`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// The frozen end of the window.
    pub target: Snapshot,
    /// The last row, in sequence order, up to which all are acknowledged.
    pub sent_seq: i64,
}

impl Cursor {
    /// Writes the position to all shards of the lease.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when the epoch is no longer ours; then nothing was written.
    pub async fn record(&self, connection: &mut PgConnection, grant: &Grant) -> Result<(), Error> {
        let moved = sqlx::query(
            "update messaging.outbox_cursor
             set acked = $3::text::pg_snapshot,
                 target = $4::text::pg_snapshot,
                 sent_seq = $5
             where owner = $1
               and epoch = $2",
        )
        .bind(&grant.owner)
        .bind(grant.epoch)
        .bind(self.acked.as_str())
        .bind(self.within.as_ref().map(|within| within.target.as_str()))
        .bind(self.within.as_ref().map(|within| within.sent_seq))
        .execute(connection)
        .await
        .map_err(postgres("moving the cursor"))?;
        grant.confirm(moved.rows_affected())
    }
}
