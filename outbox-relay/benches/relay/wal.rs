//! Replication slots: where Debezium reads. One is made before the rows are written, so that it holds exactly these.

use anyhow::{Context as _, ensure};
use sqlx::PgConnection;

use crate::database::Database;

/// A slot for Debezium in one database.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) name: String,
}

impl Slot {
    /// Makes the slot; what commits from now on is kept for it.
    pub(crate) async fn create(database: &Database, variant: &str) -> anyhow::Result<Self> {
        let mut connection = database.connect().await?;
        let level: String = sqlx::query_scalar("select current_setting('wal_level')")
            .fetch_one(&mut connection)
            .await?;
        ensure!(
            level == "logical",
            "Debezium needs wal_level=logical and Postgres has {level}: start it with \
             `settle infra --postgres-setting wal_level=logical`, or leave Debezium out: \
             BENCH_ONLY=drain,latency,polls"
        );
        let name = format!("{}_{variant}", database.name);
        sqlx::query("select pg_create_logical_replication_slot($1, 'pgoutput')")
            .bind(&name)
            .execute(&mut connection)
            .await
            .context("make a replication slot")?;
        Ok(Self { name })
    }

    /// Whether somebody reads from it now.
    pub(crate) async fn is_read(&self, connection: &mut PgConnection) -> anyhow::Result<bool> {
        let read =
            sqlx::query_scalar("select active from pg_replication_slots where slot_name = $1")
                .bind(&self.name)
                .fetch_one(connection)
                .await?;
        Ok(read)
    }

    /// Drops it, once its reader has gone, and with it the WAL that it kept.
    pub(crate) async fn remove(self, database: &Database) -> anyhow::Result<()> {
        let mut connection = database.connect().await?;
        while self.is_read(&mut connection).await? {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        sqlx::query("select pg_drop_replication_slot($1)")
            .bind(&self.name)
            .execute(&mut connection)
            .await
            .context("drop a replication slot")?;
        Ok(())
    }
}
