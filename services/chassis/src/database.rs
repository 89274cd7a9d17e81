//! The service's own database: connected and migrated before anything listens.

use std::{future::Future, time::Duration};

use sqlx::{
    PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::Instant;

static MESSAGING: Migrator = sqlx::migrate!("../../migrations/messaging");

/// How every connection of a service is opened. A plan that Postgres keeps from the time when a table was empty reads the
/// whole of it for ever, so each statement is planned for its own values; and our statements all have an index to go by,
/// whatever the statistics of a young table say. Where one has to read a small table whole, its cost is beyond all bounds
/// then, and Postgres would compile it for a second or more each time.
pub(crate) fn options(database: &PgConnectOptions, application: &str) -> PgConnectOptions {
    database.clone().application_name(application).options([
        ("plan_cache_mode", "force_custom_plan"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
    ])
}

/// Connects, waiting up to `wait` for the database to come up, and brings both sets of tables up to date.
/// Errors: the last reason why not.
pub(crate) async fn open(
    options: PgConnectOptions,
    connections: u32,
    wait: Duration,
    migrations: &Migrator,
) -> anyhow::Result<PgPool> {
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        // A ping per call costs a round trip; a broken connection shows itself as UNAVAILABLE, once.
        .test_before_acquire(false);
    let pool = patiently(wait, || pool.clone().connect_with(options.clone())).await?;
    migrate(&pool, migrations).await?;
    Ok(pool)
}

/// Brings the messaging tables and the service's own up to date; both keep books of their own.
pub(crate) async fn migrate(
    pool: &PgPool,
    migrations: &Migrator,
) -> Result<(), sqlx::migrate::MigrateError> {
    MESSAGING.run(pool).await?;
    migrations.run(pool).await
}

async fn patiently<T, F: Future<Output = sqlx::Result<T>>>(
    wait: Duration,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let give_up = Instant::now() + wait;
    let mut pause = Duration::from_millis(100);
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() + pause > give_up => {
                return Err(anyhow::Error::new(error)
                    .context("the database did not come up in time (DATABASE_URL)"));
            }
            Err(error) => tracing::info!(%error, "waiting for the database"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}
