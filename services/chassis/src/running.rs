//! Tasks from their start to their end: all of them end on shutdown, and one that ends before it ends the process.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use futures::future::BoxFuture;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// What runs until the shutdown, with its name.
pub(crate) type Task = (&'static str, BoxFuture<'static, anyhow::Result<()>>);

/// What asks a process to end. Heard before anything listens, so that none is missed.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to hear them.
    pub(crate) fn hear() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Runs the tasks until a signal or a dead one ends them; then cancels `shutdown`, and cuts off what has not ended within
    /// `drain_limit`, `closing` included. Errors: which task died of what.
    pub(crate) async fn run(
        mut self,
        name: &str,
        tasks: Vec<Task>,
        shutdown: CancellationToken,
        drain_limit: Duration,
        closing: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let mut running = JoinSet::new();
        for (name, task) in tasks {
            running.spawn(async move { (name, task.await) });
        }
        let ended = tokio::select! {
            _ = self.terminate.recv() => Ok(()),
            _ = self.interrupt.recv() => Ok(()),
            Some(ended) = running.join_next() => Err(death(ended)),
        };
        tracing::info!("{name} stops");
        shutdown.cancel();
        let ending = async {
            drain(&mut running).await;
            closing.await;
        };
        if tokio::time::timeout(drain_limit, ending).await.is_err() {
            tracing::warn!(limit = ?drain_limit, "cut off what had not ended in time");
            running.shutdown().await;
        }
        ended
    }
}

/// Errors: the port is taken; says how to choose another.
pub(crate) async fn listen(address: SocketAddr, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("listen on {address}: is the port taken? choose another one with {variable}")
    })
}

/// A worker that cannot fail.
pub(crate) fn forever(
    worker: impl Future<Output = ()> + Send + 'static,
) -> BoxFuture<'static, anyhow::Result<()>> {
    Box::pin(async move {
        worker.await;
        Ok(())
    })
}

type Ended = Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>;

fn death(ended: Ended) -> anyhow::Error {
    match ended {
        Ok((name, Err(error))) => error.context(format!("the task {name:?} failed")),
        Ok((name, Ok(()))) => anyhow::anyhow!("the task {name:?} ended before its time"),
        Err(error) => anyhow::Error::new(error).context("a task panicked"),
    }
}

async fn drain(running: &mut JoinSet<(&'static str, anyhow::Result<()>)>) {
    while let Some(ended) = running.join_next().await {
        if !matches!(ended, Ok((_, Ok(())))) {
            tracing::warn!(error = %death(ended), "while stopping");
        }
    }
}
