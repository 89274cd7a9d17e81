//! Sends parked events again, in order: those of a topic that refused all of them by itself from time to time, the others
//! when a person wishes. A key is freed while the shipping waits, so that nothing of it overtakes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use sqlx::{PgConnection, postgres::PgRow};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    backoff::Backoff,
    cluster::{self, Cluster},
    config::Source,
    error::postgres,
    event::Event,
    exactly_once,
    lease::Grant,
    marker::{self, Marker},
    metrics::Metrics,
    parking,
    producer::{Failure, Producer, Sent},
    verdict::{Reason, Verdict, of_kafka},
};

/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many rows are on their way at once.
const PAGE: i64 = 500;
/// How often to look for keys that nothing holds any more.
const SWEEP_EVERY: Duration = Duration::from_secs(15);
/// How long the shipping waits for the last rows of the keys to be freed.
const HANDOVER: Duration = Duration::from_secs(5);

/// A request to the shipping: have nothing on your way, wait, and read anew what is parked.
#[derive(Debug)]
pub struct Handover {
    ready: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

impl Handover {
    /// Lets the other side go on, and waits for it. Whether anything may have changed.
    pub async fn granted(self) -> bool {
        if self.ready.send(()).is_err() {
            return false;
        }
        // Whether it ended well or not: what is parked has to be read anew.
        let _ = timeout(HANDOVER, self.done).await;
        true
    }
}

/// Looks after one source's parked rows.
#[derive(Debug)]
pub struct Redrive<'a> {
    /// The settings.
    pub config: &'a Config,
    /// Which database.
    pub source: &'a Source,
    /// Where successes are counted.
    pub metrics: &'a Metrics,
    /// Where the rows' numbers mean something.
    pub cluster: &'a Cluster,
    /// The proof that the shards are ours.
    pub grant: &'a Grant,
    /// Where the shipping is asked to wait.
    pub handovers: mpsc::Sender<Handover>,
    /// When which topic is tried again.
    pub topics: BTreeMap<String, (Backoff, Instant)>,
    /// When keys that nothing holds any more were last looked for.
    pub swept: Option<Instant>,
    /// Where the rows are.
    pub connection: Option<PgConnection>,
    /// Where they go; None after a failure.
    pub producer: Option<Producer>,
}

