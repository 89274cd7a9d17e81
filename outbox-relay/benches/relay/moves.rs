//! What a move of the cursor costs, and what becomes of it while another connection holds an old snapshot: every move
//! then leaves a version behind that cannot be removed.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use outbox_relay::{
    cluster::{self, Cluster},
    cursor::{Followers, Lane},
    lease::{self, Grant, Terms},
    shards::SHARDS,
};
use sqlx::{Executor as _, PgConnection};

use crate::{
    database::Database,
    outbox::Outbox,
    polls::{hold_snapshot, nanos, snapshot},
    report::Report,
    say,
    settings::{Part, Settings},
};

/// Eight minutes of flow, at the ten moves a second that the relay makes.
const MOVES: usize = 5_000;
/// How many are measured at either end.
const MEASURED: usize = 500;

/// The first moves, and those after many under a held snapshot.
pub(crate) async fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    if !settings.wants(Part::Polls) {
        return Ok(());
    }
    let database = Database::fresh(settings, Outbox::Relay).await?;
    let mut relay = cluster::connect(&database.options().into()).await?;
    let (grant, lane) = take_lease(&mut relay).await?;
    let first = moves(&mut relay, &grant, &lane, MEASURED).await?;
    let first = report.cost("a move of the cursor", first, None);
    let mut holder = hold_snapshot(&database).await?;
    say(format_args!("moving the cursor {MOVES} times under a held snapshot"));
    moves(&mut relay, &grant, &lane, MOVES - MEASURED).await?;
    let last = moves(&mut relay, &grant, &lane, MEASURED).await?;
    let label = format!("a move of the cursor, the last of {MOVES} under a held snapshot");
    report.cost(&label, last, Some(first));
    holder.execute("rollback").await?;
    drop((relay, holder));
    database.remove().await
}

/// All shards, which from then on move as one.
async fn take_lease(relay: &mut PgConnection) -> anyhow::Result<(Grant, Lane)> {
    let terms = Terms {
        name: "bench".to_owned(),
        lease: Duration::from_secs(600),
        delivery_timeout: Duration::from_secs(1),
        renew_every: Duration::from_secs(1),
    };
    let cluster = Cluster::identify(relay, false).await?;
    let grant = lease::join(relay, &terms).await?;
    lease::claim(relay, &grant, &cluster, SHARDS).await?;
    let lane = Lane::load(relay, &grant).await?.pop().context("another relay has the shards")?;
    lane.record(relay, &grant, Followers::New).await?;
    Ok((grant, lane))
}

async fn moves(
    relay: &mut PgConnection,
    grant: &Grant,
    lane: &Lane,
    count: usize,
) -> anyhow::Result<Histogram<u64>> {
    let mut took = Histogram::new(3)?;
    for _ in 0..count {
        let mut moved = lane.clone();
        moved.cursor.acked = snapshot(relay).await?.into();
        let started = Instant::now();
        moved.record(relay, grant, Followers::Told).await?;
        took.record(nanos(started))?;
    }
    Ok(took)
}
