//! Emptying the ring: a child whose rows are all acknowledged is truncated, never a batch deleted. The rules live in
//! `messaging.rotate_outbox`; what cannot be locked at once is left for the next round.

use std::time::Duration;

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::{Error, cluster, config::Source, error::postgres, metrics::Metrics};

/// How many children the ring has.
const CHILDREN: i32 = 4;

/// `lock_not_available`.
const BUSY: &str = "55P03";

/// Looks after one database's ring.
#[derive(Debug)]
pub struct Rotation {
    /// Which database.
    pub source: Source,
    /// The pause between two rounds.
    pub every: Duration,
    /// Where truncations are counted.
    pub metrics: Metrics,
}

impl Rotation {
    /// Rotates until told to stop. A ring that cannot be emptied grows, but its rows are still shipped.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut connection = None;
        let mut failing = false;
        while stop.run_until_cancelled(tokio::time::sleep(self.every)).await.is_some() {
            let Some(done) = stop.run_until_cancelled(self.step(&mut connection)).await else {
                return;
            };
            if let Err(error) = &done {
                connection = None;
                if !failing {
                    tracing::warn!(
                        source = self.source.name,
                        error = error.chain(),
                        "the ring is not emptied"
                    );
                }
            }
            failing = done.is_err();
        }
    }

    /// Tries each child once, each in a transaction of its own, and returns how many were truncated.
    ///
    /// # Errors
    /// Postgres'; a lock that was not granted is not one.
    pub async fn step(&self, connection: &mut Option<PgConnection>) -> Result<usize, Error> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(cluster::connect(&self.source.database).await?),
        };
        let mut truncated = 0;
        for child in 0..CHILDREN {
            let done = sqlx::query_scalar::<_, bool>("select messaging.rotate_outbox($1)")
                .bind(child)
                .fetch_one(&mut *connection)
                .await;
            match done {
                Ok(false) => {}
                Ok(true) => {
                    truncated += 1;
                    self.metrics.rotated();
                    tracing::debug!(child, "truncated an acknowledged child of the ring");
                }
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(BUSY) => {
                    self.metrics.rotation_blocked()
                }
                Err(error) => return Err(postgres("rotating the ring")(error)),
            }
        }
        Ok(truncated)
    }
}
