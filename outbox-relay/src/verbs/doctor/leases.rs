//! Who ships: every shard has a living owner, and nobody waits in vain for one.

use std::time::Duration;

use sqlx::PgConnection;

use super::Check;
use crate::{
    shards::{SHARDS, Shards},
    verbs::{
        error::{Error, doing},
        terminal::{count, span},
    },
};

/// A lease longer than this makes a crash felt.
const LONG: Duration = Duration::from_secs(60);

/// Whether every shard has an owner that is alive.
pub(crate) async fn are_held(connection: &mut PgConnection) -> Result<Check, Error> {
    let (relays, draining, longest, shards, free, paused): (i64, i64, f64, i64, i64, i64) = sqlx::query_as(
        "with alive as (
             select owner, draining, lease_until
             from messaging.outbox_relay
             where lease_until > clock_timestamp()
         )
         select (select count(*) from alive),
                (select count(*) from alive where draining),
                (select coalesce(max(extract(epoch from lease_until - clock_timestamp())), 0)::float8 from alive),
                count(*),
                coalesce(bit_or(1::bigint << shard) filter (where alive.owner is null), 0),
                coalesce(bit_or(1::bigint << shard) filter (where paused), 0)
         from messaging.outbox_cursor cursor
         left join alive on alive.owner = cursor.owner",
    )
    .fetch_one(connection)
    .await
    .map_err(doing("reading the leases"))?;
    let (free, paused) = (Shards::from_mask(free), Shards::from_mask(paused));
    Ok(if shards != i64::from(SHARDS) {
        Check::fail(
            "leases",
            format!(
                "outbox_cursor has {shards} rows instead of {SHARDS}: nothing ships the shards that are missing"
            ),
        )
    } else if relays == 0 {
        Check::warn("leases", "no relay runs: nothing is shipped; start `outbox-relay run`")
    } else if !free.is_empty() {
        let draining = if draining > 0 { "; some drain: see `resume`" } else { "" };
        Check::warn(
            "leases",
            format!("shards {free} have no owner yet: look again in some seconds{draining}"),
        )
    } else if !paused.is_empty() {
        Check::warn("leases", format!("shards {paused} are paused: `resume` lets them go on"))
    } else if longest > LONG.as_secs_f64() {
        Check::warn(
            "leases",
            format!(
                "a lease lasts for {} more: for so long nobody takes over from a relay that was killed; see --lease",
                span(longest)
            ),
        )
    } else {
        Check::ok("leases", format!("{} ship all shards", count(relays, "relay")))
    })
}

/// Whether somebody is there to carry out what people wish.
pub(crate) async fn wishes_are_carried_out(connection: &mut PgConnection) -> Result<Check, Error> {
    let (cursors, rows): (i64, i64) = sqlx::query_as(
        "select (select count(*) from messaging.outbox_cursor where wish is not null),
                (select count(*) from messaging.outbox_parked where wish is not null)",
    )
    .fetch_one(connection)
    .await
    .map_err(doing("reading the wishes"))?;
    Ok(if cursors + rows == 0 {
        Check::ok("wishes", "none waits")
    } else {
        Check::warn(
            "wishes",
            format!(
                "those for {} and {} wait for a relay",
                count(cursors, "shard"),
                count(rows, "parked row")
            ),
        )
    })
}
