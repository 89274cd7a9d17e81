//! How every source is doing: said once in the log when it changes, and by HTTP whenever asked.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, extract::State as Shared, http::StatusCode, routing::get};
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Error;

/// What a source is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not yet known.
    Starting,
    /// Other relays ship all of it; this one is ready to take over.
    Standby,
    /// This relay ships it.
    Shipping,
    /// It is not shipped, for this reason; the relay keeps trying.
    Failing(String),
    /// Told to stop.
    Stopped,
}

impl State {
    fn is_ready(&self) -> bool {
        match self {
            Self::Standby | Self::Shipping => true,
            Self::Starting | Self::Failing(_) | Self::Stopped => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => formatter.write_str("starting"),
            Self::Standby => formatter.write_str("standby"),
            Self::Shipping => formatter.write_str("shipping"),
            Self::Failing(reason) => write!(formatter, "failing: {reason}"),
            Self::Stopped => formatter.write_str("stopped"),
        }
    }
}

/// The states of all sources.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<String, State>>>);

impl Board {
    /// Notes a source's state, and logs it if it is news.
    pub fn set(&self, source: &str, state: State) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if states.get(source) == Some(&state) {
            return;
        }
        match &state {
            State::Failing(reason) => tracing::warn!(source, reason, "not shipped; trying again"),
            other => tracing::info!(source, state = %other, "source"),
        }
        states.insert(source.to_owned(), state);
    }

    /// A source that was not shipped by this relay is now; one that fails has to deliver something first.
    pub fn begin(&self, source: &str) {
        if !matches!(self.get(source), Some(State::Failing(_))) {
            self.set(source, State::Shipping);
        }
    }

    /// One source's state.
    pub fn get(&self, source: &str) -> Option<State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    /// Whether every source is shipped or watched, and a line about each.
    pub fn report(&self) -> (bool, String) {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = !states.is_empty() && states.values().all(State::is_ready);
        (ready, states.iter().map(|(source, state)| format!("{source}: {state}\n")).collect())
    }
}

/// Serves /healthz, /readyz and /metrics until told to stop.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    board: Board,
    registry: Registry,
    stop: CancellationToken,
) -> Result<(), Error> {
    let address = listener.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let routes = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .with_state(board)
        .merge(Router::new().route("/metrics", get(metrics)).with_state(registry));
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .map_err(|source| Error::Listen { address, source })
}

async fn ready(Shared(board): Shared<Board>) -> (StatusCode, String) {
    let (ready, report) = board.report();
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report)
}

async fn metrics(Shared(registry): Shared<Registry>) -> (StatusCode, String) {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failing_source_makes_the_relay_unready_and_is_named() {
        let board = Board::default();
        assert!(!board.report().0);
        board.set("orders", State::Shipping);
        board.set("products", State::Standby);
        assert!(board.report().0);
        board.set("orders", State::Failing("Postgres: connecting".to_owned()));
        assert_eq!(
            board.report(),
            (false, "orders: failing: Postgres: connecting\nproducts: standby\n".to_owned())
        );
    }
}
