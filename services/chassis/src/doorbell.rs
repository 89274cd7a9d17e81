//! Tells the relay that there is something in the outbox: after the commit, never inside the business transaction, where a
//! NOTIFY would make all commits wait for each other. A lost ring costs latency only, since the relay polls.

use std::{sync::Arc, time::Duration};

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The channel the relay listens on.
pub const CHANNEL: &str = "outbox";

/// Rings while one is on its way are one ring; this long a pause follows each.
const PAUSE: Duration = Duration::from_millis(1);
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Rings for whoever commits. Cheap to clone, never blocks.
#[derive(Clone, Debug, Default)]
pub struct Doorbell(Arc<Notify>);

impl Doorbell {
    /// Call it after a commit that appended events.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Carries the rings to the database until told to stop.
    pub async fn carry(self, options: PgConnectOptions, shutdown: CancellationToken) {
        let mut line: Option<PgConnection> = None;
        loop {
            tokio::select! {
                () = self.0.notified() => {}
                () = shutdown.cancelled() => return,
            }
            let pause = match carry_one(&mut line, &options).await {
                Ok(()) => PAUSE,
                Err(error) => {
                    tracing::debug!(%error, "the doorbell did not ring");
                    line = None;
                    RECONNECT_AFTER
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

async fn carry_one(
    line: &mut Option<PgConnection>,
    options: &PgConnectOptions,
) -> sqlx::Result<()> {
    let conn = match line {
        Some(conn) => conn,
        None => line.insert(PgConnection::connect_with(options).await?),
    };
    sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(conn).await?;
    Ok(())
}
