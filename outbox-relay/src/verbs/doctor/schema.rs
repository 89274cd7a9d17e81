//! The tables: whether every migration has run, and what a person may have changed since.

use sqlx::PgConnection;

use super::Check;
use crate::verbs::error::{Error, doing};

/// What the relay reads or writes: a table or view, and its columns.
const COLUMNS: [(&str, &[&str]); 5] = [
    (
        "outbox",
        &[
            "slot",
            "seq",
            "xid",
            "shard",
            "event_id",
            "topic",
            "key",
            "headers",
            "payload",
            "created_at",
        ],
    ),
    (
        "outbox_cursor",
        &[
            "shard",
            "owner",
            "epoch",
            "acked",
            "target",
            "sent_seq",
            "system_identifier",
            "timeline",
            "follows",
            "paused",
            "wish",
            "moves",
            "fence",
        ],
    ),
    (
        "outbox_parked",
        &[
            "seq",
            "shard",
            "event_id",
            "topic",
            "key",
            "headers",
            "payload",
            "created_at",
            "reason",
            "parked_at",
            "wish",
            "held",
        ],
    ),
    ("outbox_standing", &["shard", "owner", "acked", "target", "sent_seq", "paused", "wish"]),
    ("outbox_relay", &["owner", "name", "lease_until", "draining", "started_at"]),
];

/// Whether all tables, columns and functions are there.
pub(crate) async fn is_there(connection: &mut PgConnection) -> Result<Check, Error> {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select relname::text, attname::text
         from pg_attribute
         join pg_class on pg_class.oid = attrelid
         join pg_namespace on pg_namespace.oid = relnamespace
         where nspname = 'messaging'
           and attnum > 0
           and not attisdropped",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(doing("reading the catalogue"))?;
    let functions: Vec<String> = sqlx::query_scalar(
        "select proname::text
         from pg_proc
         join pg_namespace on pg_namespace.oid = pronamespace
         where nspname = 'messaging'",
    )
    .fetch_all(connection)
    .await
    .map_err(doing("reading the catalogue"))?;
    let is_missing =
        |table: &str, column: &str| !columns.iter().any(|(of, name)| of == table && name == column);
    let mut missing: Vec<String> = COLUMNS
        .iter()
        .flat_map(|(table, columns)| columns.iter().map(move |column| (*table, *column)))
        .filter(|(table, column)| is_missing(table, column))
        .map(|(table, column)| format!("{table}.{column}"))
        .collect();
    let known = ["rotate_outbox", "adopt_outbox"];
    let lacking = known.iter().filter(|name| !functions.iter().any(|function| function == *name));
    missing.extend(lacking.map(|name| format!("{name}()")));
    if missing.is_empty() {
        return Ok(Check::ok("tables", "every table, column and function is there"));
    }
    let advice = "apply migrations/messaging/*.sql to this database";
    Ok(Check::fail("tables", format!("messaging lacks {}: {advice}", missing.join(", "))))
}

/// Whether sequence order is commit order within a key.
pub(crate) async fn sequence_is_uncached(connection: &mut PgConnection) -> Result<Check, Error> {
    let cache: i64 = sqlx::query_scalar(
        "select seqcache from pg_sequence where seqrelid = 'messaging.outbox_seq'::regclass",
    )
    .fetch_one(connection)
    .await
    .map_err(doing("reading the sequence"))?;
    Ok(if cache == 1 {
        Check::ok("sequence", "numbers are handed out one by one")
    } else {
        let error = crate::Error::SequenceCached(cache);
        Check::fail("sequence", error.to_string())
    })
}
