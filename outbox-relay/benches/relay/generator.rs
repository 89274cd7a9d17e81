//! An open-loop writer: every commit starts when it is due, on the next of several connections, and waits for none but
//! the one before it on that connection.

use std::{thread, time::Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use sqlx::{Connection as _, PgConnection};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinSet,
};

use crate::{bell::Bell, database::Database, event::Event, schedule::Schedule};

const CONNECTIONS: usize = 16;
const PAYLOAD: usize = 200;

/// What every connection writes.
#[derive(Debug, Clone)]
pub(crate) struct Generator {
    pub(crate) database: Database,
    pub(crate) topic: String,
    pub(crate) schedule: Schedule,
    /// Rung after every commit.
    pub(crate) bell: Option<Bell>,
}

impl Generator {
    /// Writes everything, and returns from when it was due to when it was committed, in microseconds.
    pub(crate) async fn run(self) -> anyhow::Result<Histogram<u64>> {
        let (mut writers, mut lines) = (JoinSet::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            // Room for all: a slow connection must not hold the clock back.
            let room = self.schedule.ticks().count();
            let (line, ticks) = mpsc::channel(room);
            lines.push(line);
            let connection = self.database.connect().await?;
            writers.spawn(self.clone().write(connection, ticks));
        }
        let schedule = self.schedule;
        let clock = thread::Builder::new()
            .name("clock".to_owned())
            .spawn(move || tell(schedule, &lines))
            .context("start the clock")?;
        let mut commits = Histogram::new(3)?;
        while let Some(written) = writers.join_next().await {
            commits.add(written?.context("write the load")?)?;
        }
        clock.join().map_err(|_| anyhow::anyhow!("the clock stopped"))?;
        Ok(commits)
    }

    async fn write(
        self,
        mut connection: PgConnection,
        mut ticks: Receiver<u64>,
    ) -> anyhow::Result<Histogram<u64>> {
        let mut commits = Histogram::new(3)?;
        while let Some(tick) = ticks.recv().await {
            let numbers = self.schedule.events(tick);
            let events: Vec<_> = numbers.map(|number| Event::new(number, PAYLOAD)).collect();
            self.database.outbox.append(&mut connection, &self.topic, &events).await?;
            if let Some(bell) = &self.bell {
                bell.ring();
            }
            if self.schedule.counts(tick) {
                commits.record(micros(self.schedule.due(tick)))?;
            }
        }
        connection.close().await?;
        Ok(commits)
    }
}

/// Names every commit when it is due. A thread of its own, since timers of the runtime round up to a millisecond.
fn tell(schedule: Schedule, lines: &[Sender<u64>]) {
    for (tick, line) in schedule.ticks().zip(lines.iter().cycle()) {
        thread::sleep(schedule.due(tick).saturating_duration_since(Instant::now()));
        if line.try_send(tick).is_err() {
            return;
        }
    }
}

/// The time since then.
pub(crate) fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
