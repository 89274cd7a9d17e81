//! An OTLP collector that counts spans and forgets them. It reads their lengths alone: what it costs on this machine
//! would count as the cost of tracing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, extract::Request, routing::post};
use bytes::Bytes;
use tokio::{net::TcpListener, task::AbortHandle};
use tonic::{
    Response, Status,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

/// Where every OTLP exporter sends its spans.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The collector; it listens until it is dropped.
pub(crate) struct Counter {
    pub(crate) endpoint: String,
    spans: Arc<AtomicUsize>,
    server: AbortHandle,
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Counter {
    /// Listens on a free port.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let spans: Arc<AtomicUsize> = Arc::default();
        let seen = Arc::clone(&spans);
        let routes = Router::new().route(EXPORT, post(move |request| count(request, seen)));
        let serving = Server::builder()
            .add_routes(Routes::from(routes))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        #[expect(clippy::disallowed_methods, reason = "it is aborted when this is dropped")]
        let server = tokio::spawn(serving).abort_handle();
        Ok(Self { endpoint, spans, server })
    }

    /// How many spans have arrived.
    pub(crate) fn count(&self) -> usize {
        self.spans.load(Ordering::Relaxed)
    }
}

async fn count(request: Request, seen: Arc<AtomicUsize>) -> http::Response<tonic::body::Body> {
    let answer = tower::service_fn(move |request: tonic::Request<Export>| {
        seen.fetch_add(request.get_ref().spans(), Ordering::Relaxed);
        std::future::ready(Ok::<_, Status>(Response::new(Exported {})))
    });
    tonic::server::Grpc::new(ProstCodec::<Exported, Export>::default()).unary(answer, request).await
}

/// `ExportTraceServiceRequest`, as far down as spans are counted.
#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    spans: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Exported {}

impl Export {
    fn spans(&self) -> usize {
        let scopes = self.resources.iter().flat_map(|resource| &resource.scopes);
        scopes.map(|scope| scope.spans.len()).sum()
    }
}
