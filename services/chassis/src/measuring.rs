//! What the database is asked for every few seconds, apart from the work: what is stuck cannot freeze its own alarm.

use std::time::Duration;

use futures::future::BoxFuture;
use opentelemetry::metrics::Gauge;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The pause between two answers, and how long one may take.
const EVERY: Duration = Duration::from_secs(5);

/// Repeats [`step`] until told to stop.
pub(crate) async fn watch<R>(
    what: &'static str,
    measured: &Gauge<u64>,
    ask: impl Fn() -> BoxFuture<'static, sqlx::Result<R>>,
    tell: impl Fn(Option<R>),
    shutdown: CancellationToken,
) {
    let mut was_measured = true;
    loop {
        let step = step(what, measured, ask(), &tell, was_measured);
        let Some(is_measured) = shutdown.run_until_cancelled(step).await else { return };
        was_measured = is_measured;
        if shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

/// Tells the answer. While there is none in time, none is told and `measured` is 0. Returns whether there was one.
pub(crate) async fn step<R>(
    what: &'static str,
    measured: &Gauge<u64>,
    asked: impl Future<Output = sqlx::Result<R>>,
    tell: impl Fn(Option<R>),
    was_measured: bool,
) -> bool {
    let answer = timeout(EVERY, asked).await;
    match &answer {
        Ok(Err(error)) if was_measured => tracing::warn!(%error, what, "could not be measured"),
        Err(_) if was_measured => {
            tracing::warn!(limit = ?EVERY, what, "the database did not answer in time");
        }
        Ok(_) | Err(_) => {}
    }
    let answer = answer.ok().and_then(Result::ok);
    let is_measured = answer.is_some();
    measured.record(is_measured.into(), &[]);
    tell(answer);
    is_measured
}
