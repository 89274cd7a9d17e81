//! Handing events to Kafka: idempotent, acknowledged by all replicas, in order within a partition. Once one event has
//! failed none behind it may arrive, so a producer that failed is never used again.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Message,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    producer::{
        BaseRecord, DeliveryResult, NoCustomPartitioner, Producer as _, ProducerContext,
        ThreadedProducer,
    },
};
use tokio::sync::Notify;

use crate::{
    Config, Error,
    error::kafka,
    event::Event,
    spans::Underway,
    token::{self, TokenFile},
    trouble::Trouble,
    verdict::{Reason, Verdict, of_kafka},
};

/// The ordinal of notes, which nobody waits for one by one.
pub(crate) const NOTE: usize = usize::MAX;

/// How long one look for a broker may take.
const REACH: Duration = Duration::from_secs(2);

/// A connection to Kafka with a thread that reports deliveries.
pub struct Producer {
    client: Arc<ThreadedProducer<Deliveries>>,
    reports: Arc<Reports>,
    delivery_timeout: Duration,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Producer").finish_non_exhaustive()
    }
}

/// What became of an event that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// On its way: a delivery will be reported.
    Queued,
    /// The client's queue is full: try again after a delivery.
    Full,
    /// The client refused it before sending anything; nothing else is affected.
    Refused(Reason),
}

/// A delivery that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// As given to [`Producer::send`].
    pub ordinal: usize,
    /// Where it was going.
    pub topic: String,
    /// Its key.
    pub key: String,
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
    pub broken: Option<Error>,
}

impl Producer {
    /// Sets the client up; it connects by itself.
    ///
    /// # Errors
    /// When a setting is refused, or a secret cannot be read.
    pub fn open(config: &Config) -> Result<Self, Error> {
        Self::with(config, settings(config)?.set("enable.gapless.guarantee", "true"))
    }

    /// Sets up a client whose events count only when their transaction is committed. Before the first one it must
    /// [`Producer::fence`].
    ///
    /// # Errors
    /// When a setting is refused, or a secret cannot be read.
    pub fn transactional(config: &Config, id: &str) -> Result<Self, Error> {
        let timeout = config.transaction_timeout.as_millis().to_string();
        Self::with(
            config,
            settings(config)?.set("transactional.id", id).set("transaction.timeout.ms", timeout),
        )
    }

    fn with(config: &Config, settings: &mut ClientConfig) -> Result<Self, Error> {
        let reports = Arc::new(Reports::default());
        let context = Deliveries { reports: Arc::clone(&reports), token: config.broker.token() };
        let client = settings
            .create_with_context::<_, ThreadedProducer<_>>(context)
            .map_err(kafka("setting up the producer"))?;
        let delivery_timeout = config.delivery_timeout;
        Ok(Self { client: Arc::new(client), reports, delivery_timeout })
    }

