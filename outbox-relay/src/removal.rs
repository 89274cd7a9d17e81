//! Deleting acknowledged rows of a table that is not ours, if its owner wants that: in small batches, apart from the
//! shipping. The price is a dead tuple per event; our own table pays nothing, because its ring is truncated.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::{Error, cluster, config::Source, error::postgres, metrics::Metrics};

/// How many rows go at once: locks and WAL in small portions.
const BATCH: usize = 1_000;

/// Looks after one database's acknowledged rows.
#[derive(Debug)]
pub struct Removal {
    /// Which database.
    pub source: Source,
    /// The pause between two rounds.
    pub every: Duration,
    /// Where deletions are counted.
    pub metrics: Metrics,
}

/// Where a round begins.
#[derive(Debug, Default)]
pub struct Position {
    connection: Option<PgConnection>,
    /// Nothing of transactions below this one is left, nor will there ever be: they had ended when their rows were
    /// deleted. It spares the next round the walk through what is deleted and not yet vacuumed.
    from_xid: u64,
}

impl Removal {
    /// Deletes until told to stop. Rows that cannot be deleted are still shipped.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut position = Position::default();
        let mut failing = false;
        while stop.run_until_cancelled(tokio::time::sleep(self.every)).await.is_some() {
            let Some(done) = stop.run_until_cancelled(self.step(&mut position)).await else {
                return;
            };
            if let Err(error) = &done {
                position.connection = None;
                if !failing {
                    tracing::warn!(
                        source = self.source.name,
                        error = error.chain(),
                        "acknowledged rows are not deleted"
                    );
                }
            }
            failing = done.is_err();
        }
    }

    /// One round: batch after batch, each in a transaction of its own, until none is left. Returns how many rows went.
    ///
    /// # Errors
    /// Postgres'.
    pub async fn step(&self, position: &mut Position) -> Result<usize, Error> {
        let Position { connection, from_xid } = position;
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(cluster::connect(&self.source.database).await?),
        };
        let mut deleted = 0;
        loop {
            let statement = AssertSqlSafe(self.source.table.delete_acknowledged());
            let transactions: Vec<String> = sqlx::query_scalar(statement)
                .bind(from_xid.to_string())
                .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
                .fetch_all(&mut *connection)
                .await
                .map_err(postgres("deleting acknowledged rows"))?;
            let last = transactions.iter().filter_map(|xid| xid.parse().ok()).max();
            *from_xid = last.unwrap_or(0).max(*from_xid);
            deleted += transactions.len();
            self.metrics.removed(transactions.len() as u64);
            if transactions.len() < BATCH {
                return Ok(deleted);
            }
        }
    }
}
