//! Polls Kafka and hands what a poll returned to the inbox as one batch. Offsets move only after the inbox has committed: a
//! crash in between repeats work, and never loses any.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::DateTime;
use futures::FutureExt as _;
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
    error::{KafkaError, KafkaResult},
    message::{BorrowedMessage, Headers as _},
};
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    consumption::Consumption,
    doorbell::Doorbell,
    inbox::{Inbox, InboxError, Record, Report},
    policy::Book,
    progress::Progress,
    switches::Switch,
};

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A batch that takes longer has a connection that leads nowhere: it is tried again on a new one.
const LONGEST_BATCH: Duration = Duration::from_secs(30);
/// Kafka is not told the last offsets when it takes longer; the work is repeated.
const LONGEST_GOODBYE: Duration = Duration::from_secs(3);
/// In characters.
const LONGEST_KEY: usize = 500;
/// The end of the year 9999.
const LATEST_MILLIS: i64 = 253_402_300_799_999;

/// Consumes a service's topics for its inbox, on a database connection of its own.
pub struct Consumer<B> {
    inbox: Arc<Inbox<B>>,
    kafka: StreamConsumer<Progress>,
    options: PgConnectOptions,
    conn: Option<PgConnection>,
    batch_size: usize,
    batch: Vec<Record>,
    doorbell: Doorbell,
    consumption: Consumption,
    /// Whether Kafka could not be read the last time.
    away: bool,
    /// Why it never can be again.
    fatal: Option<KafkaError>,
}

impl<B> std::fmt::Debug for Consumer<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

impl<B: Book> Consumer<B> {
    /// Subscribes; Kafka need not be there yet. `group` is the same for all replicas of a service.
    pub fn new(
        inbox: Arc<Inbox<B>>,
        group: &str,
        brokers: &str,
        options: PgConnectOptions,
        batch_size: usize,
        progress: Progress,
        doorbell: Doorbell,
    ) -> anyhow::Result<Self> {
        let kafka: StreamConsumer<Progress> = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", group)
            .set("client.id", group)
            .set("auto.offset.reset", "earliest")
            // Stored by us after the commit, sent to Kafka in the background.
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "500")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "1000")
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("reconnect.backoff.max.ms", "1000")
            .set("fetch.wait.max.ms", "50")
            .set("queued.max.messages.kbytes", "16384")
            .set("statistics.interval.ms", "1000")
            .create_with_context(progress)?;
        kafka.subscribe(&inbox.topics().collect::<Vec<_>>())?;
        Ok(Self {
            consumption: Consumption::new(group, inbox.topics()),
            inbox,
            kafka,
            options,
            conn: None,
            batch_size,
            batch: Vec::new(),
            doorbell,
            away: false,
            fatal: None,
        })
    }

    /// Repeats [`Consumer::step`] until told to stop, then tells Kafka the last offsets. While `on` is off nothing is
    /// consumed.
    pub async fn run(mut self, on: Switch, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut on = on.follow();
        let mut pause = SHORTEST_PAUSE;
        let ended = loop {
            let consuming = *on.borrow_and_update();
            let result = tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                // The switch was turned; what was polled stays in the batch. A transaction that was cut off would keep its
                // locks until the connection is used again, so the connection goes.
                Ok(()) = on.changed() => {
                    self.conn = None;
                    continue;
                }
                result = self.step(&shutdown), if consuming => result,
            };
            match result {
                Ok(_) => pause = SHORTEST_PAUSE,
                Err(error) => {
                    let InboxError::Database(cause) = &error;
                    tracing::warn!(%error, %cause, "a batch will be tried again");
                    self.conn = None;
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = shutdown.cancelled() => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            if let Some(error) = self.fatal.take() {
                let error = anyhow::Error::new(error);
                break Err(error.context("Kafka has closed this consumer for good"));
            }
        };
        say_goodbye(self.kafka).await;
        ended
    }

    /// Takes what there is, up to a batch, and handles it. What an earlier step failed to handle comes first.
    /// Cancellation loses nothing: what was polled stays in the batch.
    pub async fn step(&mut self, shutdown: &CancellationToken) -> Result<Report, InboxError> {
        if self.batch.is_empty() {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(Report::default()),
                () = self.fill() => self.inbox.handed_over(&self.batch),
            }
        }
        if self.fatal.is_some() {
            return Ok(Report::default());
        }
        let started = Instant::now();
        let conn = match &mut self.conn {
            Some(conn) => conn,
            None => self.conn.insert(PgConnection::connect_with(&self.options).await?),
        };
        let report = tokio::time::timeout(LONGEST_BATCH, self.inbox.handle(conn, &self.batch))
            .await
            .unwrap_or(Err(InboxError::Database(sqlx::Error::PoolTimedOut)))?;
        if report.emitted > 0 {
            self.doorbell.ring();
        }
        for record in &self.batch {
            if let Err(error) =
                self.kafka.store_offset(&record.topic, record.partition, record.offset)
            {
                // The partition went to another replica meanwhile; it will see these messages again.
                tracing::debug!(%error, topic = record.topic, partition = record.partition, "offset not stored");
            }
        }
        self.batch.clear();
        self.consumption.handled(&report, started.elapsed());
        Ok(report)
    }
}

