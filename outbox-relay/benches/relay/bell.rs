//! The doorbell as the services ring it: after the commit, on a connection of its own, a millisecond apart at least.

use std::{sync::Arc, time::Duration};

use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
use tokio::sync::Notify;

const PAUSE: Duration = Duration::from_millis(1);

/// Rings for whoever commits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bell(Arc<Notify>);

impl Bell {
    /// Never waits; rings while one is on its way are one.
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }

    /// Carries the rings to the database for ever.
    pub(crate) async fn carry(self, database: PgConnectOptions) -> sqlx::Result<()> {
        let mut line = database.connect().await?;
        loop {
            self.0.notified().await;
            sqlx::query("select pg_notify('outbox', '')").execute(&mut line).await?;
            tokio::time::sleep(PAUSE).await;
        }
    }
}
