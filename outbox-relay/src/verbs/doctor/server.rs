//! The server: whether it is one that can be shipped from, the same as ever, and keeps what it has committed.

use sqlx::PgConnection;

use super::Check;
use crate::{
    cluster::Cluster,
    verbs::error::{Error, doing},
};

/// The oldest release that knows pg_snapshot and xid8 as the relay uses them.
const OLDEST: i32 = 140_000;

/// Whether it is new enough, and takes writes.
pub(crate) async fn is_fit(connection: &mut PgConnection) -> Result<Check, Error> {
    let (number, version, standby): (i32, String, bool) = sqlx::query_as(
        "select current_setting('server_version_num')::integer,
                current_setting('server_version'),
                pg_is_in_recovery()",
    )
    .fetch_one(connection)
    .await
    .map_err(doing("asking for the version"))?;
    Ok(if standby {
        Check::fail("server", "this is a standby: connect to the primary")
    } else if number < OLDEST {
        Check::fail("server", format!("Postgres {version} is too old: 14 is the oldest that works"))
    } else {
        Check::ok("server", format!("Postgres {version}, a primary"))
    })
}

/// Whether the cursor was written on this cluster and timeline.
pub(crate) async fn is_the_cursors_cluster(connection: &mut PgConnection) -> Result<Check, Error> {
    let (system_identifier, timeline, noted): (i64, i32, Vec<i32>) = sqlx::query_as(
        "select (select system_identifier from pg_control_system()),
                ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer,
                array(select distinct timeline from messaging.outbox_cursor where timeline is not null)",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(doing("identifying the cluster"))?;
    if let Some(strange) = Cluster::strangeness(connection, system_identifier).await? {
        return Ok(Check::fail("cluster", strange.to_string()));
    }
    Ok(match noted.iter().find(|noted| **noted != timeline) {
        Some(noted) => Check::warn(
            "cluster",
            format!(
                "the cursor was last taken on timeline {noted}, this is {timeline}: a failover or a restore; consumers \
                 may have events that this database has forgotten"
            ),
        ),
        None => Check::ok("cluster", format!("cluster {system_identifier}, timeline {timeline}")),
    })
}

/// Whether a crash could forget an event that is already in Kafka.
pub(crate) async fn commits_are_durable(connection: &mut PgConnection) -> Result<Check, Error> {
    let guarded: bool = sqlx::query_scalar(
        "select exists (
             select
             from pg_constraint
             where conrelid = to_regclass('messaging.outbox')
               and conname = 'outbox_needs_synchronous_commit'
               and convalidated)",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(doing("reading the catalogue"))?;
    if !guarded {
        return Ok(Check::fail(
            "durability",
            "the outbox lacks the constraint outbox_needs_synchronous_commit: after a crash Kafka could hold events that \
             Postgres has forgotten; add it again as migrations/messaging/0001_outbox.sql does",
        ));
    }
    let off: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' in ', coalesce('role ' || rolname, 'every role'), 'database ' || datname)
         from pg_db_role_setting
         left join pg_roles on pg_roles.oid = setrole
         left join pg_database on pg_database.oid = setdatabase
         where setdatabase in (0, (select oid from pg_database where datname = current_database()))
           and setconfig && array['synchronous_commit=off']
         union all
         select 'the server' from pg_settings where name = 'synchronous_commit' and boot_val <> 'off' and reset_val = 'off'",
    )
    .fetch_all(connection)
    .await
    .map_err(doing("reading the settings"))?;
    Ok(if off.is_empty() {
        Check::ok("durability", "synchronous_commit is on, and the outbox refuses rows without it")
    } else {
        Check::warn(
            "durability",
            format!(
                "synchronous_commit is off for {}: the outbox refuses what they write; set it to on",
                off.join(", ")
            ),
        )
    })
}
