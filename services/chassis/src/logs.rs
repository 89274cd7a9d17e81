//! Logs: for a person on a terminal, else one JSON object a line that names the trace and the span it was written in.

use std::{fmt, io::IsTerminal as _};

use opentelemetry::{Context, trace::TraceContextExt as _};
use serde::Serializer as _;
use serde_json::Value;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{
        FmtContext,
        format::{FormatEvent, FormatFields, Writer},
    },
    registry::LookupSpan,
};

use crate::clock;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// As text on a terminal, else as JSON.
    #[default]
    Auto,
    /// As a person reads them.
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes to standard error what passes `filter`.
pub(crate) fn layer<S>(format: LogFormat, filter: EnvFilter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let is_terminal = std::io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Auto if !is_terminal => layer.event_format(Json).with_filter(filter).boxed(),
        LogFormat::Json => layer.event_format(Json).with_filter(filter).boxed(),
        LogFormat::Auto | LogFormat::Text => {
            layer.with_ansi(is_terminal).with_filter(filter).boxed()
        }
    }
}

struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let time = clock::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let mut line = Line(vec![
            ("timestamp", time.into()),
            ("level", event.metadata().level().as_str().into()),
            ("target", event.metadata().target().into()),
        ]);
        event.record(&mut line);
        Context::map_current(|context| {
            let span = context.span();
            if span.span_context().is_valid() {
                line.0.push(("trace_id", span.span_context().trace_id().to_string().into()));
                line.0.push(("span_id", span.span_context().span_id().to_string().into()));
            }
        });
        let mut text = Vec::new();
        serde_json::Serializer::new(&mut text).collect_map(line.0).map_err(|_| fmt::Error)?;
        writeln!(writer, "{}", String::from_utf8_lossy(&text))
    }
}

/// Names and values, in the order in which they are written.
struct Line(Vec<(&'static str, Value)>);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}").into()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.push((field.name(), value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.push((field.name(), value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.push((field.name(), value.into()));
    }
}
