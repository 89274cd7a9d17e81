//! What the machine can do at most: read the outbox by COPY, and produce the same records from memory, each by itself.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::TryStreamExt as _;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};
use sqlx::postgres::PgPoolCopyExt as _;
use tokio::task::block_in_place;

use crate::{
    database::Database,
    event::{Event, HEADERS},
    settings::Settings,
    topic::Topic,
    usage::Busy,
};

/// So many different records are kept in memory and sent again and again.
const DISTINCT: u64 = 10_000;

const PATIENCE: Duration = Duration::from_secs(120);

/// One thing alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// Rows or records per second.
    pub(crate) rate: f64,
    /// How busy all cores were meanwhile, by all processes.
    pub(crate) busy: f64,
}

impl Limit {
    /// The processor time of one row, in seconds, by all processes.
    pub(crate) fn cost(self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.busy * cores as f64 / self.rate
    }

    /// What these cores could do that read and produce at the same time: as fast as either alone, or as fast as the
    /// processor time for both lasts.
    pub(crate) fn both(self, other: Self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let by_time = cores as f64 / (self.cost() + other.cost());
        by_time.min(self.rate).min(other.rate)
    }

    fn measured(rows: u64, started: Instant, before: Busy) -> anyhow::Result<Self> {
        let rate = rows as f64 / started.elapsed().as_secs_f64();
        Ok(Self { rate, busy: Busy::now()?.since(before) })
    }
}

/// Rows out of a full outbox by COPY, all columns that the relay reads.
pub(crate) async fn copy(database: &Database, rows: u64) -> anyhow::Result<Limit> {
    let pool = sqlx::PgPool::connect_lazy_with(database.options());
    let (started, busy) = (Instant::now(), Busy::now()?);
    let mut answer = pool
        .copy_out_raw(
            "copy (select seq, topic, key, headers, payload, created_at from messaging.outbox)
             to stdout (format binary)",
        )
        .await
        .context("copy the outbox")?;
    while let Some(bytes) = answer.try_next().await.context("copy the outbox")? {
        std::hint::black_box(bytes);
    }
    let limit = Limit::measured(rows, started, busy)?;
    drop(answer);
    pool.close().await;
    Ok(limit)
}

/// Records from memory into Kafka, with the relay's settings of the client.
pub(crate) async fn produce(
    settings: &Settings,
    rows: u64,
    payload: usize,
) -> anyhow::Result<Limit> {
    let topic = Topic::fresh(settings).await?;
    let events: Vec<_> =
        (0..DISTINCT.min(rows)).map(|number| Event::new(number, payload)).collect();
    let limit = block_in_place(|| produce_all(settings, &topic.name, &events, rows))?;
    anyhow::ensure!(topic.arrived()? == rows + 1, "not every record has arrived");
    topic.remove().await?;
    Ok(limit)
}

fn produce_all(
    settings: &Settings,
    topic: &str,
    events: &[Event],
    rows: u64,
) -> anyhow::Result<Limit> {
    let producer = producer(settings)?;
    // A cold idempotent producer waits for its id first.
    for event in events.iter().take(1) {
        send(&producer, topic, event)?;
    }
    producer.flush(PATIENCE).context("produce the first record")?;
    let (started, busy) = (Instant::now(), Busy::now()?);
    for (event, _) in events.iter().cycle().zip(0..rows) {
        send(&producer, topic, event)?;
    }
    producer.flush(PATIENCE).context("produce from memory")?;
    Limit::measured(rows, started, busy)
}

fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    event: &Event,
) -> anyhow::Result<()> {
    let mut headers = OwnedHeaders::new_with_capacity(HEADERS.len());
    for (key, value) in HEADERS.iter().zip(&event.headers) {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let mut record = BaseRecord::to(topic).key(&event.key).payload(&event.payload).headers(headers);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                record = refused;
                std::thread::sleep(Duration::from_micros(200));
            }
            Err((error, _)) => return Err(error).context("produce from memory"),
        }
    }
}

fn producer(settings: &Settings) -> anyhow::Result<ThreadedProducer<DefaultProducerContext>> {
    ClientConfig::new()
        .set("bootstrap.servers", &settings.kafka)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("compression.type", "lz4")
        .set("linger.ms", "0")
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", "65536")
        .create()
        .context("set up Kafka's client")
}
