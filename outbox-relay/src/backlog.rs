//! How much is waiting and how much is parked, asked of the database by SQL and apart from the shipping: a relay that is
//! stuck, or a standby, still tells the truth about the outbox.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::{Error, cluster, config::Source, error::postgres, metrics::Metrics};

/// Counting stops here: an alarm needs no more, and the count stays cheap.
pub(crate) const COUNTED: i64 = 100_000;

/// What is parked is counted no further than here.
const PARKED_COUNTED: i64 = 10_000;

/// Measures one database.
#[derive(Debug)]
pub struct Backlog {
    /// Which database.
    pub source: Source,
    /// The pause between two measurements.
    pub every: Duration,
    /// Where they go.
    pub metrics: Metrics,
}

impl Backlog {
    /// Measures until told to stop; an error makes the gauges stale and is tried again.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut connection = None;
        loop {
            match stop.run_until_cancelled(self.step(&mut connection)).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    connection = None;
                    self.metrics.backlog_unknown();
                    tracing::debug!(
                        source = self.source.name,
                        error = error.chain(),
                        "the backlog could not be measured"
                    );
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(self.every)).await.is_none() {
                return;
            }
        }
    }

    /// Measures once, connecting first if need be.
    ///
    /// # Errors
    /// Postgres'.
    pub async fn step(&self, connection: &mut Option<PgConnection>) -> Result<(), Error> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(cluster::connect(&self.source.database).await?),
        };
        let (rows, age) =
            sqlx::query_as::<_, (i64, f64)>(AssertSqlSafe(self.source.table.backlog()))
                .bind(COUNTED)
                .fetch_one(&mut *connection)
                .await
                .map_err(postgres("measuring the backlog"))?;
        let (parked, keys) = parked(connection).await?;
        self.metrics.parked_now(parked.unsigned_abs(), keys.unsigned_abs());
        self.metrics.backlog(rows.unsigned_abs(), Duration::from_secs_f64(age.max(0.0)));
        Ok(())
    }
}

/// How many rows are parked and how many keys they have, of the first [`PARKED_COUNTED`].
async fn parked(connection: &mut PgConnection) -> Result<(i64, i64), Error> {
    sqlx::query_as(
        "select count(*), count(distinct key)
         from (
             select key
             from messaging.outbox_parked
             order by key
             limit $1
         ) as parked",
    )
    .bind(PARKED_COUNTED)
    .fetch_one(connection)
    .await
    .map_err(postgres("counting what is parked"))
}
