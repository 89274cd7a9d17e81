//! Sending parked rows again, page by page: what has arrived is deleted, and no row goes before an earlier one of its key.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use sqlx::{PgConnection, Row as _, postgres::PgRow};
use tokio::{sync::Mutex, time::timeout};

use crate::{
    Config, Error,
    cluster::Cluster,
    error::postgres,
    event::Event,
    exactly_once,
    lease::Grant,
    marker::{self, Marker, Redriven},
    metrics::Metrics,
    parking,
    producer::{Failure, Producer, Sent},
    verdict::{Reason, Verdict, of_kafka},
};

/// Locked while parked rows are on their way, so that their shards are not handed over meanwhile. False while exactly-once
/// mode does not know what has arrived of those that were.
pub type Settled = Arc<Mutex<bool>>;

/// Sends parked rows of the shards of one lease.
#[derive(Debug)]
pub struct Resend<'a> {
    /// The settings.
    pub config: &'a Config,
    /// Where successes are counted.
    pub metrics: &'a Metrics,
    /// Where the rows' numbers mean something.
    pub cluster: &'a Cluster,
    /// The proof that the shards are ours.
    pub grant: &'a Grant,
    /// Whether all is known of what was sent.
    pub settled: Settled,
    /// Where the rows go; None after a failure.
    pub producer: Option<Producer>,
}

impl Resend<'_> {
    /// Sends the first rows of these keys and deletes those that have arrived. In exactly-once mode only from shards whose
    /// last owner was taken up: before that, it is not known what of theirs is out already.
    ///
    /// # Errors
    /// Postgres', and Kafka's where it said nothing of a single row: [`Resend::close`] then. Whoever loses patience must
    /// close too.
    pub async fn send(
        &mut self,
        connection: &mut PgConnection,
        keys: &BTreeSet<String>,
        limit: i64,
    ) -> Result<Page, Error> {
        let lock = Arc::clone(&self.settled);
        let mut settled = lock.lock().await;
        // Before the rows are read: it may find some of them gone.
        if self.producer.is_none() {
            self.producer = Some(self.open(connection, &mut settled).await?);
        }
        let rows = self.first_rows(connection, keys, limit).await?;
        let (Some(producer), false) = (&self.producer, rows.is_empty()) else {
            return Ok(Page::Last);
        };
        let Delivered { sent, mut arrived, refusal, late } =
            self.deliver(producer, &rows, &mut settled).await?;
        if late || refusal.is_some() {
            let last = self.close().await;
            // What arrived within a transaction that is not committed has not arrived.
            arrived.extend(last.into_iter().filter(|_| !self.config.exactly_once));
        }
        let gone: Vec<_> =
            arrived.into_iter().filter_map(|ordinal| sent.get(ordinal).copied()).collect();
        self.delete(connection, &gone).await?;
        if let Some(Refusal { seq, key, reason }) = refusal {
            let precise = limit == 1 || reason.is_the_topics();
            return Ok(Page::Refused { seq, key, reason, precise });
        }
        if late || gone.is_empty() {
            return Err(Error::Stalled(self.config.delivery_timeout));
        }
        *settled = true;
        let all = gone.len() == rows.len();
        Ok(Page::Sent {
            caught_up: all && i64::try_from(rows.len()).is_ok_and(|rows| rows < limit),
        })
    }

    /// The first rows of these keys that may go now.
    async fn first_rows(
        &self,
        connection: &mut PgConnection,
        keys: &BTreeSet<String>,
        limit: i64,
    ) -> Result<Vec<PgRow>, Error> {
        sqlx::query(
            "select seq, topic, key, headers, payload, created_at, moves
             from messaging.outbox_parked parked
             join messaging.outbox_cursor using (shard)
             where owner = $1
               and (fence = owner or not $4)
               and not paused
               and key = any($2)
               and not held
               and not exists (
                   select from messaging.outbox_parked earlier
                   where earlier.key = parked.key
                     and earlier.seq < parked.seq
                     and earlier.held)
             order by seq
             limit $3",
        )
        .bind(self.grant.owner())
        .bind(keys.iter().cloned().collect::<Vec<_>>())
        .bind(limit)
        .bind(self.config.exactly_once)
        .fetch_all(connection)
        .await
        .map_err(postgres("reading parked rows"))
    }

    /// Drops what is queued, and the connection; what had arrived since the last look. Nothing is sent after this.
    pub async fn close(&mut self) -> Vec<usize> {
        match self.producer.take() {
            Some(producer) => producer.close().await.delivered,
            None => Vec::new(),
        }
    }

    /// A producer to begin with. In exactly-once mode an earlier one of this lease may have got further than was noted in
    /// Postgres.
    async fn open(
        &self,
        connection: &mut PgConnection,
        settled: &mut bool,
    ) -> Result<Producer, Error> {
        if !self.config.exactly_once {
            let producer = Producer::open(self.config)?;
            producer.reach().await?;
            return Ok(producer);
        }
        let id = exactly_once::redrive_id(self.grant.owner());
        let producer = Producer::transactional(self.config, &id)?;
        let taken_up = async {
            producer.fence(self.config.transaction_timeout).await?;
            let note = marker::read(self.config, vec![id]).await?.into_values().next();
            let gone = note.as_ref().map(|note| note.gone(self.cluster)).unwrap_or_default();
            self.delete(connection, gone).await
        };
        if let Err(error) = taken_up.await {
            producer.close().await;
            return Err(error);
        }
        *settled = true;
        Ok(producer)
    }

    /// Hands rows to Kafka up to the first that goes to another topic, so that no later row of a key can overtake an
    /// earlier one that fails, and waits for all of them. The first of a producer goes alone, see [`Producer::patience`]. Returns the rows that have arrived, and the one that was refused.
    async fn deliver(
        &self,
        producer: &Producer,
        rows: &[PgRow],
        settled: &mut bool,
    ) -> Result<Delivered, Error> {
        if self.config.exactly_once {
            *settled = false;
            producer.begin()?;
        }
        let started = Instant::now();
        let (sent, mut refusal) = self.queue(producer, rows)?;
        let (arrived, failure) = if self.config.exactly_once {
            self.commit(producer, &sent).await?
        } else {
            collect(producer, sent.len()).await
        };
        if let Some(Failure { ordinal, code, .. }) = failure {
            self.metrics.not_sent(code, started.elapsed());
            if let Verdict::Park(reason) = of_kafka(code) {
                refusal = sent.get(ordinal).map(|row| Refusal::of(row, reason));
            }
        }
        let late = arrived.len() < sent.len() && refusal.is_none();
        let sent = sent.into_iter().map(|parked| parked.row).collect();
        Ok(Delivered { sent, arrived, refusal, late })
    }

    fn queue<'r>(
        &self,
        producer: &Producer,
        rows: &'r [PgRow],
    ) -> Result<(Vec<Parked<'r>>, Option<Refusal>), Error> {
        let mut sent: Vec<Parked<'_>> = Vec::new();
        let mut topic = None;
        let mut refusal = None;
        for row in rows {
            let event = Event::read(row).map_err(postgres("reading a parked row"))?;
            let first_waits = !producer.is_proven() && !sent.is_empty();
            let same_topic = *topic.get_or_insert(event.topic) == event.topic;
            if first_waits || !same_topic || !self.grant.may_send() {
                break;
            }
            let moves = row.try_get("moves").map_err(postgres("reading a parked row"))?;
            let parked = Parked { row: Redriven { seq: event.seq, moves }, key: event.key };
            match producer.send(&event, sent.len())? {
                Sent::Queued => sent.push(parked),
                Sent::Full => break,
                Sent::Refused(reason) => {
                    refusal = Some(Refusal::of(&parked, reason));
                    break;
                }
            }
        }
        if let Some(topic) = topic {
            self.metrics.sent(topic, sent.len() as u64);
        }
        Ok((sent, refusal))
    }

    /// Makes the rows count, together with a note that they went out: all of them, or the one that was refused is known.
    async fn commit(
        &self,
        producer: &Producer,
        sent: &[Parked<'_>],
    ) -> Result<(Vec<usize>, Option<Failure>), Error> {
        let rows = sent.iter().map(|parked| parked.row).collect();
        let marker = Marker::redriven(self.cluster, rows).encode()?;
        let id = exactly_once::redrive_id(self.grant.owner());
        producer.note(&self.config.markers_topic, &id, Some(&marker))?;
        let committed = producer.commit(self.config.transaction_timeout).await;
        match (committed, producer.collect().failure) {
            (Ok(()), _) => Ok(((0..sent.len()).collect(), None)),
            (Err(_), Some(failure)) => Ok((Vec::new(), Some(failure))),
            (Err(error), None) => Err(error),
        }
    }

    async fn delete(&self, connection: &mut PgConnection, rows: &[Redriven]) -> Result<(), Error> {
        let deleted = parking::drop_sent(connection, self.grant, rows).await?;
        self.metrics.redriven(deleted);
        Ok(())
    }
}

