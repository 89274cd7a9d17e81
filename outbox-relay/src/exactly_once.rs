//! Exactly-once mode: page after page in a Kafka transaction with a note of the position. A predecessor is fenced before
//! anything is sent, and its last note says where it really stood; the cursor in Postgres only follows.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use sqlx::{Connection, PgConnection};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    budget::Budget,
    cluster::Cluster,
    config::Source,
    cursor::{self, Cursor, Followers, Lane, Within},
    error::postgres,
    event::Event,
    health::{Board, State},
    lease::Grant,
    ledger::Ledger,
    marker::{self, Marker, Moves},
    metrics::Metrics,
    parking::{self, Parking},
    position,
    producer::{NOTE, Producer, Sent},
    recording,
    redrive::Handover,
    shards::Shards,
    window::Chunk,
};

/// One transaction holds at most so many rows, so that none nears its time-out.
const PAGE_ROWS: usize = 10_000;

/// The transactional id under which a lease sends parked rows again; its own name is the one for all others.
pub(crate) fn redrive_id(owner: &str) -> String {
    format!("{owner}-redrive")
}

/// A shard, what its cursor says, how often that was moved by hand, and who shipped it last.
struct Held {
    shard: Shards,
    cursor: Cursor,
    moves: i64,
    fence: Option<String>,
}

/// Fences everybody who has shipped the shards of this lease before, this relay included, and moves the cursors to where
/// those really stood. Returns the producer to go on with.
///
/// # Errors
/// Kafka's and Postgres'; doing it again is safe.
pub async fn resume(
    config: &Config,
    cluster: &Cluster,
    connection: &mut PgConnection,
    grant: &Grant,
) -> Result<Producer, Error> {
    marker::make_topic(config).await?;
    cursor::spread(connection, grant.owner()).await?;
    let held = load(connection, grant).await?;
    let fences: BTreeSet<String> = held.iter().filter_map(|held| held.fence.clone()).collect();
    let producer = Producer::transactional(config, grant.owner())?;
    producer.fence(config.transaction_timeout).await?;
    for fence in fences.iter().flat_map(|fence| [fence.clone(), redrive_id(fence)]) {
        if fence != grant.owner() {
            let zombie = Producer::transactional(config, &fence)?;
            let fenced = zombie.fence(config.transaction_timeout).await;
            zombie.close().await;
            fenced?;
        }
    }
    let keys: Vec<String> =
        fences.iter().flat_map(|fence| [fence.clone(), redrive_id(fence)]).collect();
    let notes = if keys.is_empty() { HashMap::new() } else { marker::read(config, keys).await? };

    let mut transaction = connection.begin().await.map_err(postgres("taking up the notes"))?;
    for held in &held {
        let noted = held.fence.as_ref().and_then(|fence| notes.get(fence));
        let noted = noted.and_then(|note| note.position(cluster, held.shard, held.moves));
        if let Some(cursor) = noted.filter(|noted| position::is_beyond(noted, &held.cursor)) {
            let lane = Lane { shards: held.shard, cursor };
            lane.record(&mut transaction, grant, Followers::New).await?;
        }
    }
    let gone: Vec<i64> = notes.values().flat_map(|note| note.gone(cluster)).copied().collect();
    parking::drop_sent(&mut transaction, grant, &gone).await?;
    sqlx::query("update messaging.outbox_cursor set fence = owner where owner = $1")
        .bind(grant.owner())
        .execute(&mut *transaction)
        .await
        .map_err(postgres("taking up the notes"))?;
    transaction.commit().await.map_err(postgres("taking up the notes"))?;
    Ok(producer)
}

async fn load(connection: &mut PgConnection, grant: &Grant) -> Result<Vec<Held>, Error> {
    type Row = (i64, String, Option<String>, Option<i64>, i64, Option<String>);
    let rows = sqlx::query_as::<_, Row>(
        "select 1::bigint << shard, acked::text, target::text, sent_seq, moves, fence
         from messaging.outbox_cursor
         where owner = $1",
    )
    .bind(grant.owner())
    .fetch_all(connection)
    .await
    .map_err(postgres("reading the cursor"))?;
    let held = |(shard, acked, target, sent_seq, moves, fence): Row| Held {
        shard: Shards::from_mask(shard),
        cursor: Cursor {
            acked: acked.into(),
            within: target
                .zip(sent_seq)
                .map(|(target, sent_seq)| Within { target: target.into(), sent_seq }),
        },
        moves,
        fence,
    };
    Ok(rows.into_iter().map(held).collect())
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

    /// Waits for rows, and sends what is there in one transaction.
    ///
    /// # Errors
    /// Kafka's, after which nothing of the page counts or it is not known; the reader's; Postgres'; the loss of the lease.
    pub async fn step(&mut self, stop: &CancellationToken) -> Result<(), Error> {
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

    /// In this order: what must not be sent is kept in Postgres; what is sent and the note of the position count together;
    /// the cursor follows.
    async fn page(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        let mut page = Page::default();
        self.fill(&mut page)?;
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
            let marker = Marker::at(self.cluster, &self.ledger.lanes(), &self.moves).encode()?;
            self.producer.note(&self.config.markers_topic, self.grant.owner(), Some(&marker))?;
            self.commit(&page).await?;
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
                        self.metrics.sent(event.topic, 1);
                    }
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
    async fn commit(&mut self, page: &Page) -> Result<(), Error> {
        let committed = self.producer.commit(self.config.transaction_timeout).await;
        let report = self.producer.collect();
        match (committed, report.failure) {
            (Ok(()), _) => Ok(()),
            // A note that is refused says nothing of an event.
            (Err(_), Some(failure)) if failure.ordinal != NOTE => {
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
}
