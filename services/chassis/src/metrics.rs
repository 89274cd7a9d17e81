//! The instruments of this process, and the page that Prometheus reads. Never an id as a label.

use std::sync::OnceLock;

use opentelemetry::{
    global,
    metrics::{Counter, Histogram},
};
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider};
use prometheus::{Encoder as _, Registry, TextEncoder};

/// Up to ten seconds; OpenTelemetry's boundaries for durations, with finer ones below.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 5.0, 10.0];

/// What is counted and measured.
#[derive(Debug)]
pub(crate) struct Instruments {
    /// Seconds a call took, by method and code.
    pub(crate) call_duration: Histogram<f64>,
    /// Seconds a batch of messages took.
    pub(crate) process_duration: Histogram<f64>,
    /// Messages handled, by outcome.
    pub(crate) messages: Counter<u64>,
    /// Messages that were absorbed as duplicates.
    pub(crate) duplicates: Counter<u64>,
    /// Messages that were parked.
    pub(crate) parked: Counter<u64>,
    /// Spans that nobody collected in time.
    pub(crate) spans_dropped: Counter<u64>,
}

/// The instruments; they count into nothing until [`start`] was called.
pub(crate) fn instruments() -> &'static Instruments {
    static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| {
        let meter = global::meter("settle");
        Instruments {
            call_duration: meter
                .f64_histogram("rpc.server.call.duration")
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
            parked: meter.u64_counter("inbox.parked").build(),
            spans_dropped: meter.u64_counter("telemetry.spans.dropped").build(),
        }
    })
}

/// Starts counting; the registry is what `/metrics` shows.
pub(crate) fn start(service: &'static str) -> anyhow::Result<Registry> {
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()?;
    let resource = Resource::builder().with_service_name(service).build();
    global::set_meter_provider(
        SdkMeterProvider::builder().with_reader(exporter).with_resource(resource).build(),
    );
    Ok(registry)
}

/// The page, in Prometheus' text format.
pub(crate) fn page(registry: &Registry) -> anyhow::Result<String> {
    let mut page = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut page)?;
    Ok(String::from_utf8(page)?)
}
