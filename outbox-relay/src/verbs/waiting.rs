//! Waiting for the relay that carries a wish out, as long as there is one.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

use super::error::{Error, doing};

/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How the waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done.
    Done,
    /// No relay runs that could do it.
    NobodyRuns,
    /// Not yet.
    NotYet,
}

impl Outcome {
    /// What is to be said if it is not done.
    pub(crate) fn excuse(self) -> Option<&'static str> {
        match self {
            Self::Done => None,
            Self::NobodyRuns => Some("no relay runs: the next one will do it"),
            Self::NotYet => Some("the relay has not come to it yet: it will"),
        }
    }
}

/// Looks until the answer is yes, or waiting makes no sense any more.
///
/// # Errors
/// Postgres'.
pub(crate) async fn until(
    connection: &mut PgConnection,
    patience: Duration,
    mut is_done: impl AsyncFnMut(&mut PgConnection) -> Result<bool, Error>,
) -> Result<Outcome, Error> {
    let deadline = Instant::now() + patience;
    loop {
        if is_done(connection).await? {
            return Ok(Outcome::Done);
        }
        if !somebody_runs(connection).await? {
            return Ok(Outcome::NobodyRuns);
        }
        if Instant::now() >= deadline {
            return Ok(Outcome::NotYet);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn somebody_runs(connection: &mut PgConnection) -> Result<bool, Error> {
    sqlx::query_scalar(
        "select exists (
             select
             from messaging.outbox_relay
             where lease_until > clock_timestamp())",
    )
    .fetch_one(connection)
    .await
    .map_err(doing("looking for relays"))
}
