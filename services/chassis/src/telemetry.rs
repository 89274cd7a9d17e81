//! Logs and spans of this process.

use std::time::Duration;

use otlp::Spans;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{config::Observing, logs, metrics, spans, trace_context};
pub use crate::{logs::LogFormat, trace_context::TraceContext};

/// The last spans are given up when the collector takes longer.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(3);

/// Logs and spans of this process; dropping it without [`Telemetry::shutdown`] may lose the last spans.
#[derive(Debug)]
pub struct Telemetry {
    spans: Option<Spans>,
}

impl Telemetry {
    /// Logs to standard error; spans to the OTLP collector, if there is one. Call it inside the Tokio runtime.
    /// Errors: the endpoint is not a URL, or the filter cannot be read.
    pub fn start(service: &'static str, config: &Observing) -> anyhow::Result<Self> {
        let filter = EnvFilter::try_new(&config.log)?;
        tracing_subscriber::registry().with(logs::layer(config.log_format, filter)).try_init()?;
        trace_context::allow_baggage(&config.baggage);
        let endpoint = config.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
        let spans = endpoint.map(|endpoint| Spans::start(service, endpoint, lost)).transpose()?;
        if let Some(spans) = &spans {
            spans::record(spans.tracer(), spans.room());
        }
        Ok(Self { spans })
    }

    /// Sends what is still to be sent, for at most some seconds.
    pub async fn shutdown(self) {
        if let Some(spans) = self.spans {
            spans.shutdown(LONGEST_SHUTDOWN).await;
        }
    }
}

fn lost(count: u64) {
    metrics::instruments().spans_dropped.add(count, &[]);
}
