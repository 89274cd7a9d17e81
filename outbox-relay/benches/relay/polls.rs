//! What a poll costs that finds nothing, and what a page of a backlog costs, while the outbox grows and while another
//! connection holds an old snapshot: the statements of the relay, on a connection set up as the relay does.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use outbox_relay::{cluster, shards::Shards, table::Table};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::{
    database::Database,
    outbox::Outbox,
    report::Report,
    say,
    settings::{Part, Settings},
};

const POLLS: usize = 2_000;
const PAGES: usize = 200;
const PAGE_ROWS: i64 = 5_000;
/// The backlog that a page of the large one is compared with.
const SMALL_BACKLOG: u64 = 100_000;
const ROWS_PER_COMMIT: u64 = 100_000;

/// How long one statement took, again and again, in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    /// What was asked, and of which outbox.
    pub(crate) label: String,
    pub(crate) took: Histogram<u64>,
    /// Which row of the table it is compared with.
    pub(crate) against: usize,
}

/// Empty, small, full, and full with an old snapshot.
pub(crate) async fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    if !settings.wants(Part::Polls) {
        return Ok(());
    }
    let database = Database::fresh(settings, Outbox::Relay).await?;
    let mut relay = cluster::connect(&database.options().into()).await?;
    let mut owner = database.connect().await?;
    let empty = report.cost("an empty poll, empty outbox", empty_poll(&mut relay).await?, None);
    let start = snapshot(&mut owner).await?;
    fill(&mut owner, SMALL_BACKLOG.min(settings.backlog)).await?;
    let small = pages(&mut relay, &start).await?;
    let page = report.cost(&format!("a page, {SMALL_BACKLOG} rows waiting"), small, None);

    let mut holder = hold_snapshot(&database).await?;
    say(format_args!("filling the outbox with {} rows", settings.backlog));
    fill(&mut owner, settings.backlog.saturating_sub(SMALL_BACKLOG)).await?;
    database.settle().await?;
    let rows = settings.backlog;
    let full = pages(&mut relay, &start).await?;
    report.cost(&format!("a page, {rows} rows waiting"), full, Some(page));
    let held = empty_poll(&mut relay).await?;
    let label =
        format!("an empty poll, {rows} rows acknowledged, a snapshot held since before them");
    report.cost(&label, held, Some(empty));
    holder.execute("rollback").await?;
    let released = empty_poll(&mut relay).await?;
    report.cost(&format!("an empty poll, {rows} rows acknowledged"), released, Some(empty));
    drop((relay, owner, holder));
    database.remove().await
}

/// The poll of a relay that has everything acknowledged, while others commit: what is new is nothing of the outbox.
async fn empty_poll(relay: &mut PgConnection) -> anyhow::Result<Histogram<u64>> {
    let acked = snapshot(relay).await?;
    relay.execute("select pg_current_xact_id()").await?;
    let target = snapshot(relay).await?;
    ensure!(acked != target, "the snapshot did not move");
    let mut took = Histogram::new(3)?;
    for _ in 0..POLLS {
        let started = Instant::now();
        let rows = sqlx::query(AssertSqlSafe(Table::default().small_window()))
            .bind(&acked)
            .bind(&target)
            .bind(Shards::ALL.mask())
            .bind(PAGE_ROWS)
            .fetch_all(&mut *relay)
            .await
            .context("poll")?;
        took.record(nanos(started))?;
        ensure!(rows.is_empty(), "a poll that should be empty found {} rows", rows.len());
    }
    Ok(took)
}

/// Pages of everything since a snapshot, from the first row on.
async fn pages(relay: &mut PgConnection, acked: &str) -> anyhow::Result<Histogram<u64>> {
    let target = snapshot(relay).await?;
    let looked = Instant::now();
    let start: Option<i64> =
        sqlx::query_scalar(AssertSqlSafe(Table::default().large_window_start()))
            .bind(acked)
            .bind(&target)
            .bind(Shards::ALL.mask())
            .fetch_one(&mut *relay)
            .await
            .context("find the start of the backlog")?;
    say(format_args!("the start of the backlog was found in {:.1?}", looked.elapsed()));
    let mut last = start.context("there is no backlog")? - 1;
    let mut took = Histogram::new(3)?;
    for _ in 0..PAGES {
        let started = Instant::now();
        let rows = sqlx::query(AssertSqlSafe(Table::default().large_window_page()))
            .bind(acked)
            .bind(&target)
            .bind(Shards::ALL.mask())
            .bind(PAGE_ROWS)
            .bind(last)
            .fetch_all(&mut *relay)
            .await
            .context("read a page")?;
        let Some(row) = rows.last().filter(|_| rows.len() as i64 == PAGE_ROWS) else { break };
        took.record(nanos(started))?;
        last = sqlx::Row::try_get(row, 0)?;
    }
    ensure!(!took.is_empty(), "BENCH_BACKLOG is at least {PAGE_ROWS}");
    Ok(took)
}

/// A transaction with a number and a snapshot of its own, open until told: nothing that dies meanwhile can be removed.
pub(crate) async fn hold_snapshot(database: &Database) -> anyhow::Result<PgConnection> {
    let mut holder = database.connect().await?;
    holder.execute("begin isolation level repeatable read; select pg_current_xact_id()").await?;
    Ok(holder)
}

async fn fill(owner: &mut PgConnection, rows: u64) -> anyhow::Result<()> {
    for start in (0..rows).step_by(usize::try_from(ROWS_PER_COMMIT)?) {
        let count = ROWS_PER_COMMIT.min(rows - start);
        sqlx::query(
            "insert into messaging.outbox (event_id, topic, key, headers, payload)
             select gen_random_uuid(), 'bench', 'key-' || n % 10000, '{\"ce_type\": \"bench\"}', 'bench'
             from generate_series(1, $1) n",
        )
        .bind(i64::try_from(count)?)
        .execute(&mut *owner)
        .await
        .context("fill the outbox")?;
    }
    Ok(())
}

/// What is visible now, as text.
pub(crate) async fn snapshot(connection: &mut PgConnection) -> anyhow::Result<String> {
    let snapshot = sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(connection);
    snapshot.await.context("take a snapshot")
}

/// The time since then.
pub(crate) fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
