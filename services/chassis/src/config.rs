//! What every service can be told, by flag or environment variable; parsed once, at the start.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use sqlx::postgres::PgConnectOptions;

use crate::telemetry::LogFormat;

/// The settings every service shares.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Config {
    /// The service's own Postgres database, as a URL.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: PgConnectOptions,

    /// Connections to the database that calls share.
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 16)]
    pub database_connections: u32,

    /// How long to wait for the database at the start.
    #[arg(long, env = "DATABASE_WAIT", default_value = "30s", value_parser = duration)]
    pub database_wait: Duration,

    /// Kafka's bootstrap servers, separated by commas.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", default_value = "127.0.0.1:9092")]
    pub kafka: String,

    /// Where to answer gRPC calls.
    #[arg(long, env = "LISTEN")]
    pub listen: SocketAddr,

    /// Where to answer /metrics, /healthz and /readyz over HTTP.
    #[arg(long, env = "METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,

    /// The server's certificate chain, PEM; turns TLS on.
    #[arg(long, env = "TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of the certificate, PEM.
    #[arg(long, env = "TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// The authorities that sign clients' certificates, PEM; turns mutual TLS on.
    #[arg(long, env = "TLS_CLIENT_CA", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// Listen without TLS on addresses other than loopback.
    #[arg(long, env = "INSECURE")]
    pub insecure: bool,

    /// Calls answered at once; more are turned away as UNAVAILABLE.
    #[arg(long, env = "MAX_CONCURRENT_CALLS", default_value_t = 1024)]
    pub max_concurrent_calls: usize,

    /// The deadline of a call that brings none.
    #[arg(long, env = "DEFAULT_DEADLINE", default_value = "30s", value_parser = duration)]
    pub default_deadline: Duration,

    /// Messages handled in one transaction at most.
    #[arg(long, env = "BATCH_SIZE", default_value_t = 1000)]
    pub batch_size: usize,

    /// How long calls and batches may take to end on shutdown before they are cut off.
    #[arg(long, env = "DRAIN_LIMIT", default_value = "10s", value_parser = duration)]
    pub drain_limit: Duration,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would head the help")]
    pub observing: Observing,

    /// Allow the demonstration switches.
    #[arg(long, env = "DEMO")]
    pub demo: bool,
}

/// What every process tells of itself, and to whom.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Observing {
    /// What to log, in RUST_LOG's syntax.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log: String,

    /// How to log: auto is text on a terminal and JSON elsewhere.
    #[arg(long, env = "LOG_FORMAT", default_value = "auto")]
    pub log_format: LogFormat,

    /// The OTLP collector that takes the spans, such as http://127.0.0.1:4317; none: no spans. With https:// it needs a
    /// certificate of the system's authorities, or of those in SSL_CERT_FILE. OTEL_EXPORTER_OTLP_HEADERS,
    /// OTEL_EXPORTER_OTLP_COMPRESSION (gzip) and OTEL_EXPORTER_OTLP_TIMEOUT (ms) say how it is called.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,

    /// The OTLP collector that takes the metrics too, such as http://127.0.0.1:4317; none: /metrics alone. It is named by
    /// itself, since not everyone who takes spans takes metrics.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")]
    pub otlp_metrics_endpoint: Option<String>,

    /// How often it gets them, in milliseconds.
    #[arg(long, env = "OTEL_METRIC_EXPORT_INTERVAL", default_value_t = 60_000)]
    pub metric_export_interval: u64,

    /// The names of the baggage entries that go on from calls to events and further calls, separated by commas; all
    /// others end here.
    #[arg(long, env = "BAGGAGE", value_delimiter = ',')]
    pub baggage: Vec<String>,
}

impl Config {
    /// Refuses what is unsafe. Errors: says what to change.
    pub fn check(&self) -> anyhow::Result<()> {
        if !self.listen.ip().is_loopback() && self.tls_cert.is_none() && !self.insecure {
            anyhow::bail!(
                "refusing to listen on {} without TLS: give --tls-cert and --tls-key, or say --insecure",
                self.listen
            );
        }
        Ok(())
    }
}

/// A duration such as 250ms, 10s, 5m or 24h.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| "must be a number with a unit, such as 250ms or 10s".to_owned())?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => return Err(format!("{unit:?} is not one of the units ms, s, m, h")),
    }
    .ok_or_else(|| "is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_number_and_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert!(duration("10").is_err() && duration("s").is_err() && duration("1d").is_err());
    }
}
