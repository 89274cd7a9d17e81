//! Sends parked events again, in order: those of a topic that refused all of them by itself from time to time, the others
//! when a person wishes. A key is freed while the shipping waits, so that nothing of it overtakes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    backoff::Backoff,
    cluster,
    config::Source,
    error::postgres,
    lease::Grant,
    resend::{Page, Resend},
    verdict::Reason,
};

/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many keys are looked after at once, so that a handover stays short and a statement small.
const KEYS: i64 = 1000;
/// How many rows are on their way at once.
pub(crate) const PAGE: i64 = 500;
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
    /// Which database.
    pub source: &'a Source,
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
    /// What sends them.
    pub resend: Resend<'a>,
    /// How many rows go at once; less than a page after they were too many.
    pub page: i64,
}

impl Redrive<'_> {
    /// Looks until told to stop. An error is tried again; the rows stay parked.
    pub async fn run(&mut self, stop: &CancellationToken) {
        let mut failing = false;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let Some(done) = stop.run_until_cancelled(self.step()).await else { return };
            if let Err(error) = &done {
                self.connection = None;
                self.swept = None;
                self.resend.close().await;
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
               and parked.wish = 'retry'
             limit $2",
        )
        .bind(owner)
        .bind(KEYS)
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
        let keys: Vec<String> = sqlx::query_scalar(
            "select key
             from (
                 select distinct on (key) key, reason, shard
                 from messaging.outbox_parked
                 order by key, seq
             ) first
             join messaging.outbox_cursor using (shard)
             where owner = $1
               and not paused
               and reason = 'behind'
             limit $2",
        )
        .bind(owner)
        .bind(KEYS)
        .fetch_all(self.connection()?)
        .await
        .map_err(postgres("reading the parked keys"))?;
        if i64::try_from(keys.len()) == Ok(KEYS) {
            self.swept = None;
        }
        Ok(keys)
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
             limit $3",
        )
        .bind(owner)
        .bind(topic)
        .bind(KEYS)
        .fetch_all(self.connection()?)
        .await
        .map_err(postgres("reading the parked keys"))?;
        let waiting: Vec<String> = waiting.into_iter().map(|(key,)| key).collect();
        let Some(first) = waiting.first() else { return Ok(Vec::new()) };
        let tried = self.send(&BTreeSet::from([first.clone()]), 1).await?;
        Ok(if matches!(tried, Page::Sent { .. }) { waiting } else { Vec::new() })
    }

    /// Sends the rows of these keys, page by page. A key that is refused again is no longer among them.
    async fn drive(
        &mut self,
        keys: &mut BTreeSet<String>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        while !keys.is_empty() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            match self.send(keys, self.page).await? {
                Page::Last => break,
                // A key that never rests is never done: what comes in now goes out while the shipping waits.
                Page::Sent { caught_up: true } if deadline.is_none() => break,
                Page::Sent { .. } => self.page = PAGE.min(self.page * 2),
                // Kafka may have refused this one only because of another in the same batch: one by one, then.
                Page::Refused { precise: false, .. } => self.page = 1,
                Page::Refused { key, precise: true, .. } => {
                    keys.remove(&key);
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, keys: &BTreeSet<String>, limit: i64) -> Result<Page, Error> {
        let connection =
            self.connection.as_mut().ok_or(Error::PostgresSilent("looking after parked rows"))?;
        let page = self.resend.send(connection, keys, limit).await;
        if let Err(Error::Stalled(_)) = &page {
            self.page = (limit / 2).max(1);
        }
        let page = page?;
        if let Page::Refused { seq, key, reason, precise: true } = &page {
            self.refused(*seq, key, *reason).await?;
        }
        Ok(page)
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
