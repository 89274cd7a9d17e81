//! Sagas as metrics show them: how long each took to settle, how many have not, and how long the oldest of those waits.

use chrono::TimeDelta;
use futures::future::BoxFuture;
use opentelemetry::KeyValue;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{cause::Coordination, measuring, metrics};

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
    let instruments = metrics::instruments();
    let ask = || -> BoxFuture<'static, _> {
        let pool = pool.clone();
        Box::pin(async move { sqlx::query_as(statement).fetch_one(&pool).await })
    };
    let record = |(unsettled, oldest): (i64, f64)| {
        instruments.saga_unsettled.record(unsettled, &[]);
        instruments.saga_oldest_unsettled.record(oldest, &[]);
    };
    measuring::watch("unsettled sagas", &instruments.saga_measured, ask, record, shutdown).await;
    Ok(())
}

/// Measures those that wait for a person, every few seconds until told to stop. The statement answers how many there are.
pub async fn watch_parked(
    pool: PgPool,
    statement: &'static str,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let instruments = metrics::instruments();
    let ask = || -> BoxFuture<'static, _> {
        let pool = pool.clone();
        Box::pin(async move { sqlx::query_scalar(statement).fetch_one(&pool).await })
    };
    let record = |parked: i64| instruments.saga_parked.record(parked, &[]);
    measuring::watch("parked sagas", &instruments.saga_measured, ask, record, shutdown).await;
    Ok(())
}
