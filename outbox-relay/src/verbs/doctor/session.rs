//! The connection: a pooler in transaction mode swallows notifications and forgets settings.

use std::time::Duration;

use sqlx::{
    PgConnection,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::time::timeout;
use uuid::Uuid;

use super::Check;
use crate::{
    cluster,
    config::Source,
    verbs::error::{Error, doing},
};

/// How long a notification may take.
const HEARD: Duration = Duration::from_secs(3);

/// Whether the session is one session from end to end.
pub(crate) async fn is_direct(
    connection: &mut PgConnection,
    source: &Source,
) -> Result<Check, Error> {
    let advice = "connect the relay to Postgres itself, or through a pooler in session mode";
    Ok(if !keeps_settings(connection, source).await? {
        Check::fail(
            "connection",
            format!("settings do not last from one statement to the next: {advice}"),
        )
    } else if !hears(connection, source).await? {
        Check::warn(
            "connection",
            format!("notifications are not heard, so that rows wait for the next poll: {advice}"),
        )
    } else {
        Check::ok("connection", "direct: settings last, and notifications are heard")
    })
}

/// Whether a setting is still there after somebody else had a chance to be given the same server process.
async fn keeps_settings(connection: &mut PgConnection, source: &Source) -> Result<bool, Error> {
    let set = "select set_config('outbox_relay.doctor', $1, false), pg_backend_pid()";
    let get = "select coalesce(current_setting('outbox_relay.doctor', true), ''), pg_backend_pid()";
    let mark = Uuid::now_v7().to_string();
    let before: (String, i32) = sqlx::query_as(set)
        .bind(&mark)
        .fetch_one(&mut *connection)
        .await
        .map_err(doing("setting something"))?;
    let mut other = cluster::connect(&source.database).await?;
    let mut occupied =
        sqlx::Connection::begin(&mut other).await.map_err(doing("opening a transaction"))?;
    sqlx::query("select 1")
        .execute(&mut *occupied)
        .await
        .map_err(doing("opening a transaction"))?;
    let after: (String, i32) =
        sqlx::query_as(get).fetch_one(connection).await.map_err(doing("reading a setting"))?;
    occupied.rollback().await.map_err(doing("ending a transaction"))?;
    Ok(before == after)
}

async fn hears(connection: &mut PgConnection, source: &Source) -> Result<bool, Error> {
    let options = source.database.options()?.application_name("outbox-relay doctor");
    let channel = format!("outbox_doctor_{}", Uuid::now_v7().simple());
    let pool =
        PgPoolOptions::new().max_connections(1).acquire_timeout(HEARD).connect_lazy_with(options);
    let mut listener =
        PgListener::connect_with(&pool).await.map_err(doing("connecting to listen"))?;
    listener.eager_reconnect(false);
    listener.listen(&channel).await.map_err(doing("listening"))?;
    sqlx::query("select pg_notify($1, '')")
        .bind(&channel)
        .execute(connection)
        .await
        .map_err(doing("notifying"))?;
    Ok(matches!(timeout(HEARD, listener.try_recv()).await, Ok(Ok(Some(_)))))
}
