//! The instruments of this process, and the page that Prometheus reads. Never an id as a label.

use std::{sync::OnceLock, time::Duration};

use opentelemetry::{
    global,
    metrics::{Counter, Gauge, Histogram, Meter},
};
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider};
use prometheus::{Encoder as _, Registry, TextEncoder};
use tokio::sync::oneshot;

use crate::config::Observing;

/// Up to ten seconds; OpenTelemetry's boundaries for durations, with finer ones below.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 5.0, 10.0];

/// A saga may wait for hours for a service that is down.
const SETTLING: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 86_400.0];

/// The last values are given up when the collector takes longer.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(3);

/// What is counted and measured.
#[derive(Debug)]
pub(crate) struct Instruments {
    /// Seconds a call took, by method and code.
    pub(crate) call_duration: Histogram<f64>,
    /// Seconds a page took, by route and status.
    pub(crate) request_duration: Histogram<f64>,
    /// Seconds a batch of messages took.
    pub(crate) process_duration: Histogram<f64>,
    /// Messages handled, by outcome.
    pub(crate) messages: Counter<u64>,
    /// Messages that were absorbed as duplicates.
    pub(crate) duplicates: Counter<u64>,
    /// Messages that are parked now.
    pub(crate) parked: Gauge<i64>,
    /// The keys that they hold back.
    pub(crate) parked_keys: Gauge<i64>,
    /// 0 while the database cannot be asked and these two stand still.
    pub(crate) inbox_measured: Gauge<u64>,
    /// Messages that polls have brought, by topic.
    pub(crate) consumed: Counter<u64>,
    /// Seconds a poll took, waiting for the first message included.
    pub(crate) operation_duration: Histogram<f64>,
    /// Seconds from the beginning of a saga until it settled.
    pub(crate) saga_duration: Histogram<f64>,
    /// 0 while the database cannot be asked about sagas, and what it would answer is absent.
    pub(crate) saga_measured: Gauge<u64>,
    /// Orders whose rows were compared with the decision.
    pub(crate) reconciler_compared: Counter<u64>,
    /// Of these, the ones that something was wrong with, by remedy and what it was.
    pub(crate) reconciler_wrong: Counter<u64>,
    /// Spans that nobody collected in time.
    pub(crate) spans_dropped: Counter<u64>,
}

/// The instruments; they count into nothing until [`Metrics::start`] was called.
pub(crate) fn instruments() -> &'static Instruments {
    static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| {
        let meter = meter();
        Instruments {
            call_duration: meter
                .f64_histogram("rpc.server.call.duration")
                .with_unit("s")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            request_duration: meter
                .f64_histogram("http.server.request.duration")
                .with_unit("s")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            process_duration: meter
                .f64_histogram("messaging.process.duration")
                .with_unit("s")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            messages: meter.u64_counter("inbox.messages").build(),
            duplicates: meter.u64_counter("inbox.duplicates").build(),
            parked: meter
                .i64_gauge("inbox.parked")
                .with_description("Messages that are parked, by SQL; counted up to 10000")
                .build(),
            parked_keys: meter
                .i64_gauge("inbox.parked.keys")
                .with_description("The keys that wait behind them")
                .build(),
            inbox_measured: meter
                .u64_gauge("inbox.measured")
                .with_description("1 while what is parked is fresh, 0 without an answer")
                .build(),
            consumed: meter.u64_counter("messaging.client.consumed.messages").build(),
            operation_duration: meter
                .f64_histogram("messaging.client.operation.duration")
                .with_unit("s")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            saga_duration: meter
                .f64_histogram("saga.duration")
                .with_unit("s")
                .with_boundaries(SETTLING.to_vec())
                .build(),
            saga_measured: meter.u64_gauge("saga.measured").build(),
            reconciler_compared: meter
                .u64_counter("reconciler.compared")
                .with_description("Orders that were compared with the rows of the others")
                .build(),
            reconciler_wrong: meter
                .u64_counter("reconciler.wrong")
                .with_description("Orders that did not agree; a contradiction counts each time")
                .build(),
            spans_dropped: meter.u64_counter("telemetry.spans.dropped").build(),
        }
    })
}

/// Where further instruments are made, after [`Metrics::start`].
pub(crate) fn meter() -> Meter {
    global::meter("settle")
}

/// What was started.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// What `/metrics` shows.
    pub(crate) registry: Registry,
    provider: SdkMeterProvider,
}

impl Metrics {
    /// Starts counting, for `/metrics` and for the collector, if there is one. Call it inside the Tokio runtime.
    /// Errors: the collector's endpoint is not a URL.
    pub(crate) fn start(service: &'static str, config: &Observing) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let exporter =
            opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()?;
        let resource = Resource::builder().with_service_name(service).build();
        let mut builder = SdkMeterProvider::builder().with_reader(exporter).with_resource(resource);
        let endpoint = config.otlp_metrics_endpoint.as_deref();
        if let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) {
            let every = Duration::from_millis(config.metric_export_interval);
            builder = builder.with_reader(otlp::metrics(endpoint, every)?);
        }
        let provider = builder.build();
        global::set_meter_provider(provider.clone());
        // So that an alarm sees a zero before the first one.
        let Instruments { duplicates, spans_dropped, .. } = instruments();
        [duplicates, spans_dropped].into_iter().for_each(|counter| counter.add(0, &[]));
        Ok(Self { registry, provider })
    }

    /// Sends the last values to the collector, if there is one, for at most some seconds.
    pub(crate) async fn shutdown(self) {
        let (done, sent) = oneshot::channel();
        // It blocks for longer than we wait: on a thread of its own, which the end of the process does not wait for.
        std::thread::spawn(move || done.send(self.provider.shutdown()));
        if !matches!(tokio::time::timeout(LONGEST_SHUTDOWN, sent).await, Ok(Ok(Ok(())))) {
            tracing::warn!("the last metrics were not delivered");
        }
    }
}

/// The page, in Prometheus' text format.
pub(crate) fn page(registry: &Registry) -> anyhow::Result<String> {
    let mut page = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut page)?;
    Ok(String::from_utf8(page)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Instruments that only this page shows.
    pub(crate) fn provider() -> (Registry, SdkMeterProvider) {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone());
        let reader =
            exporter.without_target_info().build().unwrap_or_else(|error| panic!("{error}"));
        (registry, SdkMeterProvider::builder().with_reader(reader).build())
    }

    /// The values of a metric's series.
    pub(crate) fn values(registry: &Registry, name: &str) -> Vec<String> {
        let page = page(registry).unwrap_or_default();
        let series = page.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        series.filter_map(|line| Some(line.rsplit_once(' ')?.1.to_owned())).collect()
    }
}
