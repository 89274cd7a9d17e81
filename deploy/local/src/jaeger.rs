//! Jaeger, which keeps and shows traces: one of our own that holds them in memory, or somebody else's.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Uri;

use crate::datadir::{DataDir, make};
use crate::error::{Error, Result};
use crate::health;
use crate::packages;
use crate::ports::Ports;
use crate::process::Spec;

/// The version of the Go module that deploy/jaeger builds.
pub const JAEGER_VERSION: &str = "1.76.0";

/// As long as somebody else's collector may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// What takes the spans of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A Jaeger that the stack starts and stops.
    Own,
    /// Whatever takes OTLP at this URL.
    At(String),
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri = text.parse::<Uri>().unwrap_or_default();
        match (text, uri.scheme_str(), uri.host()) {
            ("own", ..) => Ok(Self::Own),
            (_, Some("http"), Some(_)) => Ok(Self::At(text.to_owned())),
            _ => Err("the address of an OTLP collector is written http://HOST:PORT, \
                      for example http://127.0.0.1:4317"
                .to_owned()),
        }
    }
}

/// A Jaeger, ready to be started on a data directory.
#[derive(Debug, Clone)]
pub(crate) struct Jaeger {
    has_pages: bool,
    spec: Spec,
}

impl Jaeger {
    /// Finds the program and writes its configuration.
    pub(crate) fn prepare(dir: &DataDir, cache: &Path, ports: &Ports) -> Result<Self> {
        let released = packages::in_path("jaeger");
        // The Go module is without the pages.
        let has_pages = released.is_some();
        let program = released.or_else(|| built_in(cache)).ok_or_else(missing)?;
        let home = dir.jaeger();
        make(&home)?;
        let file = home.join("config.yaml");
        fs::write(&file, config(ports)).map_err(Error::io(format!("write {}", file.display())))?;
        let args = vec!["--config".into(), file.into_os_string()];
        let spec = Spec { program, args, env: Vec::new(), dir: home, user: None };
        Ok(Self { has_pages, spec })
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether a person can look at traces with a browser.
    pub(crate) fn has_pages(&self) -> bool {
        self.has_pages
    }
}

/// Whether our own is there: it takes spans and answers questions.
pub(crate) async fn answers(ports: &Ports) -> bool {
    answers_questions(ports).await && takes_spans(&otlp_url(ports)).await.is_ok()
}

/// Whether a Jaeger answers where ours would.
pub(crate) async fn answers_questions(ports: &Ports) -> bool {
    health::answers_ok(ports.jaeger, "/api/v3/services").await
}

/// Fails unless a collector takes spans by OTLP at that address; it is sent none.
pub(crate) async fn takes_spans(url: &str) -> Result<()> {
    let refused = |why: String| {
        Error::Unfit(format!(
            "no OTLP collector answers at {url}, the address given by --jaeger: {why}"
        ))
    };
    let channel = health::channel(url).map_err(|error| refused(error.to_string()))?;
    let mut client = TraceServiceClient::new(channel);
    let asked = timeout(LIMIT, client.export(ExportTraceServiceRequest::default())).await;
    let answer = asked.map_err(|_| refused(format!("no answer within {LIMIT:?}")))?;
    answer.map(|_| ()).map_err(|status: Status| refused(status.message().to_owned()))
}

/// The pages and the API of our own.
pub(crate) fn url(ports: &Ports) -> String {
    format!("http://127.0.0.1:{}", ports.jaeger)
}

/// Where our own takes spans.
pub(crate) fn otlp_url(ports: &Ports) -> String {
    format!("http://127.0.0.1:{}", ports.otlp)
}

/// What deploy/jaeger/build has put there.
fn built_in(cache: &Path) -> Option<PathBuf> {
    let built = cache.join(format!("jaeger-{JAEGER_VERSION}/jaeger"));
    packages::is_program(&built).then_some(built)
}

fn missing() -> Error {
    Error::Unfit(
        "Jaeger is missing: put the program `jaeger` of a release (https://www.jaegertracing.io/download, version 2) on \
         the PATH, build one without its pages by `deploy/jaeger/build` (needs Go), or name a collector that runs: \
         --jaeger=http://127.0.0.1:4317"
            .to_owned(),
    )
}

fn config(ports: &Ports) -> String {
    let Ports { jaeger, otlp, .. } = ports;
    // Nobody asks it by gRPC, so any port will do for that.
    format!(
        "service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{ receivers: [otlp], exporters: [jaeger_storage_exporter] }}
  telemetry:
    metrics: {{ level: none }}
    logs: {{ level: warn }}
extensions:
  jaeger_storage: {{ backends: {{ memory: {{ memory: {{ max_traces: 100000 }} }} }} }}
  jaeger_query:
    storage: {{ traces: memory }}
    enable_tracing: false
    http: {{ endpoint: \"127.0.0.1:{jaeger}\" }}
    grpc: {{ endpoint: \"127.0.0.1:0\" }}
receivers:
  otlp: {{ protocols: {{ grpc: {{ endpoint: \"127.0.0.1:{otlp}\" }} }} }}
exporters:
  jaeger_storage_exporter: {{ trace_storage: memory }}
"
    )
}
