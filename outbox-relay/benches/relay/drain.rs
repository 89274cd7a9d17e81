//! How fast a backlog is shipped. A process is started on a full outbox; the time counts from the first event that
//! arrives in Kafka to the last, so that the start of a JVM is not held against it.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use crate::{
    database::Database,
    debezium::{self, Installation, Variant},
    limits::{self, Limit},
    outbox::Outbox,
    process::Process,
    relay,
    report::Report,
    say,
    settings::{Part, Settings},
    topic::Topic,
    usage::Busy,
    wal::Slot,
};

const LOOK_EVERY: Duration = Duration::from_millis(10);
const TELL_EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(90);

/// One backlog shipped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drain {
    /// Events per second.
    pub(crate) rate: f64,
    /// From the start of the process to its first event in Kafka.
    pub(crate) first_after: Duration,
    /// Processor time of the process between the first and the last event.
    pub(crate) cpu: Duration,
    /// How busy all cores were meanwhile, by all processes.
    pub(crate) busy: f64,
    /// The most memory it had.
    pub(crate) peak: u64,
    /// Events that arrived more than once.
    pub(crate) repeated: u64,
}

/// The limits and the relay by turns, then Debezium, for every size of payload.
pub(crate) async fn run(
    settings: &Settings,
    debezium: Option<&Installation>,
    report: &mut Report,
) -> anyhow::Result<()> {
    if !settings.wants(Part::Drain) {
        return Ok(());
    }
    for &payload in &settings.payloads {
        let (mut copies, mut produced, mut drains) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=settings.repeats {
            say(format_args!("{payload} B: round {round} of {}", settings.repeats));
            let (copy, drain) = relay_round(settings, payload).await?;
            copies.push(copy);
            drains.push(drain);
            produced.push(limits::produce(settings, settings.rows, payload).await?);
        }
        let [copy, produce] = [copies, produced].map(|limits| median(limits, |limit| limit.rate));
        report.limits(payload, copy, produce);
        report.drain(payload, "outbox-relay".to_owned(), median(drains, |drain| drain.rate));
        if let Some(debezium) = debezium {
            debezium_round(settings, debezium, payload, report).await?;
        }
    }
    Ok(())
}

async fn relay_round(settings: &Settings, payload: usize) -> anyhow::Result<(Limit, Drain)> {
    let topic = Topic::fresh(settings).await?;
    let database = Database::fresh(settings, Outbox::Relay).await?;
    database.fill(&topic.name, settings.rows, payload).await?;
    let copy = limits::copy(&database, settings.rows).await?;
    say(format_args!("COPY reads {:.0} rows/s", copy.rate));
    let process = relay::start(settings, &database)?;
    let drain = measure(process, &topic, settings.rows).await?;
    say(format_args!("the relay ships {:.0} events/s", drain.rate));
    topic.verify(|name| name)?;
    database.remove().await?;
    topic.remove().await?;
    Ok((copy, drain))
}

/// Both variants read the same rows, each from a slot of its own.
async fn debezium_round(
    settings: &Settings,
    debezium: &Installation,
    payload: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let database = Database::fresh(settings, Outbox::Debezium).await?;
    let mut slots = Vec::new();
    for variant in Variant::ALL {
        slots.push((variant, Slot::create(&database, variant.word()).await?));
    }
    // The rows name their topic, so both write to it, one after the other.
    let topic = Topic::fresh(settings).await?;
    database.fill(&topic.name, settings.rows, payload).await?;
    for (variant, slot) in slots {
        let process = debezium.start(settings, variant, &database, &slot)?;
        let drain = measure(process, &topic, settings.rows).await?;
        say(format_args!("{} ships {:.0} events/s", variant.label(settings), drain.rate));
        report.drain(payload, variant.label(settings), drain);
        topic.verify(debezium::header)?;
        slot.remove(&database).await?;
    }
    database.remove().await?;
    topic.remove().await
}

/// Watches a process ship so many events to a topic, and stops it.
async fn measure(mut process: Process, topic: &Topic, rows: u64) -> anyhow::Result<Drain> {
    let started = Instant::now();
    let before = topic.arrived()?;
    let arrived = || anyhow::Ok(topic.arrived()? - before);
    let first = until(&mut process, &arrived, 1).await?;
    let (first_at, busy, usage) = (Instant::now(), Busy::now()?, process.usage()?);
    until(&mut process, &arrived, rows).await?;
    let took = first_at.elapsed();
    let (busy, after) = (Busy::now()?.since(busy), process.usage()?);
    process.stop().await?;
    let last = arrived()?;
    ensure!(first < rows, "all events arrived at once: raise BENCH_ROWS");
    Ok(Drain {
        rate: (rows - first) as f64 / took.as_secs_f64(),
        first_after: first_at - started,
        cpu: after.cpu - usage.cpu,
        busy,
        peak: after.peak,
        repeated: last - rows,
    })
}

/// Waits until so many events have arrived, and returns how many have.
async fn until(
    process: &mut Process,
    arrived: &impl Fn() -> anyhow::Result<u64>,
    rows: u64,
) -> anyhow::Result<u64> {
    let (mut last, mut moved_at, mut told_at) = (0, Instant::now(), Instant::now());
    loop {
        let now = arrived()?;
        if now >= rows {
            return Ok(now);
        }
        if now > last {
            (last, moved_at) = (now, Instant::now());
        }
        if moved_at.elapsed() > PATIENCE {
            let words = process.last_words();
            bail!("nothing has arrived for {PATIENCE:?}, {now} of {rows} events so far:\n{words}");
        }
        if told_at.elapsed() > TELL_EVERY {
            told_at = Instant::now();
            say(format_args!("{now} of {rows} events have arrived"));
        }
        process.usage()?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The one in the middle.
fn median<T>(mut all: Vec<T>, rate: impl Fn(&T) -> f64) -> T {
    all.sort_by(|one, other| rate(one).total_cmp(&rate(other)));
    all.swap_remove(all.len() / 2)
}
