//! The doorbell: writers notify the channel `outbox` after their commit, and the reader polls at once. It carries
//! nothing and promises nothing; without it a row waits for the next poll.

use std::{sync::Arc, time::Duration};

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Error, backoff::Backoff, database::Database, error::postgres};

/// The channel that writers notify.
pub const CHANNEL: &str = "outbox";

/// Listens at one database.
#[derive(Debug)]
pub struct Doorbell {
    /// Where to listen.
    pub database: Database,
    /// The source's name, for the log.
    pub source: String,
    /// What the reader waits for.
    pub bell: Arc<Notify>,
}

impl Doorbell {
    /// Listens until told to stop, and connects again whenever it is cut off.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let mut deaf = false;
        loop {
            let heard = stop.run_until_cancelled(self.listen(&mut backoff, &mut deaf)).await;
            let Some(Err(error)) = heard else { return };
            if !deaf {
                deaf = true;
                tracing::warn!(
                    source = self.source,
                    error = error.chain(),
                    "the doorbell is out of order; polling alone goes on"
                );
            }
            if stop.run_until_cancelled(tokio::time::sleep(backoff.pause())).await.is_none() {
                return;
            }
        }
    }

    async fn listen(&self, backoff: &mut Backoff, deaf: &mut bool) -> Result<(), Error> {
        let options = self.database.options()?.application_name("outbox-relay doorbell");
        self.hear(options, backoff, deaf).await.map_err(postgres("listening"))
    }

    /// Rings for every notification until the connection is lost.
    async fn hear(
        &self,
        options: PgConnectOptions,
        backoff: &mut Backoff,
        deaf: &mut bool,
    ) -> Result<(), sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        if std::mem::take(deaf) {
            tracing::info!(source = self.source, "the doorbell works again");
        }
        backoff.reset();
        while listener.try_recv().await?.is_some() {
            self.bell.notify_one();
        }
        Err(sqlx::Error::PoolClosed)
    }
}
