//! A chaos run: load and faults side by side, then healing and settling, then the checker.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    arena::Arena,
    checker,
    fault::Schedule,
    finding::Finding,
    healing,
    injector::{self, Entry},
    load::{self, Shape},
    snapshot::Snapshot,
    tally::{Figures, Tally},
};

/// Customers look for the last time when all has settled.
const LAST_LOOKS: Duration = Duration::from_secs(30);

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The load.
    pub shape: Shape,
    /// Of everything that is left to chance.
    pub seed: u64,
    /// How long there are orders and faults.
    pub lasts: Duration,
    /// About how long from one fault to the next; none: no faults.
    pub fault_every: Option<Duration>,
    /// How long the shop has to settle afterwards.
    pub patience: Duration,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// How long there really were orders and faults.
    pub lasted: Duration,
    /// How long it took to heal and to settle.
    pub settling: Duration,
    /// Why it did not settle, if it did not.
    pub unsettled: Option<String>,
    /// The faults.
    pub faults: Vec<Entry>,
    /// What the customers saw.
    pub figures: Figures,
    /// How the databases and topics were in the end.
    pub snapshot: Snapshot,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs until the time is over or `stop`. Errors: what could not be run.
pub async fn run(
    arena: &Arc<Arena>,
    plan: &Plan,
    stop: &CancellationToken,
    say: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Outcome> {
    let tally = Arc::new(Tally::new()?);
    let begin = Instant::now();
    // The first ends orders and faults, the second those who still wait for theirs.
    let (over, give_up) = (stop.child_token(), CancellationToken::new());
    let customers = load::run(arena, &plan.shape, plan.seed, plan.lasts, &tally, &over, &give_up);
    let the_rest = async {
        let (faults, lasted) = tokio::join!(faults(arena, plan, begin, &over, say), async {
            let _ = timeout(plan.lasts, over.cancelled()).await;
            over.cancel();
            begin.elapsed()
        });
        say("healing, and waiting until everything has settled");
        if let Err(error) = healing::settle(arena, plan.patience).await {
            say(&format!("{error:#}"));
        }
        (faults, lasted)
    };
    let the_rest = async {
        let rest = the_rest.await;
        give_up_later(&give_up);
        rest
    };
    let (ended, (faults, lasted)) = tokio::join!(customers, the_rest);
    ended?;
    // The last customers may have asked for something more: how it is now is what counts.
    let unsettled = healing::settle(arena, plan.patience).await;
    let unsettled = unsettled.err().map(|error| format!("{error:#}"));
    let settling = begin.elapsed() - lasted;
    say("reading every database and every topic");
    let snapshot = Snapshot::take(&arena.stack).await?;
    let findings = checker::check(&snapshot, &arena.ledger.entries());
    let figures = tally.figures();
    Ok(Outcome { lasted, settling, unsettled, faults, figures, snapshot, findings })
}

fn give_up_later(give_up: &CancellationToken) {
    let give_up = give_up.clone();
    #[expect(clippy::disallowed_methods, reason = "it ends by itself, and nobody waits for it")]
    tokio::spawn(async move {
        tokio::time::sleep(LAST_LOOKS).await;
        give_up.cancel();
    });
}

async fn faults(
    arena: &Arc<Arena>,
    plan: &Plan,
    begin: Instant,
    over: &CancellationToken,
    say: &impl Fn(&str),
) -> Vec<Entry> {
    let Some(every) = plan.fault_every else { return Vec::new() };
    let schedule = Schedule::new(plan.seed, every);
    injector::torment(arena, schedule, begin, over, |entry| say(&entry.to_string())).await
}
