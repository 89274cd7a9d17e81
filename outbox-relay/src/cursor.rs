//! How far a database has been shipped, shard by shard. A cursor moves only over rows that Kafka has acknowledged, and
//! only while the lease holds.

use std::sync::Arc;

use sqlx::{Connection, PgConnection};

use crate::{Error, error::postgres, lease::Grant, shards::Shards};

/// A Postgres snapshot in its text form: which transactions had committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(Arc<str>);

impl Snapshot {
    /// The text that Postgres reads back as pg_snapshot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Snapshot {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// Every row visible in `acked` is in Kafka; of the window up to `within.target`, every row up to `within.sent_seq` is too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The last window that is done.
    pub acked: Snapshot,
    /// How far the window after it has come, if it has begun.
    pub within: Option<Within>,
}

/// A position inside a window: its rows are those visible in `target` and not in the cursor's `acked`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// The frozen end of the window.
    pub target: Snapshot,
    /// The last row, in sequence order, up to which all are acknowledged.
    pub sent_seq: i64,
}

/// Shards that stand at the same position, and are therefore read and moved as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Which.
    pub shards: Shards,
    /// Where they stand.
    pub cursor: Cursor,
}

impl Lane {
    /// The shards that a lease holds and nobody has paused, by their positions.
    ///
    /// # Errors
    /// Postgres'.
    pub async fn load(connection: &mut PgConnection, grant: &Grant) -> Result<Vec<Self>, Error> {
        let rows = sqlx::query_as::<_, (i64, String, Option<String>, Option<i64>)>(
            "select bit_or(1::bigint << shard),
                    acked::text,
                    target::text,
                    sent_seq
             from messaging.outbox_standing
             where owner = $1
               and not paused
             group by acked::text, target::text, sent_seq
             order by min(shard)",
        )
        .bind(grant.owner())
        .fetch_all(connection)
        .await
        .map_err(postgres("reading the cursor"))?;
        let lane = |(mask, acked, target, sent_seq): (i64, String, Option<String>, Option<i64>)| {
            let within = target
                .zip(sent_seq)
                .map(|(target, sent_seq)| Within { target: target.into(), sent_seq });
            let cursor = Cursor { acked: acked.into(), within };
            Self { shards: Shards::from_mask(mask), cursor }
        };
        Ok(rows.into_iter().map(lane).collect())
    }

    /// Writes the position of the lane: to all of its shards, which from then on follow the first of them, or, once they do,
    /// to that one alone.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when not all of them are ours any more; then nothing is written.
    pub async fn record(
        &self,
        connection: &mut PgConnection,
        grant: &Grant,
        to: Followers,
    ) -> Result<(), Error> {
        match to {
            Followers::Told => self.write(connection, grant, self.shards.first()).await,
            // All or none: a shard of ours must never follow one that is another's by now.
            Followers::New => {
                let mut all = connection.begin().await.map_err(postgres("moving the cursor"))?;
                self.write(&mut all, grant, self.shards).await?;
                all.commit().await.map_err(postgres("moving the cursor"))
            }
        }
    }

    async fn write(
        &self,
        connection: &mut PgConnection,
        grant: &Grant,
        written: Shards,
    ) -> Result<(), Error> {
        let within = self.cursor.within.as_ref();
        let moved = sqlx::query(
            "update messaging.outbox_cursor
             set acked = $3::text::pg_snapshot,
                 target = $4::text::pg_snapshot,
                 sent_seq = $5,
                 follows = nullif($6, shard)
             where owner = $1
               and shard = any ($2)",
        )
        .bind(grant.owner())
        .bind(written.numbers())
        .bind(self.cursor.acked.as_str())
        .bind(within.map(|within| within.target.as_str()))
        .bind(within.map(|within| within.sent_seq))
        .bind(self.shards.first().numbers().first().copied())
        .execute(connection)
        .await
        .map_err(postgres("moving the cursor"))?;
        if moved.rows_affected() == u64::from(written.len()) {
            Ok(())
        } else {
            Err(Error::LeaseLost("another relay has taken over"))
        }
    }
}

/// Whether the shards of a lane follow its first one already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followers {
    /// Every one has to be written.
    New,
    /// The first one speaks for all.
    Told,
}

/// Gives every shard of an owner a position of its own again. Before anything is done to some of them only.
///
/// # Errors
/// Postgres'.
pub async fn spread(connection: &mut PgConnection, owner: &str) -> Result<(), Error> {
    sqlx::query(
        "update messaging.outbox_cursor shard
         set acked = stand.acked,
             target = stand.target,
             sent_seq = stand.sent_seq,
             follows = null
         from messaging.outbox_cursor stand
         where stand.shard = shard.follows
           and shard.owner = $1",
    )
    .bind(owner)
    .execute(connection)
    .await
    .map_err(postgres("spreading the cursor"))?;
    Ok(())
}
