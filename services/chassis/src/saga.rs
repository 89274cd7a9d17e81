//! Sagas as metrics show them: how long each took to settle, how many have not, and how long the oldest of those waits.

use std::time::Duration;

use chrono::TimeDelta;
use opentelemetry::KeyValue;
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{cause::Coordination, metrics};

const EVERY: Duration = Duration::from_secs(5);

/// Counts one that has settled, after the commit that says so.
pub fn settled(coordination: Coordination, outcome: &'static str, took: TimeDelta) {
    let labels =
        [KeyValue::new("coordination", coordination.as_str()), KeyValue::new("outcome", outcome)];
    let took = took.to_std().unwrap_or_default();
    metrics::instruments().saga_duration.record(took.as_secs_f64(), &labels);
}

/// Measures the unsettled ones every few seconds until told to stop. The statement answers one row: how many there are,
/// and the age of the oldest in seconds (0 without one).
pub async fn watch(
    pool: PgPool,
    statement: &'static str,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let asked = timeout(EVERY, sqlx::query_as::<_, (i64, f64)>(statement).fetch_one(&pool));
        let Some(asked) = shutdown.run_until_cancelled(asked).await else { return Ok(()) };
        let instruments = metrics::instruments();
        instruments.saga_measured.record(matches!(asked, Ok(Ok(_))).into(), &[]);
        match asked {
            Ok(Ok((unsettled, oldest))) => {
                instruments.saga_unsettled.record(unsettled, &[]);
                instruments.saga_oldest_unsettled.record(oldest, &[]);
            }
            Ok(Err(error)) => tracing::warn!(%error, "unsettled sagas will be counted again"),
            Err(_) => {
                tracing::warn!(limit = ?EVERY, "the database did not count unsettled sagas in time")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}
