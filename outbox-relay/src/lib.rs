//! The outbox relay: any Postgres with the outbox table -> Kafka. It knows the table and the headers' form, nothing
//! of what the events mean. The cursor moves only over what Kafka has acknowledged.

pub mod cli;
pub mod config;
pub mod manifest;
pub mod source;
pub mod verbs;

pub mod broker;
pub mod database;
pub mod secret;
pub mod token;
pub mod trouble;

pub mod cluster;
pub mod cursor;
pub mod lease;
pub mod shards;
pub mod wish;

pub mod doorbell;
pub mod event;
pub mod table;
pub mod window;

pub mod identifier;
pub mod inspection;
pub mod mapping;
pub mod preparation;

pub mod budget;
pub mod ledger;
pub mod producer;
pub mod recording;
pub mod shipment;
pub mod shipping;

pub mod parking;
pub mod redrive;
pub mod resend;
pub mod topic;
pub mod verdict;

pub mod exactly_once;
pub mod marker;
pub mod position;
pub mod resumption;

pub mod backlog;
pub mod removal;
pub mod rotation;

pub mod backoff;
pub mod error;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod spans;

use std::{sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    backlog::Backlog, health::Board, metrics::Telemetry, source::Supervisor, spans::Tracing,
};
pub use crate::{config::Config, error::Error};

/// What is left after the drain limit for closing connections.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the relay until SIGTERM or SIGINT.
///
/// # Errors
/// A configuration that cannot work, an address that is taken, or events that were still on their way at the end.
pub async fn start(config: Config) -> Result<(), Error> {
    config.check()?;
    logs::start(config.log_format);
    for weakness in config.weaknesses() {
        tracing::warn!(weakness, "a setting is weaker than it looks");
    }
    let address = config.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let endpoint = config.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
    let tracing = endpoint.map(Tracing::start).transpose()?;
    let telemetry = Telemetry::start(&config)?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = relay(config, listener, &telemetry, stop.clone()) => ended,
        () = told => Ok(()),
    };
    let last_spans = async {
        if let Some(tracing) = tracing {
            tracing.shutdown().await;
        }
    };
    tokio::join!(last_spans, telemetry.shutdown());
    ended
}

/// Runs the relay until told to stop: every source by itself, and the address for metrics and health.
///
/// # Errors
/// A task that ended by itself, or events that were still on their way at the end.
pub async fn run(
    config: Config,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), Error> {
    let telemetry = Telemetry::start(&config)?;
    let ended = relay(config, listener, &telemetry, stop).await;
    telemetry.shutdown().await;
    ended
}

async fn relay(
    config: Config,
    listener: TcpListener,
    telemetry: &Telemetry,
    stop: CancellationToken,
) -> Result<(), Error> {
    let board = Board::default();
    let config = Arc::new(config);
    let mut tasks = JoinSet::new();
    for source in config.given.all().cloned() {
        let metrics = telemetry.source(&source.name);
        let backlog = Backlog {
            source: source.clone(),
            every: config.measure_every,
            metrics: metrics.clone(),
        };
        let supervisor = Supervisor::new(Arc::clone(&config), source, metrics, board.clone());
        let (stop_shipping, stop_measuring) = (stop.clone(), stop.clone());
        tasks.spawn(async move { supervisor.run(&stop_shipping).await });
        tasks.spawn(async move {
            backlog.run(&stop_measuring).await;
            Ok(())
        });
    }
    tasks.spawn(health::serve(listener, board, telemetry.registry.clone(), stop.clone()));
    wait(tasks, &stop, config.drain + GRACE).await
}

/// Waits for all tasks. One that ends before it is told to ends the relay.
async fn wait(
    mut tasks: JoinSet<Result<(), Error>>,
    stop: &CancellationToken,
    limit: Duration,
) -> Result<(), Error> {
    let early = tokio::select! {
        () = stop.cancelled() => None,
        ended = tasks.join_next() => ended,
    };
    let early = match early {
        Some(Ok(Err(error))) => Some(error),
        Some(Err(panic)) => Some(Error::TaskEnded(panic.to_string())),
        Some(Ok(Ok(()))) if !stop.is_cancelled() => Some(Error::TaskEnded("a loop".to_owned())),
        Some(Ok(Ok(()))) | None => None,
    };
    stop.cancel();
    let rest = tokio::time::timeout(limit, async {
        let mut first_error = None;
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) =
                ended.unwrap_or_else(|panic| Err(Error::TaskEnded(panic.to_string())))
            {
                first_error.get_or_insert(error);
            }
        }
        first_error
    });
    match (early, rest.await) {
        (Some(error), _) | (None, Ok(Some(error))) => Err(error),
        (None, Err(_)) => Err(Error::NotDrained(limit)),
        (None, Ok(None)) => Ok(()),
    }
}
