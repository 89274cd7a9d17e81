//! What the database is asked for every few seconds, apart from the work: what is stuck cannot freeze its own alarm.

use std::time::Duration;

use futures::future::BoxFuture;
use opentelemetry::metrics::Gauge;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The pause between two answers, and how long one may take.
const EVERY: Duration = Duration::from_secs(5);

/// Asks and records until told to stop. While there is no answer in time `measured` is 0, and what was recorded last stands.
pub(crate) async fn watch<R>(
    what: &'static str,
    measured: &Gauge<u64>,
    ask: impl Fn() -> BoxFuture<'static, sqlx::Result<R>>,
    record: impl Fn(R),
    shutdown: CancellationToken,
) {
    let mut was_measured = true;
    loop {
        let Some(asked) = shutdown.run_until_cancelled(timeout(EVERY, ask())).await else { return };
        let is_measured = matches!(asked, Ok(Ok(_)));
        measured.record(is_measured.into(), &[]);
        match asked {
            Ok(Ok(answer)) => record(answer),
            Ok(Err(error)) if was_measured => tracing::warn!(%error, what, "could not be measured"),
            Err(_) if was_measured => {
                tracing::warn!(limit = ?EVERY, what, "the database did not answer in time");
            }
            Ok(Err(_)) | Err(_) => {}
        }
        was_measured = is_measured;
        if shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}
