//! An OTLP collector inside the test: real programs export to it, and it keeps every span, and which metrics there are. Where
//! there is a Jaeger, that has the spans too, and its answers are what is shown.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span, span::SpanKind, status::StatusCode},
};
use tokio::{net::TcpListener, task::AbortHandle};
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    service::InterceptorLayer,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use crate::jaeger::Jaeger;

/// A span as it arrived; ids in hexadecimal, none is empty.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) parent: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Trace and span.
    pub(crate) links: Vec<(String, String)>,
    /// The names of what happened during it.
    pub(crate) events: Vec<String>,
    /// Why it failed, if it did.
    pub(crate) error: Option<String>,
    /// In nanoseconds since 1970.
    pub(crate) started: u64,
    pub(crate) ended: u64,
}

impl Seen {
    /// An attribute; empty where it is absent.
    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

type Traces = Arc<Mutex<HashMap<String, Vec<Seen>>>>;
/// The names, by service.
type Metrics = Arc<Mutex<HashMap<String, BTreeSet<String>>>>;

/// The collector; it listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) endpoint: String,
    traces: Traces,
    jaeger: Option<Jaeger>,
    metrics: Metrics,
    compared: Mutex<HashMap<String, String>>,
    server: AbortHandle,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Collector {
    /// Listens on a free port.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::listen(Server::builder(), |_| true, "http").await
    }

    /// Takes only what comes encrypted for localhost, compressed, and with this `authorization`. Its certificate too.
    pub(crate) async fn guarded(authorization: &'static str) -> anyhow::Result<(Self, String)> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let certificate = made.cert.pem();
        let identity = Identity::from_pem(&certificate, made.signing_key.serialize_pem());
        let server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity))?;
        let is_welcome = move |metadata: &MetadataMap| {
            let has = |name, value| metadata.get(name).is_some_and(|given| given == value);
            has("authorization", authorization) && has("grpc-encoding", "gzip")
        };
        Ok((Self::listen(server, is_welcome, "https").await?, certificate))
    }

    async fn listen(
        server: Server,
        is_welcome: impl Fn(&MetadataMap) -> bool + Clone + Send + Sync + 'static,
        scheme: &str,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("{scheme}://localhost:{}", listener.local_addr()?.port());
        let traces = Traces::default();
        let (metrics, jaeger) = (Metrics::default(), Jaeger::named()?);
        let sink = Sink {
            traces: Arc::clone(&traces),
            metrics: Arc::clone(&metrics),
            jaeger: jaeger.clone(),
        };
        let check = move |request: Request<()>| {
            let refused = || Status::unauthenticated("not welcome");
            is_welcome(request.metadata()).then_some(request).ok_or_else(refused)
        };
        let traced =
            TraceServiceServer::new(sink.clone()).accept_compressed(CompressionEncoding::Gzip);
        let serving = server
            .layer(InterceptorLayer::new(check))
            .add_service(traced)
            .add_service(MetricsServiceServer::new(sink))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        #[expect(
            clippy::disallowed_methods,
            reason = "it is aborted when the collector is dropped"
        )]
        let server = tokio::spawn(serving).abort_handle();
        Ok(Self { endpoint, traces, metrics, jaeger, compared: Mutex::default(), server })
    }

    /// The names of a service's metrics, as many as have arrived.
    pub(crate) fn metrics(&self, service: &str) -> BTreeSet<String> {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.get(service).cloned().unwrap_or_default()
    }

    /// Forgets the metrics that have arrived.
    pub(crate) fn forget_metrics(&self) {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The spans of a trace, as many as have arrived.
    pub(crate) async fn trace(&self, trace_id: &str) -> anyhow::Result<Vec<Seen>> {
        match &self.jaeger {
            Some(jaeger) => jaeger.trace(trace_id).await,
            None => Ok(self.lock().get(trace_id).cloned().unwrap_or_default()),
        }
    }

    /// All spans of which this is so, in no order.
    pub(crate) async fn find(&self, is_so: impl Fn(&Seen) -> bool) -> anyhow::Result<Vec<Seen>> {
        let has_one = |(_, spans): &(&String, &Vec<Seen>)| spans.iter().any(&is_so);
        let traces: Vec<_> =
            self.lock().iter().filter(has_one).map(|(trace_id, _)| trace_id.clone()).collect();
        let mut found = Vec::new();
        for trace_id in traces {
            found.extend(self.trace(&trace_id).await?.into_iter().filter(&is_so));
        }
        Ok(found)
    }

    /// Keeps what a trace was found to be.
    pub(crate) fn remember(&self, trace_id: &str, text: String) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        compared.insert(trace_id.to_owned(), text);
    }

    /// Everything that was remembered.
    pub(crate) fn compared(&self) -> Vec<(String, String)> {
        let compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        compared.iter().map(|(trace_id, text)| (trace_id.clone(), text.clone())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Seen>>> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Sink {
    traces: Traces,
    metrics: Metrics,
    jaeger: Option<Jaeger>,
}

#[tonic::async_trait]
impl MetricsService for Sink {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_metrics {
            let of = resource.resource.map(|it| attributes(it.attributes)).unwrap_or_default();
            let service = of.get("service.name").cloned().unwrap_or_default();
            let given = resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            metrics.entry(service).or_default().extend(given.map(|metric| metric.name));
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        if let Some(jaeger) = &self.jaeger {
            jaeger.take(request.clone()).await?;
        }
        let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        for span in request.resource_spans.into_iter().flat_map(read) {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The spans of one program.
pub(crate) fn read(exported: ResourceSpans) -> Vec<Seen> {
    let of = exported.resource.map(|it| attributes(it.attributes)).unwrap_or_default();
    let service = of.get("service.name").cloned().unwrap_or_default();
    let spans = exported.scope_spans.into_iter().flat_map(|scope| scope.spans);
    spans.map(|span| read_span(&service, span)).collect()
}

fn read_span(service: &str, span: Span) -> Seen {
    let status = span.status.clone().unwrap_or_default();
    let failed = status.code() == StatusCode::Error;
    Seen {
        service: service.to_owned(),
        kind: span.kind(),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        attributes: attributes(span.attributes),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        events: span.events.into_iter().map(|event| event.name).collect(),
        error: failed.then_some(status.message),
        started: span.start_time_unix_nano,
        ended: span.end_time_unix_nano,
        name: span.name,
    }
}

/// Fails the test's assertions later, rather than here, when one is there twice.
fn attributes(given: Vec<KeyValue>) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    for KeyValue { key, value, .. } in given {
        let twice = attributes.insert(key.clone(), value.map(text).unwrap_or_default()).is_some();
        if twice {
            attributes.insert(format!("{key} (twice)"), String::new());
        }
    }
    attributes
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
