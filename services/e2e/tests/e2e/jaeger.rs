//! A real Jaeger, where JAEGER_URL names one: it is sent every span, and its answers are what is looked at.

use anyhow::{Context as _, ensure};
use local::{Backend, DataDir, Options, Part, Progress, Stack};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    trace::v1::TracesData,
};
use proto::orders::v1::order_service_client::OrderServiceClient;
use serde_json::Value;
use tonic::{Status, transport::Channel};

use crate::{
    collector::{Seen, read},
    pages::get,
    shop::{request, settle, until},
    traces::{CONFIRMED, check_attributes, place_traced},
    tree,
};

/// Whether there is a program to start one from; `settle infra --jaeger` says so.
pub(crate) fn can_be_started() -> bool {
    std::env::var_os("SETTLE_TEST_JAEGER").is_some()
}

/// What `settle up --jaeger` starts is sent everything, is what `settle trace` links to, and ends with the rest.
pub(crate) async fn of_its_own() -> anyhow::Result<()> {
    let options = Options { jaeger: Some(Backend::Own), ..Options::on_free_ports()? };
    let stack = Stack::up(DataDir::temporary()?, &options, &Progress::silent()).await?;
    let url = stack.jaeger_url().context("a Jaeger of its own")?;
    let jaeger = Jaeger::at(&url, stack.otlp_url())?;
    let orders = Channel::from_shared(stack.grpc_url(Part::Orders))?.connect_lazy();
    let orders = OrderServiceClient::new(orders);
    let (trace_id, order) = place_traced(orders, request(&[("tv", 1)])).await?;
    let spans = until("the trace is whole", async || {
        let spans = jaeger.trace(&trace_id).await?;
        let text = tree::render(&spans)?;
        ensure!(CONFIRMED.contains(&text.as_str()), "it is\n{text}");
        Ok(spans)
    })
    .await?;
    check_attributes(&spans, &order.order_id)?;
    let (told, _) = settle(&stack, "trace", &[&order.order_id]).await?;
    ensure!(told.contains(&format!("{url}/trace/{trace_id}\n")), "{told}");
    stack.stop(&Progress::silent()).await?;
    ensure!(jaeger.trace(&trace_id).await.is_err(), "Jaeger still answers");
    Ok(())
}

/// Where Jaeger takes spans when JAEGER_OTLP_URL does not say so: its usual port, on the same host.
const OTLP_PORT: u16 = 4317;

/// A Jaeger that runs already.
#[derive(Clone, Debug)]
pub(crate) struct Jaeger {
    authority: String,
    spans: TraceServiceClient<Channel>,
}

impl Jaeger {
    /// The one that the environment names, if it does.
    #[expect(clippy::disallowed_methods, reason = "where it runs is all that a test is told")]
    pub(crate) fn named() -> anyhow::Result<Option<Self>> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        variable("JAEGER_URL").map(|url| Self::at(&url, variable("JAEGER_OTLP_URL"))).transpose()
    }

    /// The one that answers its API at this URL, and takes spans at that one.
    pub(crate) fn at(url: &str, otlp_url: Option<String>) -> anyhow::Result<Self> {
        let authority = url.strip_prefix("http://").context("JAEGER_URL begins with http://")?;
        let authority = authority.trim_end_matches('/').to_owned();
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        let otlp_url = otlp_url.unwrap_or_else(|| format!("http://{host}:{OTLP_PORT}"));
        let spans = TraceServiceClient::new(Channel::from_shared(otlp_url)?.connect_lazy());
        Ok(Self { authority, spans })
    }

    /// Hands on what a program has exported.
    pub(crate) async fn take(&self, spans: ExportTraceServiceRequest) -> Result<(), Status> {
        self.spans.clone().export(spans).await.map(|_| ())
    }

    /// The spans of a trace, as many as it has.
    pub(crate) async fn trace(&self, trace_id: &str) -> anyhow::Result<Vec<Seen>> {
        let (status, body) = get(&self.authority, &format!("/api/v3/traces/{trace_id}")).await?;
        if status == 404 {
            return Ok(Vec::new());
        }
        ensure!(status == 200, "Jaeger answers {status}: {body}");
        let mut answer: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        let found = serde_json::from_value::<TracesData>(answer["result"].take())
            .with_context(|| body.clone())?;
        Ok(found.resource_spans.into_iter().flat_map(read).collect())
    }
}
