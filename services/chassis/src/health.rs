//! Whether this service is ready: it is when its own database answers. Kafka does not count, since an order can be taken
//! while the broker is away.

use std::time::Duration;

use axum::{Router, extract::State, http::StatusCode, routing::get};
use prometheus::Registry;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::metrics;

const EVERY: Duration = Duration::from_secs(1);
/// A database that takes longer to say that it is there is not.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the database every second, and tells gRPC's health service and `ready`; on shutdown, not serving.
pub(crate) async fn watch(
    pool: PgPool,
    services: Vec<&'static str>,
    reporter: HealthReporter,
    ready: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    loop {
        let answer = tokio::time::timeout(PATIENCE, sqlx::query("select 1").execute(&pool)).await;
        let healthy = matches!(answer, Ok(Ok(_))) && !shutdown.is_cancelled();
        if ready.send_replace(healthy) != healthy {
            tracing::info!(ready = healthy, "readiness changed");
        }
        let status = if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in services.iter().chain(&[""]) {
            reporter.set_service_status(*service, status).await;
        }
        if shutdown.is_cancelled() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

#[derive(Clone)]
struct Pages {
    registry: Registry,
    ready: watch::Receiver<bool>,
}

/// `/metrics`, `/healthz` (the process runs) and `/readyz` (it can work).
pub(crate) fn pages(registry: Registry, ready: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .with_state(Pages { registry, ready })
}

async fn metrics_page(State(pages): State<Pages>) -> Result<String, StatusCode> {
    metrics::page(&pages.registry).map_err(|error| {
        tracing::error!(%error, "the metrics page could not be written");
        StatusCode::INTERNAL_SERVER_ERROR
    })
}

async fn readiness(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    if *pages.ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
    }
}
