//! How long an event takes from the moment its commit is due until a consumer has it, at a steady rate.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;

use crate::{
    bell::Bell,
    database::Database,
    debezium::{Installation, Variant},
    event::{Event, SMALLEST_PAYLOAD},
    generator::Generator,
    listener::Listener,
    outbox::Outbox,
    process::Process,
    relay,
    report::Report,
    say,
    schedule::Schedule,
    settings::{Part, Settings},
    topic::Topic,
    usage::Busy,
    wal::Slot,
};

/// From the plan to the first commit.
const HEAD_START: Duration = Duration::from_secs(1);
const READY_WITHIN: Duration = Duration::from_secs(90);
/// The number of the event that asks whether somebody ships; no load has so many.
const QUESTION: u64 = 999_999_999_999;

/// One system at one rate.
#[derive(Debug, Clone)]
pub(crate) struct Latency {
    /// From due to received, in microseconds.
    pub(crate) received: Histogram<u64>,
    /// From due to committed: the part that is Postgres' and the writers'.
    pub(crate) committed: Histogram<u64>,
    /// Processor seconds of the process per second.
    pub(crate) cpu: f64,
    /// How busy all cores were, by all processes.
    pub(crate) busy: f64,
    /// The most memory it had, in bytes.
    pub(crate) peak: u64,
    /// Events that came more than once.
    pub(crate) repeated: u64,
}

/// Every system at every rate.
pub(crate) async fn run(
    settings: &Settings,
    debezium: Option<&Installation>,
    report: &mut Report,
) -> anyhow::Result<()> {
    if !settings.wants(Part::Latency) {
        return Ok(());
    }
    for &rate in &settings.rates {
        let database = Database::fresh(settings, Outbox::Relay).await?;
        let process = relay::start(settings, &database)?;
        let latency = measure("outbox-relay", process, &database, settings, rate).await?;
        report.latency(rate, "outbox-relay".to_owned(), latency);
        database.remove().await?;
        let Some(debezium) = debezium else { continue };
        for variant in Variant::ALL {
            let database = Database::fresh(settings, Outbox::Debezium).await?;
            let slot = Slot::create(&database, variant.word()).await?;
            let process = debezium.start(settings, variant, &database, &slot)?;
            let label = variant.label(settings);
            let latency = measure(&label, process, &database, settings, rate).await?;
            report.latency(rate, label, latency);
            slot.remove(&database).await?;
            database.remove().await?;
        }
    }
    Ok(())
}

async fn measure(
    label: &str,
    mut process: Process,
    database: &Database,
    settings: &Settings,
    rate: u64,
) -> anyhow::Result<Latency> {
    let topic = Topic::fresh(settings).await?;
    until_ready(&mut process, database, &topic).await?;
    say(format_args!("{label} at {rate} events/s for {} s", settings.seconds));
    let load = load(&mut process, database, &topic, settings, rate);
    let latency = load.await.with_context(|| format!("{label} at {rate} events/s"))?;
    let percentile = |at| latency.received.value_at_quantile(at) as f64 / 1000.0;
    say(format_args!("p50 {:.2} ms, p99 {:.2} ms", percentile(0.5), percentile(0.99)));
    process.stop().await?;
    topic.remove().await?;
    Ok(latency)
}

/// Writes one event and waits until it has been shipped.
async fn until_ready(
    process: &mut Process,
    database: &Database,
    topic: &Topic,
) -> anyhow::Result<()> {
    let question = [Event::new(QUESTION, SMALLEST_PAYLOAD)];
    database.outbox.append(&mut database.connect().await?, &topic.name, &question).await?;
    let asked = Instant::now();
    while topic.arrived()? == 0 {
        process.usage()?;
        let words =
            || format!("it shipped nothing for {READY_WITHIN:?}:\n{}", process.last_words());
        ensure!(asked.elapsed() < READY_WITHIN, words());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn load(
    process: &mut Process,
    database: &Database,
    topic: &Topic,
    settings: &Settings,
    rate: u64,
) -> anyhow::Result<Latency> {
    let start = Instant::now() + HEAD_START;
    let schedule = Schedule::new(start, rate, settings.warm_up(), settings.measured());
    let listener = Listener::start(topic, schedule)?;
    let bell = (database.outbox == Outbox::Relay).then(Bell::default);
    let generator = Generator {
        database: database.clone(),
        topic: topic.name.clone(),
        schedule,
        bell: bell.clone(),
    };
    let carried = async {
        match bell {
            Some(bell) => bell.carry(database.options()).await,
            None => std::future::pending().await,
        }
    };
    let loaded = async {
        let (committed, used) = tokio::try_join!(generator.run(), used(process, schedule))?;
        anyhow::Ok((committed, used, listener.heard().await?))
    };
    let (committed, used, heard) = tokio::select! {
        loaded = loaded => loaded?,
        carried = carried => {
            carried.context("ring the doorbell")?;
            anyhow::bail!("the doorbell fell silent");
        }
    };
    let (cpu, busy) = used;
    let peak = process.usage()?.peak;
    Ok(Latency { received: heard.latency, committed, cpu, busy, peak, repeated: heard.repeated })
}

/// What the process and the machine use while it counts.
async fn used(process: &mut Process, schedule: Schedule) -> anyhow::Result<(f64, f64)> {
    let (from, to) = (schedule.measured_from(), schedule.due(schedule.ticks().end));
    tokio::time::sleep_until(from.into()).await;
    let (busy, before) = (Busy::now()?, process.usage()?);
    tokio::time::sleep_until(to.into()).await;
    let cpu = process.usage()?.cpu - before.cpu;
    Ok((cpu.as_secs_f64() / (to - from).as_secs_f64(), Busy::now()?.since(busy)))
}
