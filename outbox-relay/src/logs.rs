//! Logs: for a person on a terminal, else one JSON object a line.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// As text on a terminal, else as JSON.
    #[default]
    Auto,
    /// As a person reads them.
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes to standard error what passes RUST_LOG.
pub(crate) fn start(format: LogFormat) {
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let is_terminal = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Auto if !is_terminal => logs.json().flatten_event(true).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Auto | LogFormat::Text => logs.with_ansi(is_terminal).init(),
    }
}
