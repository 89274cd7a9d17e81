//! A consumer that notes when each event of a load reaches it.

use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use rdkafka::{Message as _, consumer::BaseConsumer};

use crate::{event, generator::micros, schedule::Schedule, topic::Topic};

/// When nothing comes for so long, the rest is not coming.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was heard of one load.
#[derive(Debug)]
pub(crate) struct Heard {
    /// From when an event's commit was due to its arrival, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Events that came more than once.
    pub(crate) repeated: u64,
}

/// A running listener.
#[derive(Debug)]
pub(crate) struct Listener(JoinHandle<anyhow::Result<Heard>>);

impl Listener {
    /// Listens from the topic's beginning until every event of the load has come.
    pub(crate) fn start(topic: &Topic, schedule: Schedule) -> anyhow::Result<Self> {
        let consumer = topic.read()?;
        let thread = thread::Builder::new().name("listener".to_owned());
        let handle =
            thread.spawn(move || listen(&consumer, schedule)).context("start to listen")?;
        Ok(Self(handle))
    }

    /// Waits until every event has come.
    pub(crate) async fn heard(self) -> anyhow::Result<Heard> {
        let joined = tokio::task::spawn_blocking(|| self.0.join()).await?;
        joined.map_err(|_| anyhow::anyhow!("the listener stopped"))?
    }
}

fn listen(consumer: &BaseConsumer, schedule: Schedule) -> anyhow::Result<Heard> {
    let mut latency = Histogram::new(3)?;
    let mut seen = vec![false; usize::try_from(schedule.all())?];
    let (mut missing, mut repeated, mut last) = (schedule.all(), 0, Instant::now());
    while missing > 0 {
        let Some(message) = consumer.poll(Duration::from_secs(1)) else {
            let due = schedule.due(schedule.ticks().end).max(last);
            ensure!(due.elapsed() < PATIENCE, "{missing} events have not come for {PATIENCE:?}");
            continue;
        };
        let message = message.context("listen to the topic")?;
        let number = event::number(message.payload().unwrap_or_default());
        // The first event of all only asks whether somebody ships.
        let Some(number) = number else { continue };
        let Some(tick) = schedule.tick_of(number) else { continue };
        last = Instant::now();
        if std::mem::replace(&mut seen[usize::try_from(number)?], true) {
            repeated += 1;
            continue;
        }
        missing -= 1;
        if schedule.counts(tick) {
            latency.record(micros(schedule.due(tick)))?;
        }
    }
    Ok(Heard { latency, repeated })
}
