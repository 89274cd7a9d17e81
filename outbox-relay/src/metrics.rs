//! What the relay counts, by OpenTelemetry, served to Prometheus. Never an id as a label: a source, a topic, a reason.

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter, MeterProvider},
};
use opentelemetry_sdk::{
    Resource,
    metrics::{MeterProviderBuilder, SdkMeterProvider},
};
use prometheus::Registry;
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::oneshot;

use crate::{Config, Error, shards::Shards, spans, verdict::Reason};

/// The last values are given up when the collector takes longer.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(3);

const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];
const ROWS: [f64; 9] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 10_000.0, 100_000.0];

/// The reasons of failures, so that an alarm sees a zero before the first one.
const REASONS: [&str; 8] = [
    "transient",
    "too_large",
    "invalid",
    "unknown_topic",
    "unauthorised",
    "stalled",
    "unreachable",
    "stopped",
];

const PARKED: [Reason; 5] =
    [Reason::TooLarge, Reason::Invalid, Reason::UnknownTopic, Reason::Unauthorised, Reason::Behind];

/// The instruments of the process; each source takes its own view.
#[derive(Debug)]
pub struct Telemetry {
    /// What /metrics prints.
    pub registry: Registry,
    provider: SdkMeterProvider,
}

impl Telemetry {
    /// Sets up an exporter of its own, so that several relays may live in one process.
    ///
    /// # Errors
    /// When the exporter cannot be registered.
    pub fn new() -> Result<Self, Error> {
        Self::with(Ok)
    }

    /// The same, for the configured collector too. Call it inside the Tokio runtime.
    ///
    /// # Errors
    /// When the collector's endpoint is not a URL.
    pub fn start(config: &Config) -> Result<Self, Error> {
        let endpoint = config.otlp_metrics_endpoint.as_deref();
        let every = Duration::from_millis(config.metric_export_interval);
        Self::with(|builder| match endpoint.filter(|endpoint| !endpoint.is_empty()) {
            Some(endpoint) => Ok(builder.with_reader(otlp::metrics(endpoint, every)?)),
            None => Ok(builder),
        })
    }

    fn with(
        readers: impl FnOnce(MeterProviderBuilder) -> Result<MeterProviderBuilder, Error>,
    ) -> Result<Self, Error> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .build()
            .map_err(|error| Error::Metrics(error.into()))?;
        let resource = Resource::builder().with_service_name("outbox-relay").build();
        let builder = SdkMeterProvider::builder().with_reader(exporter).with_resource(resource);
        let provider = readers(builder)?.build();
        provider
            .meter("outbox-relay")
            .u64_observable_counter("telemetry.spans.dropped")
            .with_description("Spans that nobody collected in time")
            .with_callback(|observer| observer.observe(spans::dropped(), &[]))
            .build();
        Ok(Self { registry, provider })
    }

    /// Sends the last values to the collector, if there is one, for at most some seconds.
    pub async fn shutdown(self) {
        let (done, sent) = oneshot::channel();
        // It blocks for longer than we wait: on a thread of its own, which the end of the process does not wait for.
        std::thread::spawn(move || done.send(self.provider.shutdown()));
        if !matches!(tokio::time::timeout(LONGEST_SHUTDOWN, sent).await, Ok(Ok(Ok(())))) {
            tracing::warn!("the last metrics were not delivered");
        }
    }

    /// The instruments of one source.
    pub fn source(&self, name: &str) -> Metrics {
        let metrics = Metrics::new(&self.provider.meter("outbox-relay"), name);
        metrics.start_at_zero();
        metrics
    }
}

/// One source's instruments.
#[derive(Debug, Clone)]
pub struct Metrics {
    source: [KeyValue; 1],
    backlog: Gauge<u64>,
    oldest: Gauge<f64>,
    parked_rows: Gauge<u64>,
    parked_keys: Gauge<u64>,
    measured: Gauge<u64>,
    waited: Histogram<f64>,
    published: Counter<u64>,
    failed: Counter<u64>,
    retries: Counter<u64>,
    rotations: Counter<u64>,
    rotations_blocked: Counter<u64>,
    removed: Counter<u64>,
    window: Histogram<u64>,
    in_flight: Gauge<u64>,
    shards: Gauge<u64>,
    parked: Counter<u64>,
    redriven: Counter<u64>,
    sent: Counter<u64>,
    sending: Histogram<f64>,
}