/// What became of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// Rows went out.
    Sent {
        /// Whether there were no more of them when they were read.
        caught_up: bool,
    },
    /// There was nothing any more.
    Last,
    /// A row was refused.
    Refused {
        /// The row.
        seq: i64,
        /// Its key.
        key: String,
        /// Why.
        reason: Reason,
        /// Whether it is certain that it was that row.
        precise: bool,
    },
}

/// A row that is on its way.
struct Parked<'a> {
    row: Redriven,
    key: &'a str,
}

/// What became of the rows that were sent.
struct Delivered {
    /// By their ordinals.
    sent: Vec<Redriven>,
    /// The ordinals of those that have arrived.
    arrived: Vec<usize>,
    /// The one that was refused.
    refusal: Option<Refusal>,
    /// Whether the others did not arrive in time.
    late: bool,
}

#[derive(Debug)]
struct Refusal {
    seq: i64,
    key: String,
    reason: Reason,
}

impl Refusal {
    fn of(parked: &Parked<'_>, reason: Reason) -> Self {
        Self { seq: parked.row.seq, key: parked.key.to_owned(), reason }
    }
}

/// Waits for the reports of so many events, the first failure, or the end of patience.
async fn collect(producer: &Producer, count: usize) -> (Vec<usize>, Option<Failure>) {
    let mut arrived = Vec::new();
    let wait = async {
        while arrived.len() < count {
            let report = producer.collect();
            let nothing = report.delivered.is_empty();
            arrived.extend(report.delivered);
            if let Some(failure) = report.failure {
                return Some(failure);
            }
            if nothing {
                producer.reported().await;
            }
        }
        None
    };
    let failure = timeout(producer.patience(), wait).await.unwrap_or_default();
    (arrived, failure)
}
