//! Exactly-once mode: page after page in a Kafka transaction with a note of the position; the cursor in Postgres only
//! follows. What came before, of this relay or another, was settled by [`crate::resumption::resume`].

use std::time::Instant;

use sqlx::PgConnection;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    budget::Budget,
    cluster::Cluster,
    config::Source,
    error::postgres,
    event::Event,
    health::{Board, State},
    lease::Grant,
    ledger::Ledger,
    marker::{Marker, Moves},
    metrics::Metrics,
    parking::{self, Parking},
    producer::{NOTE, Producer, Sent},
    recording,
    redrive::Handover,
    shards::Shards,
    shipment::NOTE_EVERY,
    window::Chunk,
};

/// One transaction holds at most so many rows, so that none nears its time-out.
const PAGE_ROWS: usize = 10_000;

/// The transactional id under which a lease sends parked rows again; its own name is the one for all others.
pub(crate) fn redrive_id(owner: &str) -> String {
    format!("{owner}-redrive")
}

/// How often the cursors of the lease's shards have been moved by hand.
///
/// # Errors
/// Postgres'.
pub async fn moves(connection: &mut PgConnection, grant: &Grant) -> Result<Moves, Error> {
    let moves = sqlx::query_as::<_, (i64, i64)>(
        "select bit_or(1::bigint << shard), moves
         from messaging.outbox_cursor
         where owner = $1
         group by moves",
    )
    .bind(grant.owner())
    .fetch_all(connection)
    .await
    .map_err(postgres("reading the cursor"))?;
    Ok(moves.into_iter().map(|(mask, moves)| (Shards::from_mask(mask), moves)).collect())
}

/// Everything that one attempt works with; the counterpart of [`crate::shipment::Shipment`].
#[derive(Debug)]
pub struct Transactions<'a> {
    /// The settings.
    pub config: &'a Config,
    /// What is shipped.
    pub source: &'a Source,
    /// Where the snapshots mean something.
    pub cluster: &'a Cluster,
    /// Where progress is counted.
    pub metrics: &'a Metrics,
    /// Where progress is told.
    pub board: &'a Board,
    /// The proof that the cursors are ours.
    pub grant: &'a Grant,
    /// Where the cursors are recorded.
    pub connection: &'a mut PgConnection,
    /// Where events go.
    pub producer: &'a Producer,
    /// How much one transaction may hold.
    pub budget: &'a mut Budget,
    /// How far everything has come.
    pub ledger: Ledger,
    /// How often the cursors were moved by hand.
    pub moves: Moves,
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
}

