//! A process that answers browsers: HTTP alone, and no database. It starts, measures, traces and stops as a service does, and
//! bounds what any visitor can ask of it.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::bail;
use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    serve::ListenerExt as _,
};
use clap::Args;
use opentelemetry::{
    KeyValue,
    trace::{FutureExt as _, TraceContextExt as _},
};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Observing, duration},
    health,
    metrics::{self, Metrics},
    running::{Signals, Task, listen},
    spans,
    telemetry::{Telemetry, TraceContext},
};

/// A form is small.
const LARGEST_BODY: usize = 64 * 1024;

/// The settings of a process that answers browsers.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Config {
    /// Where to answer browsers.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Where to answer /metrics, /healthz and /readyz over HTTP.
    #[arg(long, env = "METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,

    /// Listen on addresses other than loopback: TLS is done by a proxy in front.
    #[arg(long, env = "INSECURE")]
    pub insecure: bool,

    /// Requests answered at once; more are turned away with 503.
    #[arg(long, env = "MAX_CONCURRENT_REQUESTS", default_value_t = 512)]
    pub max_concurrent_requests: usize,

    /// As long as a request may take, until its answer begins.
    #[arg(long, env = "REQUEST_TIMEOUT", default_value = "15s", value_parser = duration)]
    pub request_timeout: Duration,

    /// How long requests may take to end on shutdown before they are cut off.
    #[arg(long, env = "DRAIN_LIMIT", default_value = "10s", value_parser = duration)]
    pub drain_limit: Duration,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would head the help")]
    pub observing: Observing,
}

impl Config {
    /// Refuses what is unsafe. Errors: says what to change.
    pub fn check(&self) -> anyhow::Result<()> {
        if !self.listen.ip().is_loopback() && !self.insecure {
            bail!(
                "refusing to listen on {} without TLS: put a proxy in front of a loopback address, or say --insecure",
                self.listen
            );
        }
        Ok(())
    }
}

/// A site that is being put together.
pub struct Site {
    name: &'static str,
    config: Config,
    telemetry: Telemetry,
    metrics: Metrics,
    shutdown: CancellationToken,
    tasks: Vec<Task>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Site {
    /// Checks the configuration, and starts logging, measuring and tracing. Call it inside the Tokio runtime.
    /// Errors: what is wrong with the configuration.
    pub fn boot(name: &'static str, config: Config) -> anyhow::Result<Self> {
        config.check()?;
        let telemetry = Telemetry::start(name, &config.observing)?;
        let metrics = Metrics::start(name, &config.observing)?;
        let shutdown = CancellationToken::new();
        Ok(Self { name, config, telemetry, metrics, shutdown, tasks: Vec::new() })
    }

    /// Cancelled when the site is to stop: streams end, workers return.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Runs a worker until [`Site::shutdown`]; one that ends before ends the process.
    #[must_use]
    pub fn works(
        mut self,
        name: &'static str,
        worker: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) -> Self {
        self.tasks.push((name, Box::pin(worker)));
        self
    }

    /// Listens, and answers these pages until a signal or a dead task ends it. Errors: the port is taken, or which task died
    /// of what.
    pub async fn run(mut self, pages: Router) -> anyhow::Result<()> {
        let signals = Signals::hear()?;
        let visitors = listen(self.config.listen, "LISTEN").await?;
        let machines = match self.config.metrics_listen {
            Some(address) => Some(listen(address, "METRICS_LISTEN").await?),
            None => None,
        };
        tracing::info!(address = %visitors.local_addr()?, "{} answers", self.name);
        // Small pieces of a stream are not to wait for one another.
        let visitors = visitors.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "a connection stays slow");
            }
        });
        let server = axum::serve(visitors, bounded(pages, &self.config))
            .with_graceful_shutdown(self.shutdown.clone().cancelled_owned());
        self.tasks.push(("pages", Box::pin(async move { Ok(server.await?) })));
        // It needs nothing to be ready: it says itself which services are away.
        let (_ready, readiness) = watch::channel(true);
        if let Some(machines) = machines {
            let pages = health::pages(self.metrics.registry.clone(), readiness);
            let server = axum::serve(machines, pages)
                .with_graceful_shutdown(self.shutdown.clone().cancelled_owned());
            self.tasks.push(("HTTP pages", Box::pin(async move { Ok(server.await?) })));
        }
        let (tasks, limit) = (self.tasks, self.config.drain_limit);
        let ended = signals.run(self.name, tasks, self.shutdown, limit, async {}).await;
        tokio::join!(self.telemetry.shutdown(), self.metrics.shutdown());
        ended
    }
}

/// What every request goes through, outermost first: observe, shed, time.
fn bounded(pages: Router, config: &Config) -> Router {
    let places = Arc::new(Semaphore::new(config.max_concurrent_requests));
    pages
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(config.request_timeout, limit_time))
        .layer(middleware::from_fn_with_state(places, shed))
        .layer(middleware::from_fn(observe))
}

async fn observe(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    // Any path can be asked for; only those that exist are worth a series of their own.
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let (route, method) = (route.unwrap_or_default(), request.method().as_str().to_owned());
    // A trace begins here: what a browser claims to belong to is not believed.
    let none = TraceContext::default();
    let page = spans::serve(&method, &route, &none);
    let trace = page.as_ref().map(|page| none.within(page.span().span_context().clone()));
    request.extensions_mut().insert(trace.unwrap_or_else(TraceContext::random));
    let response = match &page {
        Some(page) => next.run(request).with_context(page.clone()).await,
        None => next.run(request).await,
    };
    if let Some(page) = page {
        spans::served(&page, response.status());
    }
    let labels = [
        KeyValue::new("http.request.method", method),
        KeyValue::new("http.route", route),
        KeyValue::new("http.response.status_code", i64::from(response.status().as_u16())),
    ];
    metrics::instruments().request_duration.record(started.elapsed().as_secs_f64(), &labels);
    response
}

async fn shed(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "too many requests at once\n")
                .into_response()
        }
    }
}

async fn limit_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request took too long\n").into_response(),
    }
}
