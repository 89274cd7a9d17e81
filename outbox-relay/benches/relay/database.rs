//! A database of its own for every measurement, with one of the two outboxes in it, filled and removed.

use anyhow::Context as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{event::Event, outbox::Outbox, settings::Settings};

/// Writers of a backlog, and how many rows each commits at once.
const WRITERS: u64 = 4;
const ROWS_PER_COMMIT: u64 = 200;

/// One database.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) outbox: Outbox,
    server: PgConnectOptions,
}

impl Database {
    /// A new database with an empty outbox.
    pub(crate) async fn fresh(settings: &Settings, outbox: Outbox) -> anyhow::Result<Self> {
        let server = settings.postgres.clone().disable_statement_logging();
        let database = Self { name: format!("bench_{}", Uuid::now_v7().simple()), outbox, server };
        let mut admin = database.server.connect().await.context("connect to Postgres")?;
        // The role belongs to the whole cluster: an earlier database may have brought it.
        admin
            .execute(
                "do $$ begin create role outbox_relay login;
                 exception when duplicate_object then null; end $$",
            )
            .await?;
        admin.execute(AssertSqlSafe(format!("create database {}", database.name))).await?;
        admin.close().await?;
        outbox.create(&mut database.connect().await?).await.context("make the outbox")?;
        Ok(database)
    }

    /// As the owner of the tables.
    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options = self.options();
        options.connect().await.with_context(|| format!("connect to the database {}", self.name))
    }

    /// Where the owner of the tables connects.
    pub(crate) fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }

    /// Where the relay connects.
    pub(crate) fn relay_url(&self) -> String {
        let (host, port) = (self.server.get_host(), self.server.get_port());
        format!("postgres://outbox_relay@{host}:{port}/{}", self.name)
    }

    /// Writes the events 0 to `rows` in transactions of some hundred, from several connections, and settles the pages.
    pub(crate) async fn fill(&self, topic: &str, rows: u64, payload: usize) -> anyhow::Result<()> {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (database, topic) = (self.clone(), topic.to_owned());
            writers.spawn(async move {
                let mut connection = database.connect().await?;
                let starts = (writer * ROWS_PER_COMMIT..rows).step_by(step());
                for start in starts {
                    let end = rows.min(start + ROWS_PER_COMMIT);
                    let events: Vec<_> =
                        (start..end).map(|number| Event::new(number, payload)).collect();
                    database.outbox.append(&mut connection, &topic, &events).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(written) = writers.join_next().await {
            written?.context("write the backlog")?;
        }
        self.settle().await
    }

    /// Writes the dirty pages now rather than in the middle of a measurement.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        self.connect().await?.execute("checkpoint").await.context("write a checkpoint")?;
        Ok(())
    }

    /// Drops it.
    pub(crate) async fn remove(self) -> anyhow::Result<()> {
        let mut admin = self.server.connect().await?;
        admin.execute(AssertSqlSafe(format!("drop database {} with (force)", self.name))).await?;
        Ok(())
    }
}

fn step() -> usize {
    usize::try_from(WRITERS * ROWS_PER_COMMIT).unwrap_or(usize::MAX)
}
