//! One attempt to ship, from the cursor on until the first failure: rows from the reader go to the producer as far as
//! the budget lets them, and the cursor follows the acknowledgements.

use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    budget::Budget,
    config::Source,
    error::postgres,
    event::Event,
    health::{Board, State},
    lease::Grant,
    ledger::Ledger,
    metrics::Metrics,
    parking::{self, Parking},
    producer::{Producer, Sent},
    recording,
    redrive::Handover,
    shards::Shards,
    window::Chunk,
};

/// Above this many rows in a chunk, only every so-many-th row's waiting time is noted.
pub(crate) const NOTE_EVERY: usize = 16;

/// How soon to look again whether the lease was renewed.
const SOON: Duration = Duration::from_millis(20);

/// Everything one attempt works with.
#[derive(Debug)]
pub struct Shipment<'a> {
    /// The settings.
    pub config: &'a Config,
    /// What is shipped.
    pub source: &'a Source,
    /// Where progress is counted.
    pub metrics: &'a Metrics,
    /// Where progress is told.
    pub board: &'a Board,
    /// The proof that the cursor is ours.
    pub grant: &'a Grant,
    /// Where the cursor is recorded.
    pub connection: &'a mut PgConnection,
    /// Where events go.
    pub producer: &'a Producer,
    /// How much may be on its way.
    pub budget: &'a mut Budget,
    /// What is on its way.
    pub ledger: &'a mut Ledger,
    /// What is not sent.
    pub parking: &'a mut Parking,
    /// Who sends it later, and wants to be waited for.
    pub handovers: &'a mut mpsc::Receiver<Handover>,
    /// Where rows come from.
    pub chunks: mpsc::Receiver<Chunk>,
    /// The task that reads them.
    pub reader: JoinSet<Result<(), Error>>,
    /// The rows being sent, and the next of them.
    pub current: Option<(Chunk, usize)>,
    /// How many rows of the open window have been sent.
    pub window_rows: u64,
    /// Since when the recorded cursor is behind; None while it is not.
    pub behind_since: Option<Instant>,
}

