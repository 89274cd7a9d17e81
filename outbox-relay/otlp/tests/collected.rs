//! Against a collector of the published protocol.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use opentelemetry::trace::Tracer as _;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use otlp::{Error, Spans};
use tokio::{net::TcpListener, sync::mpsc};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// Answers as it is told, in turn; then takes everything.
struct Collector {
    taken: mpsc::UnboundedSender<ExportTraceServiceRequest>,
    answers: tokio::sync::Mutex<Vec<Result<i64, Status>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let rejected_spans = self.answers.lock().await.pop().unwrap_or(Ok(0))?;
        let _ = self.taken.send(request.into_inner());
        let partial = ExportTracePartialSuccess { rejected_spans, ..Default::default() };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: Some(partial) }))
    }
}

type Taken = mpsc::UnboundedReceiver<ExportTraceServiceRequest>;

async fn collector(answers: Vec<Result<i64, Status>>) -> anyhow::Result<(String, Taken)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let (taken, received) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector { taken, answers: answers.into() });
    let server = tonic::transport::Server::builder().add_service(service);
    #[expect(clippy::disallowed_methods, reason = "the test ends it")]
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    Ok((endpoint, received))
}

fn names(request: ExportTraceServiceRequest) -> Vec<String> {
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect()
}

#[tokio::test]
async fn spans_come_in_their_order_and_the_last_before_the_end() -> anyhow::Result<()> {
    let (endpoint, mut taken) = collector(Vec::new()).await?;
    let spans = Spans::start("it", &endpoint, |count| panic!("lost {count}"))?;
    let tracer = spans.tracer();
    let made: Vec<_> = (0..5_000).map(|number| format!("span {number}")).collect();
    made.iter().for_each(|name| drop(tracer.start(name.clone())));
    spans.shutdown(Duration::from_secs(10)).await;
    let mut received = Vec::new();
    while let Ok(request) = taken.try_recv() {
        received.extend(names(request));
    }
    assert_eq!(received, made);
    Ok(())
}

#[tokio::test]
async fn a_collector_that_restarts_loses_nothing() -> anyhow::Result<()> {
    let away = || Err(Status::unavailable("restarting"));
    let (endpoint, mut taken) = collector(vec![away(), away()]).await?;
    let spans = Spans::start("it", &endpoint, |count| panic!("lost {count}"))?;
    drop(spans.tracer().start("kept"));
    spans.shutdown(Duration::from_secs(10)).await;
    assert_eq!(taken.try_recv().map(names), Ok(vec!["kept".to_owned()]));
    Ok(())
}

#[tokio::test]
async fn what_a_collector_refuses_or_rejects_is_counted() -> anyhow::Result<()> {
    static LOST: AtomicU64 = AtomicU64::new(0);
    // The last is the first.
    let (endpoint, _taken) = collector(vec![Ok(1), Err(Status::permission_denied("no"))]).await?;
    for lost in [2, 1] {
        let spans = Spans::start("it", &endpoint, |count| {
            LOST.fetch_add(count, Relaxed);
        })?;
        (0..2).for_each(|_| drop(spans.tracer().start("unwanted")));
        spans.shutdown(Duration::from_secs(10)).await;
        assert_eq!(LOST.swap(0, Relaxed), lost);
    }
    Ok(())
}

#[tokio::test]
async fn a_silent_collector_holds_the_end_up_no_longer_than_is_given() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let spans = Spans::start("it", &format!("http://{}", listener.local_addr()?), |_| ())?;
    drop(spans.tracer().start("late"));
    let ended = spans.shutdown(Duration::from_millis(50));
    // Far less than the ten seconds after which a request is given up.
    tokio::time::timeout(Duration::from_secs(5), ended).await?;
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_refused() {
    for endpoint in ["127.0.0.1:4317", "http//127.0.0.1:4317", "ftp://a", "http://a b", "https://"]
    {
        let refused = Spans::start("it", endpoint, |_| ()).map(|_| ());
        assert!(matches!(refused, Err(Error::Endpoint(_) | Error::Transport { .. })), "{endpoint}");
        assert!(otlp::metrics(endpoint, Duration::from_secs(60)).is_err(), "{endpoint}");
    }
}
