//! What a call can fail with, and the one place that says how a caller is told.

use chassis::{
    policy::{Refused, SaveError},
    status,
};
use tonic::Status;
use uuid::Uuid;

use crate::saga::Refusal;

/// Why a call failed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such saga.
    #[error("there is no saga {0}")]
    NotFound(Uuid),
    /// The saga has changed since the caller read it.
    #[error("the version of saga {0} is stale")]
    Stale(Uuid),
    /// The saga's state forbids the verb.
    #[error("saga {0} refuses")]
    Refused(Uuid, #[source] Refusal),
    /// The database failed.
    #[error("read or write sagas")]
    Database(#[from] sqlx::Error),
    /// A locked row was not written.
    #[error("save the saga")]
    Save(#[source] SaveError),
    /// A command could not be written.
    #[error("write a command")]
    Write(#[from] Refused),
    /// A page token could not be written.
    #[error("write a page token")]
    PageToken(#[from] serde_json::Error),
}

impl From<SaveError> for Error {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Sql(error) => Self::Database(error),
            SaveError::Conflict => Self::Save(error),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match &error {
            Error::NotFound(saga_id) => status::not_found("Saga", &saga_id.to_string()),
            Error::Stale(saga_id) => status::stale_version(&saga_id.to_string()),
            Error::Refused(saga_id, refusal) => {
                status::precondition(reason(*refusal), &saga_id.to_string(), &refusal.to_string())
            }
            Error::Database(error) => status::database(error),
            Error::Save(_) | Error::Write(_) | Error::PageToken(_) => status::internal(&error),
        }
    }
}

fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NothingWaits => "NOTHING_TO_RETRY",
        Refusal::NotWaiting => "STEP_NOT_WAITING",
        Refusal::NotSkippable => "STEP_NOT_SKIPPABLE",
        Refusal::TooLate => "TOO_LATE",
        Refusal::NotParked => "NOT_PARKED",
    }
}