    /// Waits until a broker answers; its answer also starts the client's request for a producer id.
    ///
    /// # Errors
    /// When none answered, or what they refused.
    pub async fn reach(&self) -> Result<(), Error> {
        let client = Arc::clone(&self.client);
        let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::AllBrokersDown);
        match tokio::task::spawn_blocking(move || client.client().fetch_cluster_id(REACH)).await {
            Ok(Some(_)) => {
                self.reports.trouble.end();
                Ok(())
            }
            Ok(None) | Err(_) => {
                let action = "looking for a broker";
                Err(self.reports.trouble.error(action).unwrap_or_else(|| kafka(action)(unknown)))
            }
        }
    }

    /// Queues one event under an ordinal that its delivery report will carry.
    ///
    /// # Errors
    /// When the client can send nothing any more.
    pub fn send(&self, event: &Event<'_>, ordinal: usize) -> Result<Sent, Error> {
        let Ok(headers) = event.headers() else { return Ok(Sent::Refused(Reason::Invalid)) };
        let mut record = BaseRecord::<str, [u8], usize>::with_opaque_to(event.topic, ordinal)
            .key(event.key)
            .headers(headers);
        record.payload = event.payload;
        self.reports.underway.sends(ordinal, event.created_at);
        self.queue(record)
    }

    fn queue(&self, record: BaseRecord<'_, str, [u8], usize>) -> Result<Sent, Error> {
        match self.client.send(record) {
            Ok(()) => Ok(Sent::Queued),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(Sent::Full),
            // A topic's name that no topic can have.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::InvalidArgument), _)) => {
                Ok(Sent::Refused(Reason::Invalid))
            }
            Err((source, _)) => match source.rdkafka_error_code().map(of_kafka) {
                Some(Verdict::Park(reason)) => Ok(Sent::Refused(reason)),
                _ => Err(kafka("queueing an event")(source)),
            },
        }
    }

    /// Ends whatever another producer of the same transactional id has begun, and keeps it from committing any more. What
    /// it had committed is complete when this returns.
    ///
    /// # Errors
    /// When Kafka could not do it in this time.
    pub async fn fence(&self, limit: Duration) -> Result<(), Error> {
        self.block("fencing earlier transactions", move |client| client.init_transactions(limit))
            .await
    }

    /// Begins a transaction: what is sent from now on counts when it is committed.
    ///
    /// # Errors
    /// When there is one already, or the producer was fenced.
    pub fn begin(&self) -> Result<(), Error> {
        self.client.begin_transaction().map_err(kafka("beginning a transaction"))
    }

    /// Adds a note to the transaction: under this key, on the only partition of its topic; None takes an earlier one back.
    ///
    /// # Errors
    /// When the client refuses it.
    pub fn note(&self, topic: &str, key: &str, note: Option<&[u8]>) -> Result<(), Error> {
        let mut record =
            BaseRecord::<str, [u8], usize>::with_opaque_to(topic, NOTE).key(key).partition(0);
        record.payload = note;
        self.client.send(record).map_err(|(source, _)| kafka("noting the position")(source))
    }

    /// Waits until everything has arrived, and makes all of it count at once.
    ///
    /// # Errors
    /// Nothing of it counts, or it is not known whether it does: the producer must not be used again.
    pub async fn commit(&self, limit: Duration) -> Result<(), Error> {
        self.block("committing a transaction", move |client| client.commit_transaction(limit)).await
    }

    async fn block(
        &self,
        action: &'static str,
        call: impl FnOnce(&ThreadedProducer<Deliveries>) -> KafkaResult<()> + Send + 'static,
    ) -> Result<(), Error> {
        let client = Arc::clone(&self.client);
        tokio::task::spawn_blocking(move || call(&client))
            .await
            .map_err(|panic| Error::TaskEnded(panic.to_string()))?
            .map_err(kafka(action))
    }

    /// Whether anything of this producer has arrived yet.
    pub fn is_proven(&self) -> bool {
        self.reports.proven.load(Ordering::Relaxed)
    }

    /// How long an event may be on its way before everything is given up. Half of the client's own time-out: all goes
    /// together, long before the client gives up one event by itself and lets the next one through. Its guarantee of no gaps
    /// does not cover that (librdkafka, `enable.gapless.guarantee`), and a busy machine may look here late. The first event
    /// has nothing behind it, since it goes alone, and the client's way to Kafka yet before it.
    pub fn patience(&self) -> Duration {
        if self.is_proven() { self.delivery_timeout / 2 } else { self.delivery_timeout }
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
        let Self { client, reports, .. } = self;
        // The client waits for its threads: not on a thread that others share.
        if let Err(error) = tokio::task::spawn_blocking(move || drop(client)).await {
            tracing::error!(error = %error, "closing the producer failed");
        }
        mem::take(&mut *reports.lock())
    }
}

/// How to reach Kafka, for every client of the relay.
///
/// # Errors
/// When a secret cannot be read.
pub(crate) fn client(config: &Config) -> Result<ClientConfig, Error> {
    let mut settings = config.broker.client(&config.kafka)?;
    settings.set("client.id", &config.name);
    Ok(settings)
}

fn settings(config: &Config) -> Result<ClientConfig, Error> {
    let millis = |duration: Duration| duration.as_millis().to_string();
    let mut settings = client(config)?;
    settings
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // One batch after the other. A broker takes any batch as the first of a producer that it knows nothing of on a
        // partition: it may refuse one for a moment and take the next, from which the client concludes that both have arrived.
        .set("max.in.flight.requests.per.connection", "1")
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
    Ok(settings)
}

/// The client's side of the reports.
struct Deliveries {
    reports: Arc<Reports>,
    token: Option<TokenFile>,
}

#[derive(Default)]
struct Reports {
    report: Mutex<Report>,
    proven: AtomicBool,
    trouble: Trouble,
    underway: Underway,
    arrived: Notify,
}

impl Reports {
    fn lock(&self) -> std::sync::MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn break_off(&self, source: KafkaError) {
        let action = "delivering";
        let error = self.trouble.error(action).unwrap_or(Error::Kafka { action, source });
        self.lock().broken.get_or_insert(error);
        self.arrived.notify_one();
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    /// The client repeats itself while a broker is away; the relay says so once.
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "Kafka's client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "Kafka's client reports");
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::Fatal) => {
                self.reports.break_off(error);
            }
            _ => self.reports.trouble.note(&error, reason),
        }
    }

    fn generate_oauth_token(
        &self,
        _configuration: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token::supply(self.token.as_ref())
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ordinal: usize) {
        if let Ok(message) = result {
            self.reports.underway.delivered(ordinal, message);
        }
        let mut report = self.reports.lock();
        let first = report.delivered.is_empty() && report.failure.is_none();
        match result {
            Ok(_) => {
                self.reports.proven.store(true, Ordering::Relaxed);
                report.delivered.push(ordinal);
            }
            Err((error, message)) if report.failure.is_none() => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                report.failure = Some(Failure {
                    ordinal,
                    topic: message.topic().to_owned(),
                    key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                    code,
                });
            }
            Err(_) => {}
        }
        drop(report);
        if first {
            self.reports.arrived.notify_one();
        }
    }
}