impl Metrics {
    fn new(meter: &Meter, name: &str) -> Self {
        Self {
            source: [KeyValue::new("source", name.to_owned())],
            backlog: gauge(
                meter,
                "outbox.backlog",
                "Rows not yet acknowledged, by SQL; counted up to 100000",
            ),
            oldest: age(
                meter,
                "outbox.oldest.age",
                "Age of the oldest row not yet acknowledged, by SQL",
            ),
            parked_rows: gauge(
                meter,
                "outbox.parked",
                "Events that are parked, by SQL; counted up to 10000",
            ),
            parked_keys: gauge(meter, "outbox.parked.keys", "The keys that wait behind them"),
            measured: gauge(
                meter,
                "outbox.measured",
                "1 while the gauges by SQL are fresh, 0 without an answer",
            ),
            waited: seconds(
                meter,
                "outbox.wait.duration",
                "From a row's creation to its reading; sampled",
            ),
            published: counter(meter, "outbox.relay.published", "Rows that the cursor has passed"),
            failed: counter(
                meter,
                "outbox.relay.failed",
                "Failures that stopped the source, by reason",
            ),
            retries: counter(
                meter,
                "outbox.relay.retries",
                "Times that shipping started again from the cursor",
            ),
            rotations: counter(meter, "outbox.relay.rotations", "Children of the ring truncated"),
            rotations_blocked: counter(
                meter,
                "outbox.relay.rotations.blocked",
                "Truncations given up for a lock",
            ),
            removed: counter(
                meter,
                "outbox.relay.removed",
                "Acknowledged rows deleted from a mapped table",
            ),
            window: rows(meter, "outbox.relay.window.rows", "Rows per window"),
            in_flight: bytes(meter, "outbox.relay.in_flight", "Bytes on their way to Kafka"),
            shards: gauge(meter, "outbox.relay.shards", "Shards that this relay ships, of 64"),
            parked: counter(meter, "outbox.relay.parked", "Events set aside, by reason"),
            redriven: counter(
                meter,
                "outbox.relay.redriven",
                "Parked events that Kafka took in the end",
            ),
            sent: counter(
                meter,
                "messaging.client.sent.messages",
                "Events handed to Kafka's client, by topic",
            ),
            sending: seconds(
                meter,
                "messaging.client.operation.duration",
                "To the acknowledgement; slowest of a batch",
            ),
        }
    }

    fn start_at_zero(&self) {
        let [source] = &self.source;
        for reason in REASONS {
            self.failed.add(0, &[source.clone(), KeyValue::new("reason", reason)]);
        }
        for counter in [&self.published, &self.retries, &self.rotations, &self.rotations_blocked] {
            counter.add(0, &self.source);
        }
        for reason in PARKED {
            self.parked.add(0, &[source.clone(), KeyValue::new("reason", reason.label())]);
        }
        self.redriven.add(0, &self.source);
        self.removed.add(0, &self.source);
        self.owned(Shards::NONE);
        self.in_flight(0);
    }

    /// The size of the backlog and the age of its oldest row, as measured by SQL.
    pub fn backlog(&self, rows: u64, oldest: Duration) {
        self.backlog.record(rows, &self.source);
        self.oldest.record(oldest.as_secs_f64(), &self.source);
        self.measured.record(1, &self.source);
    }

    /// How many events are parked now, and how many keys they have.
    pub fn parked_now(&self, rows: u64, keys: u64) {
        self.parked_rows.record(rows, &self.source);
        self.parked_keys.record(keys, &self.source);
    }

    /// The backlog could not be measured: its last values are stale.
    pub fn backlog_unknown(&self) {
        self.measured.record(0, &self.source);
    }

