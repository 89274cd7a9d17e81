//! The ring: whether it is emptied, without stalling a writer and without anybody vacuuming it.

use std::time::Duration;

use sqlx::PgConnection;

use super::Check;
use crate::{
    config::duration,
    shards::Shards,
    verbs::{
        error::{Error, doing},
        status::size,
        terminal::span,
    },
};

/// A writer waits at most this long for an emptying that waits for somebody else.
const LONGEST: Duration = Duration::from_millis(50);
/// After this a child whose rows are all acknowledged should be empty.
const LATE: f64 = 120.0;

/// A child that holds rows and is not the current one.
#[derive(Debug, sqlx::FromRow)]
struct Child {
    child: i32,
    bytes: i64,
    age: f64,
    /// The shards that have not passed its newest row.
    behind: i64,
}

/// Whether no child is full of what is acknowledged, or held by a shard that stands still.
pub(crate) async fn is_emptied(connection: &mut PgConnection) -> Result<Check, Error> {
    let late: Option<Child> = sqlx::query_as(
        "select child,
                pg_total_relation_size(format('messaging.outbox_%s', child)::regclass) as bytes,
                extract(epoch from clock_timestamp() - created_at)::float8 as age,
                (select coalesce(bit_or(1::bigint << shard), 0)
                 from messaging.outbox_standing
                 where pg_snapshot_xmin(acked) <= newest.xid) as behind
         from generate_series(0, 3) child
         cross join lateral (
             select xid, created_at
             from messaging.outbox
             where slot = child
             order by xid desc
             limit 1
         ) newest
         where child <> floor(extract(epoch from clock_timestamp()) / 60)::bigint % 4
           and created_at < clock_timestamp() - $1 * interval '1 second'
         order by created_at
         limit 1",
    )
    .bind(LATE)
    .fetch_optional(connection)
    .await
    .map_err(doing("looking at the ring"))?;
    Ok(match late {
        None => Check::ok("ring", "no child holds what is long since acknowledged"),
        Some(Child { child, bytes, age, behind: 0 }) => Check::warn(
            "ring",
            format!(
                "child {child} ({}) could have been emptied {} ago: does a relay run, and does a dump or an idle reader lock it?",
                size(bytes),
                span(age)
            ),
        ),
        Some(Child { child, bytes, age, behind }) => Check::warn(
            "ring",
            format!(
                "child {child} ({}), newest row {} old, waits for shards {}: are they paused, without an owner, or behind an \
                 open transaction? See `status`",
                size(bytes),
                span(age),
                Shards::from_mask(behind)
            ),
        ),
    })
}

/// Whether the function that empties children gives up a lock that it does not get, and has the owner's rights.
pub(crate) async fn rotation_gives_way(connection: &mut PgConnection) -> Result<Check, Error> {
    let (settings, definer): (Vec<String>, bool) = sqlx::query_as(
        "select coalesce(proconfig, '{}'), prosecdef
         from pg_proc
         where pronamespace = 'messaging'::regnamespace
           and proname = 'rotate_outbox'",
    )
    .fetch_one(connection)
    .await
    .map_err(doing("reading the function"))?;
    let advice = "create the function again as migrations/messaging/0005_relays.sql does";
    let timeout = settings.iter().find_map(|setting| setting.strip_prefix("lock_timeout="));
    let gives_way = timeout.and_then(|text| match text.parse() {
        Ok(millis) => Some(Duration::from_millis(millis)),
        Err(_) => duration(text).ok(),
    });
    Ok(match gives_way {
        _ if !definer => Check::fail(
            "rotation",
            format!("rotate_outbox() runs without its owner's rights: {advice}"),
        ),
        Some(limit) if !limit.is_zero() && limit <= LONGEST => {
            Check::ok("rotation", format!("an emptying waits at most {limit:?} for a lock"))
        }
        Some(_) | None => Check::fail(
            "rotation",
            format!(
                "rotate_outbox() may hold up every writer: its lock_timeout must be at most 50ms; {advice}"
            ),
        ),
    })
}

/// Whether autovacuum leaves the children alone.
pub(crate) async fn autovacuum_is_off(connection: &mut PgConnection) -> Result<Check, Error> {
    let vacuumed: Vec<String> = sqlx::query_scalar(
        "select relname::text
         from pg_inherits
         join pg_class on pg_class.oid = inhrelid
         where inhparent = 'messaging.outbox'::regclass
           and not coalesce((
               select option_value::boolean
               from pg_options_to_table(reloptions)
               where option_name = 'autovacuum_enabled') = false, false)
         order by relname",
    )
    .fetch_all(connection)
    .await
    .map_err(doing("reading the catalogue"))?;
    Ok(if vacuumed.is_empty() {
        Check::ok("autovacuum", "off for the ring, whose children are truncated instead")
    } else {
        let statements: Vec<String> = vacuumed
            .iter()
            .map(|child| format!("alter table messaging.{child} set (autovacuum_enabled = off)"))
            .collect();
        Check::warn(
            "autovacuum",
            format!("on where it does nothing but work: {}", statements.join("; ")),
        )
    })
}