impl Redrive<'_> {
    /// Looks until told to stop. An error is tried again; the rows stay parked.
    pub async fn run(&mut self, stop: &CancellationToken) {
        let mut failing = false;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let Some(done) = stop.run_until_cancelled(self.step()).await else { return };
            if let Err(error) = &done {
                self.connection = None;
                self.producer = None;
                if !failing {
                    tracing::warn!(
                        source = self.source.name,
                        error = error.chain(),
                        "parked rows are left as they are for now"
                    );
                }
            }
            failing = done.is_err();
        }
    }

    /// Carries out the wishes, and tries topics whose time has come.
    ///
    /// # Errors
    /// Postgres', and Kafka's where it said nothing of a single row.
    pub async fn step(&mut self) -> Result<(), Error> {
        if self.connection.is_none() {
            self.connection = Some(cluster::connect(&self.source.database).await?);
        }
        let mut keys = self.skip().await?;
        keys.extend(self.wished().await?);
        keys.extend(self.left_behind().await?);
        let mut healed = Vec::new();
        for topic in self.topics_due().await? {
            let waiting = self.try_topic(&topic).await?;
            if !waiting.is_empty() {
                keys.extend(waiting);
                healed.push(topic);
            }
        }
        self.drive(&mut keys, None).await?;
        if keys.is_empty() && healed.is_empty() { Ok(()) } else { self.free(keys, &healed).await }
    }

    fn connection(&mut self) -> Result<&mut PgConnection, Error> {
        self.connection.as_mut().ok_or(Error::PostgresSilent("looking after parked rows"))
    }

    /// Deletes the rows that a person wants skipped, and returns their keys.
    async fn skip(&mut self) -> Result<BTreeSet<String>, Error> {
        let (owner, name) = (self.grant.owner().to_owned(), self.source.name.clone());
        let skipped = sqlx::query_as::<_, (i64, String, String)>(
            "delete from messaging.outbox_parked parked
             using messaging.outbox_cursor cursor
             where cursor.shard = parked.shard
               and cursor.owner = $1
               and not cursor.paused
               and parked.wish = 'skip'
               and not held
             returning seq, topic, key",
        )
        .bind(owner)
        .fetch_all(self.connection()?)
        .await
        .map_err(postgres("skipping parked rows"))?;
        for (seq, topic, key) in &skipped {
            tracing::warn!(source = name, seq, topic, key, "skipped a parked event, as wished");
        }
        Ok(skipped.into_iter().map(|(_, _, key)| key).collect())
    }

    /// The keys that a person wants tried again. The wish stays until its row has gone or is refused again.
    async fn wished(&mut self) -> Result<Vec<String>, Error> {
        let owner = self.grant.owner().to_owned();
        sqlx::query_scalar(
            "select distinct key
             from messaging.outbox_parked parked
             join messaging.outbox_cursor cursor using (shard)
             where owner = $1
               and not paused
               and parked.wish = 'retry'",
        )
        .bind(owner)
        .fetch_all(self.connection()?)
        .await
        .map_err(postgres("reading the wishes"))
    }

    /// Keys whose first row only waited for one that is not there any more: what came before went out, or was skipped, and
    /// then somebody was interrupted.
    async fn left_behind(&mut self) -> Result<Vec<String>, Error> {
        if self.swept.is_some_and(|swept| swept.elapsed() < SWEEP_EVERY) {
            return Ok(Vec::new());
        }
        self.swept = Some(Instant::now());
        let owner = self.grant.owner().to_owned();
        sqlx::query_scalar(
            "select key
             from (
                 select distinct on (key) key, reason, shard
                 from messaging.outbox_parked
                 order by key, seq
             ) first
             join messaging.outbox_cursor using (shard)
             where owner = $1
               and not paused
               and reason = 'behind'",
        )
        .bind(owner)
        .fetch_all(self.connection()?)
        .await
        .map_err(postgres("reading the parked keys"))
    }

    /// The topics that refused everything, and have not been tried for a while.
    async fn topics_due(&mut self) -> Result<Vec<String>, Error> {
        let owner = self.grant.owner().to_owned();
        let parked: Vec<String> = sqlx::query_scalar(
            "select distinct topic
             from messaging.outbox_parked
             join messaging.outbox_cursor using (shard)
             where owner = $1
               and not paused
               and reason in ('unknown_topic', 'unauthorised')",
        )
        .bind(owner)
        .fetch_all(self.connection()?)
        .await
        .map_err(postgres("reading the parked topics"))?;
        self.topics.retain(|topic, _| parked.contains(topic));
        let now = Instant::now();
        let mut due = Vec::new();
        for topic in parked {
            let (backoff, next) = self.topics.entry(topic.clone()).or_insert_with(|| {
                (Backoff::new(Duration::from_secs(1), Duration::from_secs(30)), now)
            });
            if *next <= now {
                *next = now + backoff.pause();
                due.push(topic);
            }
        }
        Ok(due)
    }

    /// Sends the first row of a topic; where it arrives, all keys that wait for that topic may go.
    async fn try_topic(&mut self, topic: &str) -> Result<Vec<String>, Error> {
        let owner = self.grant.owner().to_owned();
        let waiting: Vec<(String,)> = sqlx::query_as(
            "select key
             from (
                 select distinct on (key) key, seq, topic, reason, held
                 from messaging.outbox_parked
                 join messaging.outbox_cursor using (shard)
                 where owner = $1
                   and not paused
                   and key in (
                       select key
                       from messaging.outbox_parked
                       where topic = $2
                         and reason in ('unknown_topic', 'unauthorised'))
                 order by key, seq
             ) first
             where topic = $2
               and reason in ('unknown_topic', 'unauthorised')
               and not held
             order by seq
             limit 1000",
        )
        .bind(owner)
        .bind(topic)
        .fetch_all(self.connection()?)
        .await
        .map_err(postgres("reading the parked keys"))?;
        let waiting: Vec<String> = waiting.into_iter().map(|(key,)| key).collect();
        let Some(first) = waiting.first() else { return Ok(Vec::new()) };
        let tried = self.send(&BTreeSet::from([first.clone()]), 1).await?;
        Ok(if matches!(tried, Page::Refused { .. }) { Vec::new() } else { waiting })
    }

    /// Sends the rows of these keys, page by page. A key that is refused again is no longer among them.
    async fn drive(
        &mut self,
        keys: &mut BTreeSet<String>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let mut size = PAGE;
        while !keys.is_empty() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            match self.send(keys, size).await? {
                Page::Last => break,
                Page::Full => {}
                // Kafka may have refused this one only because of another in the same batch: one by one, then.
                Page::Refused { precise: false, .. } => size = 1,
                Page::Refused { key, precise: true } => {
                    keys.remove(&key);
                }
            }
        }
        Ok(())
    }

    /// Sends the first rows of these keys and deletes those that have arrived.
    async fn send(&mut self, keys: &BTreeSet<String>, limit: i64) -> Result<Page, Error> {
        let owner = self.grant.owner().to_owned();
        let rows = sqlx::query(
            "select seq, topic, key, headers, payload, created_at
             from messaging.outbox_parked
             join messaging.outbox_cursor using (shard)
             where owner = $1
               and not paused
               and key = any($2)
               and not held
             order by seq
             limit $3",
        )
        .bind(owner)
        .bind(keys.iter().cloned().collect::<Vec<_>>())
        .bind(limit)
        .fetch_all(self.connection()?)
        .await
        .map_err(postgres("reading parked rows"))?;
        if rows.is_empty() {
            return Ok(Page::Last);
        }
        let (sent, refusal) = self.deliver(&rows).await?;
        self.delete(&sent).await?;
        if let Some(Refusal { seq, key, reason }) = refusal {
            self.producer = None;
            let precise = limit == 1 || reason.is_the_topics();
            if precise {
                self.refused(seq, &key, reason).await?;
            }
            return Ok(Page::Refused { key, precise });
        }
        if sent.is_empty() {
            return Err(Error::Stalled(self.config.delivery_timeout));
        }
        Ok(Page::Full)
    }

    /// Hands rows to Kafka up to the first that goes to another topic, so that no later row of a key can overtake an
    /// earlier one that fails, and waits for all of them. Returns the rows that have arrived, and the one that was refused.
    async fn deliver(&mut self, rows: &[PgRow]) -> Result<Delivered, Error> {
        if self.producer.is_none() {
            self.producer = Some(self.open().await?);
        }
        let Some(producer) = &self.producer else { return Ok((Vec::new(), None)) };
        if self.config.exactly_once {
            producer.begin()?;
        }
        let mut sent: Vec<(i64, &str)> = Vec::new();
        let mut refusal = None;
        let mut topic = None;
        for row in rows {
            let event = Event::read(row).map_err(postgres("reading a parked row"))?;
            if *topic.get_or_insert(event.topic) != event.topic || !self.grant.may_send() {
                break;
            }
            match producer.send(&event, sent.len())? {
                Sent::Queued => sent.push((event.seq, event.key)),
                Sent::Full => break,
                Sent::Refused(reason) => {
                    refusal = Some(Refusal::of((event.seq, event.key), reason));
                    break;
                }
            }
        }
        let (arrived, failure) = if self.config.exactly_once {
            self.commit(producer, &sent).await?
        } else {
            collect(producer, sent.len(), self.config.delivery_timeout * 2).await?
        };
        if let Some(Failure { ordinal, code, .. }) = failure {
            let Verdict::Park(reason) = of_kafka(code) else {
                return Err(Error::Stalled(self.config.delivery_timeout));
            };
            refusal = sent.get(ordinal).map(|row| Refusal::of(*row, reason));
        }
        let arrived = arrived.into_iter().filter_map(|ordinal| Some(sent.get(ordinal)?.0));
        Ok((arrived.collect(), refusal))
    }

    /// A producer to begin with. In exactly-once mode an earlier one of this lease may have got further than was noted in
    /// Postgres.
    async fn open(&mut self) -> Result<Producer, Error> {
        if !self.config.exactly_once {
            let producer = Producer::open(self.config)?;
            producer.reach().await?;
            return Ok(producer);
        }
        let id = exactly_once::redrive_id(self.grant.owner());
        let producer = Producer::transactional(self.config, &id)?;
        producer.fence(self.config.transaction_timeout).await?;
        if let Some(marker) = marker::read(self.config, vec![id]).await?.into_values().next() {
            self.delete(marker.gone(self.cluster)).await?;
        }
        Ok(producer)
    }

    /// Makes the rows count, together with a note that they went out: all of them, or the one that was refused is known.
    async fn commit(
        &self,
        producer: &Producer,
        sent: &[(i64, &str)],
    ) -> Result<(Vec<usize>, Option<Failure>), Error> {
        let rows = sent.iter().map(|(seq, _)| *seq).collect();
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

    async fn delete(&mut self, rows: &[i64]) -> Result<(), Error> {
        let grant = self.grant;
        let deleted = parking::drop_sent(self.connection()?, grant, rows).await?;
        self.metrics.redriven(deleted);
        Ok(())
    }

    /// Notes why a row is parked, and that its key has been tried.
    async fn refused(&mut self, seq: i64, key: &str, reason: Reason) -> Result<(), Error> {
        sqlx::query(
            "update messaging.outbox_parked
             set reason = case when seq = $1 then $3 else reason end,
                 wish = nullif(wish, 'retry')
             where key = $2
               and (seq = $1 or wish = 'retry')",
        )
        .bind(seq)
        .bind(key)
        .bind(reason.label())
        .execute(self.connection()?)
        .await
        .map_err(postgres("noting why a row is parked"))?;
        Ok(())
    }

    /// These topics take events again: whatever of theirs was parked meanwhile waits for nothing but its turn.
    async fn heal(&mut self, topics: &[String]) -> Result<(), Error> {
        if topics.is_empty() {
            return Ok(());
        }
        self.topics.retain(|topic, _| !topics.contains(topic));
        self.swept = None;
        let owner = self.grant.owner().to_owned();
        sqlx::query(
            "update messaging.outbox_parked parked
             set reason = 'behind'
             from messaging.outbox_cursor cursor
             where cursor.shard = parked.shard
               and cursor.owner = $1
               and parked.topic = any ($2)
               and parked.reason in ('unknown_topic', 'unauthorised')",
        )
        .bind(owner)
        .bind(topics)
        .execute(self.connection()?)
        .await
        .map_err(postgres("freeing a topic"))?;
        Ok(())
    }

    /// Sends what has come in behind while the shipping waits, after which the keys are no longer parked.
    async fn free(&mut self, mut keys: BTreeSet<String>, healed: &[String]) -> Result<(), Error> {
        let ((ready, is_ready), (done, is_done)) = (oneshot::channel(), oneshot::channel());
        let handover = Handover { ready, done: is_done };
        if self.handovers.send(handover).await.is_err() || is_ready.await.is_err() {
            return Ok(());
        }
        let driven = match self.heal(healed).await {
            Ok(()) => self.drive(&mut keys, Some(Instant::now() + HANDOVER / 2)).await,
            failed => failed,
        };
        // Whoever waited may have given up: then it reads anew what is parked all the same.
        let _ = done.send(());
        driven
    }
}

/// The rows that have arrived, and the one that was refused.
type Delivered = (Vec<i64>, Option<Refusal>);

#[derive(Debug)]
struct Refusal {
    seq: i64,
    key: String,
    reason: Reason,
}

impl Refusal {
    fn of((seq, key): (i64, &str), reason: Reason) -> Self {
        Self { seq, key: key.to_owned(), reason }
    }
}

/// What became of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Page {
    /// There may be more.
    Full,
    /// There was nothing any more.
    Last,
    /// A row of this key was refused, if it is certain that it was that row.
    Refused { key: String, precise: bool },
}

/// Waits for the reports of so many events, or the first failure.
async fn collect(
    producer: &Producer,
    count: usize,
    patience: Duration,
) -> Result<(Vec<usize>, Option<Failure>), Error> {
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
    match timeout(patience, wait).await {
        Ok(failure) => Ok((arrived, failure)),
        Err(_) => Err(Error::Stalled(patience)),
    }
}
