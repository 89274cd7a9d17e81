//! Whether a table that is not ours can be shipped in order: asked before the first row is read, so that a wrong map or a
//! forgotten preparation is said in words and not by events that are missing.

use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error,
    error::postgres,
    identifier::Identifier,
    mapping::{Mapping, Remove},
};

const TEXT: [&str; 5] = ["jsonb", "json", "text", "character varying", "bytea"];

/// A column as the catalogue describes it.
#[derive(Debug)]
struct Column {
    name: String,
    kind: String,
    is_required: bool,
    default: Option<String>,
    /// Of the sequence that fills it: how many numbers a session hoards, and whether the numbers only grow.
    cache: Option<i64>,
    is_growing: Option<bool>,
    is_indexed: bool,
}

/// Refuses a table that lacks something, and warns where it is only slow.
///
/// # Errors
/// [`Error::Unfit`] with everything that is wrong, or Postgres'.
pub async fn inspect(connection: &mut PgConnection, mapping: &Mapping) -> Result<(), Error> {
    let columns = columns(connection, mapping).await?;
    let mut faults = faults(mapping, &columns);
    if columns.is_empty() {
        faults = vec!["there is no such table".to_owned()];
    } else {
        faults.extend(missing_rights(connection, mapping).await?);
    }
    if !faults.is_empty() {
        return Err(Error::Unfit { table: mapping.name.to_string(), faults: faults.join("; ") });
    }
    for column in [&mapping.seq, &mapping.xid] {
        if columns.iter().any(|found| found.name == column.as_str() && !found.is_indexed) {
            tracing::warn!(
                table = %mapping.name,
                column = column.as_str(),
                "no valid index begins with this column: every poll reads the whole table"
            );
        }
    }
    Ok(())
}

async fn columns(connection: &mut PgConnection, mapping: &Mapping) -> Result<Vec<Column>, Error> {
    let rows = sqlx::query(
        "select attname::text,
                format_type(coalesce(nullif(typbasetype, 0), atttypid), null),
                attnotnull,
                pg_get_expr(adbin, adrelid),
                seqcache,
                seqincrement > 0 and not seqcycle,
                exists (
                    select
                    from pg_index
                    join pg_class on pg_class.oid = indexrelid
                    join pg_am on pg_am.oid = relam
                    where indrelid = attrelid
                      and indkey[0] = attnum
                      and indisvalid
                      and indpred is null
                      and amname = 'btree')
         from pg_attribute
         join pg_type on pg_type.oid = atttypid
         left join pg_attrdef on adrelid = attrelid and adnum = attnum
         left join lateral (
             select seqcache, seqincrement, seqcycle
             from pg_sequence
             join pg_depend
               on (classid, objid, refclassid, refobjid, refobjsubid)
                      = ('pg_class'::regclass, seqrelid, 'pg_class'::regclass, attrelid, attnum)
               or (classid, objid, refclassid, refobjid)
                      = ('pg_attrdef'::regclass, pg_attrdef.oid, 'pg_class'::regclass, seqrelid)
             limit 1
         ) sequence on true
         where attrelid = to_regclass($1)
           and attnum > 0
           and not attisdropped",
    )
    .bind(mapping.name.quoted())
    .fetch_all(connection)
    .await
    .map_err(postgres("looking at the mapped table"))?;
    rows.iter()
        .map(Column::read)
        .collect::<Result<_, _>>()
        .map_err(postgres("looking at the mapped table"))
}

impl Column {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: row.try_get(0)?,
            kind: row.try_get(1)?,
            is_required: row.try_get(2)?,
            default: row.try_get(3)?,
            cache: row.try_get(4)?,
            is_growing: row.try_get(5)?,
            is_indexed: row.try_get(6)?,
        })
    }

    /// What is wrong with it for what it is used for.
    fn fault(&self, role: &str) -> Option<&'static str> {
        let is = |kinds: &[&str]| kinds.contains(&self.kind.as_str());
        match role {
            "seq" if !is(&["bigint"]) => Some("must be bigint"),
            "seq" if self.cache.is_some_and(|cache| cache != 1) => Some(
                "comes from a sequence with a cache: events of one key would be sent out of order; set it to cache 1",
            ),
            "seq" if self.is_growing == Some(false) => {
                Some("comes from a sequence that does not only grow")
            }
            "xid" if !is(&["xid8"]) => Some("must be xid8"),
            "xid" if self.default.as_deref() != Some("pg_current_xact_id()") => {
                Some("must have the default pg_current_xact_id()")
            }
            "seq" | "xid" if !self.is_required => {
                Some("must be not null: a row without it would never be sent")
            }
            "payload" if !is(&TEXT) => Some("must be jsonb, json, text or bytea"),
            "merge_headers" if !is(&["jsonb", "json"]) => Some("must be jsonb or json"),
            "tracing" if !is(&["text", "character varying"]) => Some("must be text"),
            "created_at" if !is(&["timestamp with time zone", "timestamp without time zone"]) => {
                Some(
                    "must be timestamptz or timestamp; give another name, and the preparation adds it",
                )
            }
            _ => None,
        }
    }
}

fn faults(mapping: &Mapping, columns: &[Column]) -> Vec<String> {
    let fault = |(role, wanted): (&str, &Identifier)| {
        let name = wanted.as_str();
        match columns.iter().find(|column| column.name == name) {
            None => Some(format!("{role} = {name:?} is not a column of it")),
            Some(column) => column.fault(role).map(|fault| format!("{role} = {name:?} {fault}")),
        }
    };
    mapping.columns().filter_map(fault).collect()
}

async fn missing_rights(
    connection: &mut PgConnection,
    mapping: &Mapping,
) -> Result<Option<String>, Error> {
    let right = match mapping.remove {
        Remove::Keep => ["select", "select"],
        Remove::Delete => ["select", "delete"],
    };
    let missing = sqlx::query_scalar::<_, Option<String>>(
        "select string_agg(format('grant %s on %s to %I', wanted, $1, current_user), ', ')
         from unnest($2::text[]) as wanted
         where not has_table_privilege($1, wanted)",
    )
    .bind(mapping.name.quoted())
    .bind(right)
    .fetch_one(connection)
    .await
    .map_err(postgres("looking at the mapped table"))?;
    Ok(missing)
}
