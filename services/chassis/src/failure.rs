//! How an attempt at a batch fails, and the one table of what a database error means for it.

use crate::policy::{Refused, SaveError};

/// How one attempt at a batch ended, when not well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Somebody else was faster, or the database chose this transaction as a victim: again.
    #[error("rolled back: somebody else was faster")]
    Again,
    /// One message of the batch cannot be handled, for this reason.
    #[error("rolled back: a message of the batch is refused: {0}")]
    Poisoned(Refused),
    /// The database is away.
    #[error("rolled back: {0}")]
    Database(sqlx::Error),
}

impl From<SaveError> for Failure {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Conflict => Self::Again,
            SaveError::Sql(error) => error.into(),
        }
    }
}

/// The one table of what a database error means for a batch: the SQLSTATE class decides.
impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        // Not the message's fault but a setting's, and every message would share it: wait until it is mended.
        if error.as_database_error().and_then(|error| error.constraint())
            == Some("outbox_needs_synchronous_commit")
        {
            return Self::Database(error);
        }
        let code =
            error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
        match code.as_deref() {
            // Serialization failure, deadlock victim.
            Some("40001" | "40P01") => Self::Again,
            // A value, a constraint, or a limit such as an index entry's size: this batch will never pass.
            Some(code) if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => {
                Self::Poisoned(Refused(format!("the database refuses it: {error}")))
            }
            // Everything else heals, or needs an operator at the database: connections, disk, memory, shutdown.
            _ => Self::Database(error),
        }
    }
}
