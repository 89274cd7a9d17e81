//! `settle up`: everything runs until Ctrl-C, or until one of the processes dies.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::datadir::DataDir;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::process::Part;
use crate::progress::Progress;
use crate::signals::Stop;
use crate::stack::Stack;

/// Runs the stack for a person.
pub(crate) async fn run(data: &Path, options: &Options, progress: &Progress) -> Result<ExitCode> {
    let mut stop = Stop::listen()?;
    let dir = DataDir::open(data)?;
    progress.note(format!(
        "Settle keeps its data in {} and its logs in {}",
        dir.path().display(),
        dir.logs().display()
    ));
    let stack = tokio::select! {
        stack = Stack::up(dir, options, progress) => stack?,
        _ = stop.asked() => return Err(Error::Interrupted),
    };
    let _ = writeln!(std::io::stdout(), "{}", welcome(&stack));
    let ended = tokio::select! {
        _ = stop.asked() => Ok(ExitCode::SUCCESS),
        died = stack.died() => {
            progress.note(format!("settle: {died}"));
            Ok(ExitCode::FAILURE)
        }
    };
    progress.note("Stopping everything; another Ctrl-C kills it.");
    tokio::select! {
        stopped = stack.stop(progress) => stopped?,
        _ = stop.asked() => stack.kill().await,
    }
    ended
}

/// What a person wants to know first.
fn welcome(stack: &Stack) -> String {
    let grpc = |part| stack.grpc_url(part).replace("http://", "");
    let http = |part| stack.http_url(part).unwrap_or_default();
    let orders = grpc(Part::Orders);
    format!(
        "
Settle is up. Ctrl-C ends it; the data stays.

  The shop  {}   order here, and watch it settle; Operations shows what is behind

  orders    {orders}   {}/metrics
  products  {}   {}/metrics
  delivery  {}   {}/metrics
  sagas     {}   {}/metrics
  relay                      {}/metrics
  Kafka     {}
  Postgres  {}
{}  logs      {}

Place an order:

  grpcurl -plaintext -d '{{\"customer\": {{\"customer_id\": \"1@uengine.org\", \"name\": \"홍길동\", \"address\": \"서울시\"}}, \
         \"lines\": [{{\"product_id\": \"tv\", \"quantity\": 1}}]}}' \\
    {orders} shop.orders.v1.OrderService/PlaceOrder

Watch the events in another terminal with `settle events`; see it all without grpcurl with `make demo`.
",
        stack.storefront_url(),
        http(Part::Orders),
        grpc(Part::Products),
        http(Part::Products),
        grpc(Part::Delivery),
        http(Part::Delivery),
        grpc(Part::Orchestrator),
        http(Part::Orchestrator),
        http(Part::Relay),
        stack.kafka_bootstrap(),
        stack.postgres_url(),
        traces(stack),
        stack.dir().logs().display(),
    )
}

/// Where the traces are, if anywhere.
fn traces(stack: &Stack) -> String {
    let Some(otlp) = stack.otlp_url() else { return String::new() };
    match (stack.jaeger(), stack.jaeger_url()) {
        (Some(jaeger), Some(url)) if jaeger.has_pages() => format!("  Jaeger    {url}\n"),
        (_, Some(url)) => format!(
            "  Jaeger    {url}/api/v3/services   its API alone: built by deploy/jaeger, it has no pages\n"
        ),
        _ => format!(
            "  traces    sent to {otlp}; SETTLE_JAEGER_URL tells `settle trace` who shows them\n"
        ),
    }
}
