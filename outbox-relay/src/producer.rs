//! Handing events to Kafka: idempotent, acknowledged by all replicas, in order within a partition. Once one event has
//! failed none behind it may arrive, so a producer that failed is never used again.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{
        BaseRecord, DeliveryResult, NoCustomPartitioner, Producer as _, ProducerContext,
        ThreadedProducer,
    },
};
use tokio::sync::Notify;

use crate::{
    Config, Error,
    error::{kafka, postgres},
    event::Event,
};

/// How long one look for a broker may take.
const REACH: Duration = Duration::from_secs(2);

/// A connection to Kafka with a thread that reports deliveries.
pub struct Producer {
    client: Arc<ThreadedProducer<Deliveries>>,
    reports: Arc<Reports>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Producer").finish_non_exhaustive()
    }
}

/// Whether there was room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// On its way: a delivery will be reported.
    Queued,
    /// The client's queue is full: try again after a delivery.
    Full,
}

/// A delivery that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// As given to [`Producer::send`].
    pub ordinal: usize,
    /// Where it was going.
    pub topic: String,
    /// Why it did not get there.
    pub code: RDKafkaErrorCode,
}

/// What has been reported since the last look.
#[derive(Debug, Default)]
pub struct Report {
    /// The ordinals that Kafka has acknowledged.
    pub delivered: Vec<usize>,
    /// The first that failed.
    pub failure: Option<Failure>,
    /// The client can do no more, or sees no broker.
    pub broken: Option<KafkaError>,
}

impl Producer {
    /// Sets the client up; it connects by itself.
    ///
    /// # Errors
    /// When a setting is refused.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let reports = Arc::new(Reports::default());
        let client = settings(config)
            .create_with_context::<_, ThreadedProducer<_>>(Deliveries(Arc::clone(&reports)))
            .map_err(kafka("setting up the producer"))?;
        Ok(Self { client: Arc::new(client), reports })
    }

    /// Waits until a broker answers; its answer also starts the client's request for a producer id.
    ///
    /// # Errors
    /// When none answered.
    pub async fn reach(&self) -> Result<(), Error> {
        let client = Arc::clone(&self.client);
        let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::AllBrokersDown);
        match tokio::task::spawn_blocking(move || client.client().fetch_cluster_id(REACH)).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => Err(kafka("looking for a broker")(unknown)),
        }
    }

    /// Queues one event under an ordinal that its delivery report will carry.
    ///
    /// # Errors
    /// When the client refuses the event at once.
    pub fn send(&self, event: &Event<'_>, ordinal: usize) -> Result<Sent, Error> {
        let mut record = BaseRecord::<str, [u8], usize>::with_opaque_to(event.topic, ordinal)
            .key(event.key)
            .headers(event.headers().map_err(postgres("reading a row's headers"))?);
        record.payload = event.payload;
        match self.client.send(record) {
            Ok(()) => Ok(Sent::Queued),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(Sent::Full),
            Err((KafkaError::MessageProduction(code), _)) => {
                Err(Error::Delivery { seq: event.seq, topic: event.topic.to_owned(), code })
            }
            Err((source, _)) => Err(kafka("queueing an event")(source)),
        }
    }

    /// Waits for a report, or returns at once if there is one that was not collected.
    pub async fn reported(&self) {
        self.reports.arrived.notified().await;
    }

    /// Takes what has been reported.
    pub fn collect(&self) -> Report {
        mem::take(&mut *self.reports.lock())
    }

    /// Drops what is queued and the connections, and returns the last reports. Nothing is sent after this.
    pub async fn close(self) -> Report {
        let Self { client, reports } = self;
        // The client waits for its threads: not on a thread that others share.
        if let Err(error) = tokio::task::spawn_blocking(move || drop(client)).await {
            tracing::error!(error = %error, "closing the producer failed");
        }
        mem::take(&mut *reports.lock())
    }
}

fn settings(config: &Config) -> ClientConfig {
    let millis = |duration: Duration| duration.as_millis().to_string();
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", &config.kafka)
        .set("client.id", &config.name)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // A refused batch ends the producer instead of letting the next batch of its partition overtake.
        .set("enable.gapless.guarantee", "true")
        .set("partitioner", "murmur2_random")
        .set("allow.auto.create.topics", "false")
        .set("compression.type", &config.compression)
        .set("linger.ms", millis(config.linger))
        .set("message.timeout.ms", millis(config.delivery_timeout))
        .set("request.timeout.ms", millis(config.delivery_timeout))
        // A topic that is not there shall be called so before the delivery times out.
        .set("topic.metadata.propagation.max.ms", millis(config.delivery_timeout / 2))
        // As much as Apache Kafka takes unless told otherwise; the broker's own limit is the one that counts.
        .set("message.max.bytes", "1048588")
        // The relay bounds what is in flight itself.
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", (config.in_flight_bytes / 512 + 4096).to_string())
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.nagle.disable", "true");
    settings
}

/// The client's side of the reports.
struct Deliveries(Arc<Reports>);

#[derive(Default)]
struct Reports {
    report: Mutex<Report>,
    arrived: Notify,
}

impl Reports {
    fn lock(&self) -> std::sync::MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    /// The client repeats itself while a broker is away; the relay says so once.
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "Kafka's client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "Kafka's client reports");
        if matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::Fatal)
        ) {
            self.0.lock().broken.get_or_insert(error);
            self.0.arrived.notify_one();
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ordinal: usize) {
        let mut report = self.0.lock();
        let first = report.delivered.is_empty() && report.failure.is_none();
        match result {
            Ok(_) => report.delivered.push(ordinal),
            Err((error, message)) if report.failure.is_none() => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                report.failure = Some(Failure { ordinal, topic: message.topic().to_owned(), code });
            }
            Err(_) => {}
        }
        drop(report);
        if first {
            self.0.arrived.notify_one();
        }
    }
}