impl Transactions<'_> {
    /// Sends page after page until told to stop; the page that is on its way is finished.
    ///
    /// # Errors
    /// As [`Transactions::step`].
    pub async fn run(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        while !stop.is_cancelled() {
            self.step(stop).await?;
        }
        Ok(())
    }

    /// Waits for rows, and sends what is there in one transaction. Whoever wants to be waited for comes first: a backlog
    /// would never leave him a pause.
    ///
    /// # Errors
    /// Kafka's, after which nothing of the page counts or it is not known; the reader's; Postgres'; the loss of the lease.
    pub async fn step(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        if let Ok(handover) = self.handovers.try_recv() {
            return self.hand_over(handover).await;
        }
        if self.current.is_none() {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(handover) = self.handovers.recv() => return self.hand_over(handover).await,
                chunk = self.chunks.recv() => match chunk {
                    Some(chunk) => self.current = Some((chunk, 0)),
                    None => return Err(self.reader_error().await),
                },
            }
        }
        self.page().await
    }

    /// Sees to it that no transaction number which the note counts as past is ever given out again. Postgres forgets in a crash
    /// what was rolled back a moment before, but not a commit, nor any number before it.
    async fn anchor(&mut self) -> Result<(), Error> {
        sqlx::query("select pg_logical_emit_message(true, 'outbox-relay', '')")
            .execute(&mut *self.connection)
            .await
            .map_err(postgres("anchoring the note"))?;
        Ok(())
    }

    /// In this order: what must not be sent is kept in Postgres; what is sent and the note of the position count together;
    /// the cursor follows.
    async fn page(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        let mut page = Page::default();
        self.fill(&mut page)?;
        for (topic, count) in &page.topics {
            self.metrics.sent(topic, *count);
        }
        let rows = self.ledger.advance().rows;
        if !self.ledger.set_aside().is_empty() {
            parking::keep_first(
                self.connection,
                self.grant,
                &self.source.table,
                self.parking,
                self.ledger.set_aside(),
            )
            .await?;
        }
        if page.sent > 0 {
            let (lanes, parked) = (self.ledger.lanes(), self.ledger.set_aside());
            let marker = Marker::at(self.cluster, &lanes, &self.moves, parked).encode()?;
            self.producer.note(&self.config.markers_topic, self.grant.owner(), Some(&marker))?;
            self.anchor().await?;
            self.metrics.in_flight(page.bytes);
            self.commit(&page, started).await?;
            self.metrics.in_flight(0);
            self.budget.grow();
        }
        let (grant, table) = (self.grant, &self.source.table);
        recording::record(self.connection, grant, table, &mut self.ledger, self.parking).await?;
        self.board.set(&self.source.name, State::Shipping);
        if rows > 0 {
            self.metrics.published(rows, started.elapsed());
            self.metrics.window(rows);
        }
        Ok(())
    }

    /// Hands rows to Kafka's client until the page is full or no more are there. They are taken for delivered: if they are
    /// not, the attempt and its ledger end here.
    fn fill(&mut self, page: &mut Page) -> Result<(), Error> {
        while page.rows < PAGE_ROWS {
            let Some((chunk, next)) = &mut self.current else {
                match self.chunks.try_recv() {
                    Ok(chunk) => self.current = Some((chunk, 0)),
                    Err(_) => return Ok(()),
                }
                continue;
            };
            let now = Instant::now();
            self.ledger.window(chunk.shards, &chunk.target);
            while let Some(row) = chunk.rows.get(*next) {
                if page.rows >= PAGE_ROWS || !self.budget.admits(page.bytes, 0) {
                    return Ok(());
                }
                let event = Event::read(row).map_err(postgres("reading a row"))?;
                let weight = event.weight();
                match self.parking.holds(&event) {
                    Some(reason) => {
                        self.ledger.aside(chunk.shards, event.seq, weight, now);
                        self.parking.set_aside(&event, reason);
                        self.metrics.parked(reason);
                        parking::say(self.source, &event, reason);
                    }
                    None => {
                        if page.sent == 0 {
                            self.producer.begin()?;
                        }
                        let ordinal = self.ledger.sent(chunk.shards, event.seq, weight, now);
                        match self.producer.send(&event, ordinal)? {
                            Sent::Queued => {}
                            Sent::Full => {
                                self.ledger.unsend();
                                return Ok(());
                            }
                            // A client that has refused something commits nothing: begin anew, without it.
                            Sent::Refused(reason) => return Err(event.refused(reason)),
                        }
                        self.ledger.delivered(ordinal);
                        page.seqs.push((ordinal, event.seq));
                        page.sent += 1;
                        page.bytes += weight;
                        page.count(event.topic);
                    }
                }
                if let (0, Some(claimed_at)) = (*next % NOTE_EVERY, chunk.claimed_at) {
                    let waited = (claimed_at - event.created_at).to_std().unwrap_or_default();
                    self.metrics.waited(waited);
                }
                page.rows += 1;
                *next += 1;
            }
            if chunk.ends {
                self.ledger.end(chunk.shards);
            }
            self.current = None;
        }
        Ok(())
    }

    /// Makes the page count. What Kafka said of a single event tells more than that the transaction failed.
    async fn commit(&mut self, page: &Page, started: Instant) -> Result<(), Error> {
        let committed = self.producer.commit(self.config.transaction_timeout).await;
        let report = self.producer.collect();
        match (committed, report.failure) {
            (Ok(()), _) => Ok(()),
            // A note that is refused says nothing of an event.
            (Err(_), Some(failure)) if failure.ordinal != NOTE => {
                self.metrics.not_sent(failure.code, started.elapsed());
                let seq = page.seqs.iter().find(|(ordinal, _)| *ordinal == failure.ordinal);
                let seq = seq.map_or(0, |(_, seq)| *seq);
                Err(Error::Delivery { seq, failure, alone: page.sent == 1 })
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn hand_over(&mut self, handover: Handover) -> Result<(), Error> {
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

/// What one transaction holds.
#[derive(Debug, Default)]
struct Page {
    rows: usize,
    sent: usize,
    bytes: usize,
    seqs: Vec<(usize, i64)>,
    topics: Vec<(String, u64)>,
}

impl Page {
    fn count(&mut self, topic: &str) {
        match self.topics.iter_mut().find(|(known, _)| known == topic) {
            Some((_, count)) => *count += 1,
            None => self.topics.push((topic.to_owned(), 1)),
        }
    }
}