/// Tells Kafka the last offsets and leaves the group. Both block, without limit while Kafka is away: on a thread of
/// their own, which the end of the process does not wait for.
async fn say_goodbye(kafka: StreamConsumer<Progress>) {
    let (done, left) = oneshot::channel();
    std::thread::spawn(move || {
        // Nothing stored: nothing to tell; Kafka away: the work is repeated.
        if let Err(error) = kafka.commit_consumer_state(CommitMode::Sync) {
            tracing::debug!(%error, "the last offsets were not told to Kafka");
        }
        drop(kafka);
        // Whoever waited may have gone.
        let _ = done.send(());
    });
    if tokio::time::timeout(LONGEST_GOODBYE, left).await.is_err() {
        tracing::info!(
            "Kafka is away: the last offsets were not told, and some work will be repeated"
        );
    }
}

impl<B> Consumer<B> {
    /// Waits for one message and takes those that are there already.
    async fn fill(&mut self) {
        let asked = Instant::now();
        while self.batch.is_empty() && self.fatal.is_none() {
            let received = self.kafka.recv().await.map(|message| record(&message));
            self.take(received, asked);
        }
        while self.batch.len() < self.batch_size {
            let received = self.kafka.recv().now_or_never();
            let Some(received) = received.map(|it| it.map(|message| record(&message))) else {
                break;
            };
            self.take(received, asked);
        }
        self.consumption.polled(&self.batch, asked.elapsed());
    }

    fn take(&mut self, received: KafkaResult<Record>, asked: Instant) {
        let error = match received {
            Ok(record) => {
                if std::mem::take(&mut self.away) {
                    tracing::info!("Kafka is back");
                }
                return self.batch.push(record);
            }
            Err(error) => error,
        };
        self.consumption.failed(&error, asked.elapsed());
        if let KafkaError::MessageConsumptionFatal(_) = error {
            self.fatal = Some(error);
            return;
        }
        // librdkafka reconnects by itself.
        if std::mem::replace(&mut self.away, true) {
            tracing::debug!(%error, "Kafka still cannot be read");
        } else {
            tracing::warn!(%error, "Kafka cannot be read; waiting for it");
        }
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect()
    });
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        kafka_time: message
            .timestamp()
            .to_millis()
            // Anything else is not a time that Kafka came up with, nor one that Postgres can keep.
            .filter(|millis| (0..=LATEST_MILLIS).contains(millis))
            .and_then(DateTime::from_timestamp_millis)
            .unwrap_or_else(clock::now),
        key: message.key().map(key).unwrap_or_default(),
        headers: headers.unwrap_or_default(),
        payload: message.payload().map(<[u8]>::to_vec),
    }
}

/// A key as it can be parked under: text without NUL, short enough for an index. Longer ones share their beginning.
fn key(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|it| if it == '\0' { char::REPLACEMENT_CHARACTER } else { it })
        .take(LONGEST_KEY)
        .collect()
}
