//! Empties what has expired: the trail's slot of a month ago, and old request ids.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{clock, trail};

const EVERY: Duration = Duration::from_secs(3600);
/// The trail is kept this long.
pub const TRAIL_KEPT: chrono::Duration = chrono::Duration::days(30);
/// Request ids are kept this long; a retry after that is a new request.
pub const REQUESTS_KEPT: chrono::Duration = chrono::Duration::days(7);

/// Repeats [`step`] every hour until told to stop.
pub(crate) async fn run(pool: PgPool, shutdown: CancellationToken) {
    loop {
        let swept = async { step(&mut *pool.acquire().await?, clock::now()).await }.await;
        if let Err(error) = swept {
            tracing::warn!(%error, "housekeeping will be tried again in an hour");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Truncates the slots that hold nothing younger than [`TRAIL_KEPT`], and deletes request ids older than
/// [`REQUESTS_KEPT`].
pub async fn step(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query("delete from messaging.requests where created_at < $1")
        .bind(now - REQUESTS_KEPT)
        .execute(&mut *conn)
        .await?;
    // Tomorrow's slot is the one of 31 days ago; the next two catch up with a process that was down.
    for days in 1..=2 {
        let slot = trail::slot(now + chrono::Duration::days(days));
        let mut tx = conn.begin().await?;
        let expired: bool = sqlx::query_scalar(
            // An event of a future time counts from when it was handled, or it would keep its slot for ever.
            "select coalesce(max(least(created_at, handled_at)) < $2, false)
             from messaging.trail
             where slot = $1",
        )
        .bind(slot)
        .bind(now - TRAIL_KEPT)
        .fetch_one(&mut *tx)
        .await?;
        if expired {
            sqlx::query("set local lock_timeout = '1s'").execute(&mut *tx).await?;
            let truncate = sqlx::AssertSqlSafe(format!("truncate only messaging.trail_{slot}"));
            sqlx::query(truncate).execute(&mut *tx).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}
