//! Logs and spans of this process.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    config::Config,
    exporter::{self, Queue},
    logs, spans, trace_context,
};
pub use crate::{logs::LogFormat, trace_context::TraceContext};

/// The last spans are given up when the collector takes longer.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(3);

/// Logs and spans of this process; dropping it without [`Telemetry::shutdown`] may lose the last spans.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Logs to standard error; spans to the OTLP collector, if there is one. Call it inside the Tokio runtime.
    /// Errors: the endpoint is not a URL, or the filter cannot be read.
    pub fn start(service: &'static str, config: &Config) -> anyhow::Result<Self> {
        static QUEUE: Queue = Queue::new();
        let filter = EnvFilter::try_new(&config.log)?;
        tracing_subscriber::registry().with(logs::layer(config.log_format, filter)).try_init()?;
        trace_context::allow_baggage(&config.baggage);
        let endpoint = config.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
        let provider =
            endpoint.map(|endpoint| exporter::provider(service, endpoint, &QUEUE)).transpose()?;
        if let Some(provider) = &provider {
            spans::record(provider.tracer("settle"), &QUEUE);
        }
        Ok(Self { provider })
    }

    /// Sends what is still to be sent, for at most some seconds.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else { return };
        // It blocks: inside the runtime it would wait for itself.
        let flushed =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LONGEST_SHUTDOWN));
        if let Ok(Err(error)) = flushed.await {
            tracing::warn!(%error, "the last spans were not delivered");
        }
    }
}