    /// How long a row waited to be read.
    pub fn waited(&self, wait: Duration) {
        self.waited.record(wait.as_secs_f64(), &self.source);
    }

    /// The cursor has passed rows; the slowest of them took this long to be acknowledged.
    pub fn published(&self, rows: u64, slowest: Duration) {
        self.published.add(rows, &self.source);
        self.sending.record(slowest.as_secs_f64(), &sending());
    }

    /// Kafka has not taken what was sent this long ago, and nothing of it is waited for any more.
    pub fn not_sent(&self, code: RDKafkaErrorCode, took: Duration) {
        let [system, operation, kind] = sending();
        let error = KeyValue::new("error.type", format!("{code:?}"));
        self.sending.record(took.as_secs_f64(), &[system, operation, kind, error]);
    }

    /// Events were handed to Kafka's client.
    pub fn sent(&self, topic: &str, events: u64) {
        let [system, operation, kind] = sending();
        let topic = KeyValue::new("messaging.destination.name", topic.to_owned());
        self.sent.add(events, &[system, operation, kind, topic]);
    }

    /// A delivery failed.
    pub fn failed(&self, reason: &'static str) {
        let [source] = self.source.clone();
        self.failed.add(1, &[source, KeyValue::new("reason", reason)]);
    }

    /// Shipping starts again from the cursor.
    pub fn retried(&self) {
        self.retries.add(1, &self.source);
    }

    /// A child of the ring was truncated.
    pub fn rotated(&self) {
        self.rotations.add(1, &self.source);
    }

    /// A truncation was given up because its lock was not granted.
    pub fn rotation_blocked(&self) {
        self.rotations_blocked.add(1, &self.source);
    }

    /// Acknowledged rows were deleted.
    pub fn removed(&self, rows: u64) {
        self.removed.add(rows, &self.source);
    }

    /// A window was read to its end.
    pub fn window(&self, rows: u64) {
        self.window.record(rows, &self.source);
    }

    /// Bytes on their way.
    pub fn in_flight(&self, bytes: usize) {
        self.in_flight.record(bytes as u64, &self.source);
    }

    /// An event was set aside.
    pub fn parked(&self, reason: Reason) {
        let [source] = self.source.clone();
        self.parked.add(1, &[source, KeyValue::new("reason", reason.label())]);
    }

    /// Parked events have arrived after all.
    pub fn redriven(&self, rows: u64) {
        self.redriven.add(rows, &self.source);
    }

    /// Which shards this relay ships.
    pub fn owned(&self, shards: Shards) {
        self.shards.record(u64::from(shards.len()), &self.source);
    }
}

/// As OpenTelemetry's messaging conventions call it.
fn sending() -> [KeyValue; 3] {
    [
        KeyValue::new("messaging.system", "kafka"),
        KeyValue::new("messaging.operation.name", "send"),
        KeyValue::new("messaging.operation.type", "send"),
    ]
}

fn counter(meter: &Meter, name: &'static str, about: &'static str) -> Counter<u64> {
    meter.u64_counter(name).with_description(about).build()
}

fn gauge(meter: &Meter, name: &'static str, about: &'static str) -> Gauge<u64> {
    meter.u64_gauge(name).with_description(about).build()
}

fn bytes(meter: &Meter, name: &'static str, about: &'static str) -> Gauge<u64> {
    meter.u64_gauge(name).with_unit("By").with_description(about).build()
}

fn age(meter: &Meter, name: &'static str, about: &'static str) -> Gauge<f64> {
    meter.f64_gauge(name).with_unit("s").with_description(about).build()
}

fn seconds(meter: &Meter, name: &'static str, about: &'static str) -> Histogram<f64> {
    meter
        .f64_histogram(name)
        .with_unit("s")
        .with_boundaries(SECONDS.to_vec())
        .with_description(about)
        .build()
}

fn rows(meter: &Meter, name: &'static str, about: &'static str) -> Histogram<u64> {
    meter.u64_histogram(name).with_boundaries(ROWS.to_vec()).with_description(about).build()
}