impl Shipment<'_> {
    /// Ships until told to stop, then waits for what is on its way.
    ///
    /// # Errors
    /// As [`Shipment::step`], and [`Error::NotDrained`].
    pub async fn run(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        while !stop.is_cancelled() {
            self.step(stop).await?;
        }
        self.drain().await
    }

    /// Settles what is acknowledged, sends what there is room for, records the cursor if it is time, and waits for
    /// whatever comes first.
    ///
    /// # Errors
    /// The first delivery that failed, the reader's error, Postgres', or the loss of the lease.
    pub async fn step(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        self.settle()?;
        if self.fill()? {
            // Nobody reports rows that were not sent.
            self.settle()?;
        }
        if self.is_due() {
            self.record().await?;
            if self.current.is_some() {
                return Ok(());
            }
        }
        let wake = self.wake_at();
        tokio::select! {
            () = self.producer.reported() => {}
            () = stop.cancelled() => {}
            () = sleep_until(wake.into()) => {}
            Some(handover) = self.handovers.recv() => self.hand_over(handover).await?,
            chunk = self.chunks.recv(), if self.current.is_none() => match chunk {
                Some(chunk) => self.current = Some((chunk, 0)),
                None => return Err(self.reader_error().await),
            },
        }
        Ok(())
    }

    /// Takes the reports and moves the cursor over what is delivered without a gap.
    fn settle(&mut self) -> Result<(), Error> {
        let report = self.producer.collect();
        let oldest = self.ledger.oldest();
        for ordinal in report.delivered {
            self.ledger.delivered(ordinal);
        }
        let advance = self.ledger.advance();
        if advance.rows > 0 {
            self.budget.grow();
            self.metrics.published(
                advance.rows,
                oldest.map_or(Duration::ZERO, |sent_at| sent_at.elapsed()),
            );
            self.metrics.in_flight(self.ledger.in_flight());
        }
        if advance.moved {
            self.behind_since.get_or_insert_with(Instant::now);
            self.board.set(&self.source.name, State::Shipping);
        }
        if let Some(failure) = report.failure {
            let took = oldest.map_or(Duration::ZERO, |sent_at| sent_at.elapsed());
            self.metrics.not_sent(failure.code, took);
            let seq = self.ledger.seq(failure.ordinal).unwrap_or_default();
            let alone = self.ledger.has_one_on_its_way();
            return Err(Error::Delivery { seq, failure, alone });
        }
        if let Some(error) = report.broken {
            return Err(error);
        }
        match self.ledger.oldest() {
            Some(sent_at) if sent_at.elapsed() > self.producer.patience() => {
                Err(Error::Stalled(sent_at.elapsed()))
            }
            _ => Ok(()),
        }
    }

    /// Hands rows to Kafka's client while the lease lasts and there is room. Rows of parked keys are set aside; whether there
    /// were any.
    fn fill(&mut self) -> Result<bool, Error> {
        let Some((chunk, mut next)) = self.current.take() else { return Ok(false) };
        let (now, first) = (Instant::now(), next);
        let note_every = if chunk.rows.len() > NOTE_EVERY { NOTE_EVERY } else { 1 };
        let mut set_aside = false;
        let mut topics: Vec<(&str, u64)> = Vec::new();
        self.ledger.window(chunk.shards, &chunk.target);
        while let Some(row) = chunk.rows.get(next).filter(|_| self.has_room()) {
            let event = Event::read(row).map_err(postgres("reading a row"))?;
            match self.offer(chunk.shards, &event, now)? {
                Offered::Full => break,
                Offered::SetAside => set_aside = true,
                Offered::Queued => count(&mut topics, event.topic),
            }
            if let (0, Some(claimed_at)) = (next % note_every, chunk.claimed_at) {
                self.metrics.waited((claimed_at - event.created_at).to_std().unwrap_or_default());
            }
            next += 1;
        }
        for (topic, count) in topics {
            self.metrics.sent(topic, count);
        }
        self.metrics.in_flight(self.ledger.in_flight());
        self.window_rows += (next - first) as u64;
        if next < chunk.rows.len() {
            self.current = Some((chunk, next));
        } else if chunk.ends {
            self.end_window(chunk.shards);
        }
        Ok(set_aside)
    }

    /// The first row goes alone: while the client still looks for its way it could give that one up, and send the next.
    fn has_room(&self) -> bool {
        (self.producer.is_proven() || !self.ledger.has_some_on_their_way())
            && self.budget.admits(self.ledger.in_flight(), self.ledger.unrecorded())
            && self.grant.may_send()
    }

    /// Hands one event to Kafka's client, or sets it aside if its key is parked or the client refuses it.
    fn offer(&mut self, shards: Shards, event: &Event<'_>, now: Instant) -> Result<Offered, Error> {
        let weight = event.weight();
        let reason = match self.parking.holds(event) {
            Some(reason) => reason,
            None => {
                let ordinal = self.ledger.sent(shards, event.seq, weight, now);
                let sent = self.producer.send(event, ordinal)?;
                if sent == Sent::Queued {
                    return Ok(Offered::Queued);
                }
                self.ledger.unsend();
                match sent {
                    // Of every event of the topic, then: see first whether that is so.
                    Sent::Refused(reason) if reason.is_the_topics() => {
                        return Err(event.refused(reason));
                    }
                    Sent::Refused(reason) => {
                        self.parking.refuse(event.seq, event.topic, event.key, reason);
                        reason
                    }
                    Sent::Full | Sent::Queued => return Ok(Offered::Full),
                }
            }
        };
        self.ledger.aside(shards, event.seq, weight, now);
        self.parking.set_aside(event, reason);
        self.metrics.parked(reason);
        parking::say(self.source, event, reason);
        Ok(Offered::SetAside)
    }

    fn end_window(&mut self, shards: Shards) {
        self.ledger.end(shards);
        if self.window_rows > 0 {
            self.metrics.window(std::mem::take(&mut self.window_rows));
        }
    }

    fn is_due(&self) -> bool {
        self.behind_since.is_some_and(|since| {
            since.elapsed() >= self.config.record_every
                || self.budget.presses(self.ledger.unrecorded())
        })
    }

    /// Interrupted when what is on its way may be late: a slow Postgres must not keep this from noticing a slow Kafka. It is
    /// still due then.
    async fn record(&mut self) -> Result<(), Error> {
        let (grant, table, patience) = (self.grant, &self.source.table, self.producer.patience());
        let late = self.ledger.oldest().map(|sent_at| sent_at + patience);
        let recorded = recording::record(self.connection, grant, table, self.ledger, self.parking);
        match late {
            None => recorded.await?,
            Some(late) => match timeout_at(late.into(), recorded).await {
                Ok(recorded) => recorded?,
                Err(_) => return self.settle(),
            },
        }
        self.behind_since = None;
        Ok(())
    }

    fn wake_at(&self) -> Instant {
        let record = self.behind_since.map(|since| since + self.config.record_every);
        let stalled = self.ledger.oldest().map(|sent_at| sent_at + self.producer.patience());
        // Rows that wait for a late renewal of the lease go as soon as it is there.
        let renewed =
            (self.current.is_some() && !self.grant.may_send()).then(|| Instant::now() + SOON);
        let later = Instant::now() + Duration::from_secs(1);
        [record, stalled, renewed].into_iter().flatten().fold(later, Instant::min)
    }

    /// Waits for what is on its way and records the cursor; reads nothing more.
    async fn drain(&mut self) -> Result<(), Error> {
        self.current = None;
        self.reader.abort_all();
        self.arrive().await
    }

    /// Waits until nothing is on its way, and records that.
    async fn arrive(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.config.drain;
        self.settle()?;
        while self.ledger.in_flight() > 0 {
            if timeout_at(deadline.into(), self.producer.reported()).await.is_err() {
                return Err(Error::NotDrained(self.config.drain));
            }
            self.settle()?;
        }
        self.record().await
    }

    /// Lets parked rows go out between what was sent and what is to be sent, so that their keys can be freed in order.
    async fn hand_over(&mut self, handover: Handover) -> Result<(), Error> {
        self.arrive().await?;
        if handover.granted().await {
            *self.parking = Parking::load(self.connection, self.grant).await?;
        }
        Ok(())
    }

    async fn reader_error(&mut self) -> Error {
        match self.reader.join_next().await {
            Some(Ok(Err(error))) => error,
            _ => Error::TaskEnded("reader".to_owned()),
        }
    }
}

/// What became of an event that was its turn.
enum Offered {
    /// On its way.
    Queued,
    /// Kept for later, for whoever redrives.
    SetAside,
    /// The client's queue is full: nothing was done.
    Full,
}

fn count<'t>(topics: &mut Vec<(&'t str, u64)>, topic: &'t str) {
    match topics.iter_mut().find(|(known, _)| *known == topic) {
        Some((_, count)) => *count += 1,
        None => topics.push((topic, 1)),
    }
}
