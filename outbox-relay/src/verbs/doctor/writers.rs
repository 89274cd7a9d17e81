//! Writers that stay open: they hold back their own events, and the emptying of the ring.

use sqlx::{AssertSqlSafe, PgConnection};

use super::Check;
use crate::{
    config::Source,
    verbs::{
        error::{Error, doing},
        terminal::span,
    },
};

/// Longer than this is worth a word.
const LONG: f64 = 60.0;

/// Whether no transaction that has written has been open for long, in the whole cluster.
pub(crate) async fn are_short(
    connection: &mut PgConnection,
    source: &Source,
) -> Result<Check, Error> {
    let oldest: Option<(i32, String, String, f64)> = sqlx::query_as(
        "select pid,
                coalesce(usename::text, '?'),
                coalesce(datname::text, '?'),
                extract(epoch from clock_timestamp() - xact_start)::float8
         from pg_stat_activity
         where backend_xid is not null
           and xact_start is not null
           and pid <> pg_backend_pid()
         order by xact_start
         limit 1",
    )
    .fetch_optional(&mut *connection)
    .await
    .map_err(doing("reading pg_stat_activity"))?;
    let prepared: i64 = sqlx::query_scalar("select count(*) from pg_prepared_xacts")
        .fetch_one(&mut *connection)
        .await
        .map_err(doing("reading pg_prepared_xacts"))?;
    let at_least = known_age(connection, source).await?;
    let advice = "the ring cannot be emptied past it; end it if it has been forgotten";
    Ok(match oldest {
        Some((pid, role, database, age)) if age > LONG => Check::warn(
            "writers",
            format!(
                "process {pid} of {role} in database {database} has a transaction open for {}: {advice}",
                span(age)
            ),
        ),
        _ if at_least > LONG => Check::warn(
            "writers",
            format!(
                "a transaction that this role may not see is open for at least {}: {advice}; grant pg_read_all_stats to \
                 see whose",
                span(at_least)
            ),
        ),
        _ if prepared > 0 => Check::warn(
            "writers",
            format!("{prepared} prepared transactions wait for their second phase: {advice}"),
        ),
        _ => Check::ok("writers", "no transaction that writes is open for long"),
    })
}

/// How long the oldest open transaction has been open at least: since before the first row of a later one was written. Every
/// role may know this much.
async fn known_age(connection: &mut PgConnection, source: &Source) -> Result<f64, Error> {
    let table = &source.table;
    let statement = format!(
        "select coalesce(extract(epoch from clock_timestamp() - (
                select {created_at}
                from {name}
                where {xid} > pg_snapshot_xmin(pg_current_snapshot())
                order by {xid}
                limit 1)), 0)::float8",
        created_at = table.created_at,
        name = table.name,
        xid = table.xid,
    );
    sqlx::query_scalar(AssertSqlSafe(statement))
        .fetch_one(connection)
        .await
        .map_err(doing("looking for open transactions"))
}
