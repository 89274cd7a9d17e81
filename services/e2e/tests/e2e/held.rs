//! A service that is held by a lock in its database, so that what comes to it waits. It lives, and may be killed like that.

use anyhow::bail;
use local::Part;
use sqlx::{PgPool, Postgres, Transaction};

use crate::shop::{Shop, until};

/// What a held service comes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    /// It answers calls, and handles nothing that it hears.
    Deaf,
    /// It has written what follows from what it heard, and does not come to commit it. Calls that change something wait
    /// too.
    Uncommitted,
}

/// A service that is held.
pub(crate) struct Held {
    database: PgPool,
    table: &'static str,
    holder: Transaction<'static, Postgres>,
}

impl Held {
    /// Waits for the transactions that are under way, and stops those that come.
    pub(crate) async fn new(shop: &Shop, part: Part, hold: Hold) -> anyhow::Result<Self> {
        let (table, mode) = match hold {
            // Read in front of every batch, and by no call.
            Hold::Deaf => ("messaging.inbox_parked", "exclusive"),
            // Written after the rows, by whatever has to tell of something.
            Hold::Uncommitted => ("messaging.outbox", "share"),
        };
        let database = shop.database(part).await?;
        let mut holder = database.begin().await?;
        let lock = format!("lock table {table} in {mode} mode");
        sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&mut *holder).await?;
        Ok(Self { database, table, holder })
    }

    /// Waits until it has come to the lock.
    pub(crate) async fn until_it_waits(&self) -> anyhow::Result<()> {
        until(&format!("somebody waits for {}", self.table), async || {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*)
                 from pg_locks
                 where not granted
                   and relation = $1::regclass
                   and database = (select oid from pg_database where datname = current_database())",
            )
            .bind(self.table)
            .fetch_one(&self.database)
            .await?;
            if waiting > 0 { Ok(()) } else { bail!("nobody does") }
        })
        .await
    }

    pub(crate) async fn let_go(self) -> anyhow::Result<()> {
        Ok(self.holder.rollback().await?)
    }
}
