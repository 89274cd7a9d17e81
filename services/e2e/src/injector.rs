//! Carries the faults out, several at once where they do not hit the same thing, and writes down each with its time. Every
//! fault heals what it has hurt.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use local::Part;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    arena::{Arena, PROGRAMS, until},
    fault::{Fault, Hold, Schedule},
    offsets, redrive,
};

/// How long a slow connection stays so.
const SLOW_FOR: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(60);

/// A fault that was carried out.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When, from the begin of the run.
    pub at: Duration,
    /// What.
    pub fault: Fault,
    /// How long until it was healed.
    pub took: Duration,
    /// What could not be done about it, if anything.
    pub trouble: Option<String>,
    /// Messages that were handled after they had waited behind a poison.
    pub redriven: usize,
}

/// Carries out the schedule until told to stop, and waits for the end of what is under way.
pub async fn torment(
    arena: &Arena,
    schedule: Schedule,
    begin: Instant,
    stop: &CancellationToken,
    say: impl Fn(&Entry),
) -> Vec<Entry> {
    // Not tasks: they borrow the arena, and end with this future.
    let (mut held, mut faults) = (BTreeSet::new(), FuturesUnordered::new());
    let mut log = Vec::new();
    for (wait, fault) in schedule {
        let next = sleep(wait);
        tokio::pin!(next);
        let stopped = loop {
            tokio::select! {
                () = &mut next => break false,
                () = stop.cancelled() => break true,
                Some(entry) = faults.next() => keep(entry, &mut held, &mut log, &say),
            }
        };
        if stopped {
            break;
        }
        if fault.holds().iter().all(|it| !held.contains(it)) {
            held.extend(fault.holds());
            faults.push(suffer(arena, fault, begin));
        }
    }
    while let Some(entry) = faults.next().await {
        keep(entry, &mut held, &mut log, &say);
    }
    log.sort_by_key(|entry| entry.at);
    log
}

fn keep(entry: Entry, held: &mut BTreeSet<Hold>, log: &mut Vec<Entry>, say: &impl Fn(&Entry)) {
    for hold in entry.fault.holds() {
        held.remove(&hold);
    }
    say(&entry);
    log.push(entry);
}

async fn suffer(arena: &Arena, fault: Fault, begin: Instant) -> Entry {
    let begun = Instant::now();
    let (redriven, trouble) = match carry_out(arena, fault).await {
        Ok(redriven) => (redriven, None),
        Err(error) => (0, Some(format!("{error:#}"))),
    };
    Entry { at: begun - begin, fault, took: begun.elapsed(), trouble, redriven }
}

/// Does it, and heals it. Returns how many messages were redriven.
pub async fn carry_out(arena: &Arena, fault: Fault) -> anyhow::Result<usize> {
    let stack = &arena.stack;
    match fault {
        Fault::Killed(part) => {
            stack.kill9(part).await?;
            start(arena, part).await?;
        }
        Fault::Paused(part, time) => {
            stack.pause(part)?;
            sleep(time).await;
            stack.resume(part)?;
        }
        Fault::Cut(link) => arena.proxy(link)?.cut(),
        Fault::Slowed(link, delay) => {
            arena.proxy(link)?.slow(delay);
            sleep(SLOW_FOR).await;
            arena.proxy(link)?.slow(Duration::ZERO);
        }
        Fault::PostgresRestarted => {
            stack.sigterm(Part::Postgres).await?;
            start(arena, Part::Postgres).await?;
        }
        Fault::PostgresShutAtOnce => {
            stack.quit(Part::Postgres).await?;
            start(arena, Part::Postgres).await?;
        }
        Fault::KafkaRestarted => {
            stack.sigterm(Part::Kafka).await?;
            start(arena, Part::Kafka).await?;
        }
        Fault::Rewound(part) => {
            stack.sigterm(part).await?;
            // Whatever comes of it, the service is to run.
            let rewound = until("the offsets are set back", PATIENCE, async || {
                offsets::to_the_beginning(arena, part).await
            });
            let rewound = rewound.await;
            start(arena, part).await?;
            rewound?;
        }
        Fault::Poisoned(back) => {
            let Some(order_id) = arena.ledger.recent(back) else { return Ok(0) };
            redrive::poison(arena, order_id).await?;
            return redrive::redrive(arena, order_id).await;
        }
    }
    Ok(0)
}

/// Starts it, again and again: what it needs may be away just now.
async fn start(arena: &Arena, part: Part) -> anyhow::Result<()> {
    until("it runs again", PATIENCE, async || Ok(arena.stack.start(part).await?)).await
}

/// Ends whatever is left of any fault.
pub async fn heal(arena: &Arena) -> anyhow::Result<()> {
    for link in crate::arena::Link::ALL {
        arena.proxy(link)?.slow(Duration::ZERO);
    }
    for part in [Part::Postgres, Part::Kafka].into_iter().chain(PROGRAMS) {
        // What does not run cannot be paused.
        let _ = arena.stack.resume(part);
        start(arena, part).await?;
    }
    Ok(())
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (at, took) = (self.at.as_secs_f64(), self.took.as_secs_f64());
        write!(f, "{at:>6.1} s  {}, healed after {took:.1} s", self.fault)?;
        match &self.trouble {
            Some(trouble) => write!(f, ": {trouble}"),
            None => Ok(()),
        }
    }
}
