//! `status`: who ships what and how far, what waits, and how full the ring is. Everything is read by short statements on
//! a connection of its own, none of which takes a lock that shipping or emptying the ring would notice.

pub mod groups;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use sqlx::{FromRow, PgConnection};

use self::groups::Group;
use super::{
    choice::all_well,
    error::{Error, doing},
    terminal::{self, Table, count, say, span},
};
use crate::{backlog::COUNTED, cli, config::Source, shards::Shards};

/// Shows all databases that are meant.
///
/// # Errors
/// The databases that did not answer, after the others were shown.
pub async fn show(flags: &cli::Status) -> Result<(), Error> {
    let ask = async |source: &Source, connection: &mut PgConnection| {
        Status::read(connection, source, flags.shards).await
    };
    let (all, errors) = flags.databases.each(ask).await?;
    if flags.json {
        terminal::say_json(&all);
    } else {
        all.iter().for_each(Status::show);
    }
    all_well(errors)
}

/// One database.
#[derive(Debug, Serialize)]
struct Status {
    source: String,
    relays: Vec<Relay>,
    shards: Vec<Group>,
    ring: Vec<Child>,
}

/// A relay that is alive.
#[derive(Debug, Serialize, FromRow)]
struct Relay {
    name: String,
    /// Unique to its lease.
    owner: String,
    lease_seconds: f64,
    draining: bool,
    #[serde(serialize_with = "rfc3339")]
    started_at: DateTime<Utc>,
    #[serde(serialize_with = "groups::ranges")]
    #[sqlx(try_from = "i64")]
    shards: Shards,
}

/// A child of the ring.
#[derive(Debug, Serialize, FromRow)]
struct Child {
    child: i32,
    rows: i64,
    /// Whether there may be more rows than were counted.
    #[sqlx(skip)]
    rows_or_more: bool,
    bytes: i64,
    /// Whether rows are written to it now.
    current: bool,
}

impl Status {
    async fn read(
        connection: &mut PgConnection,
        source: &Source,
        each_shard: bool,
    ) -> Result<Self, Error> {
        Ok(Self {
            source: source.name.clone(),
            relays: relays(connection).await?,
            shards: groups::read(connection, source, each_shard).await?,
            ring: ring(connection).await?,
        })
    }

    fn show(&self) {
        say(format!("{}:", self.source));
        if self.relays.is_empty() {
            say("  no relay runs");
        } else {
            let mut table = Table::new(["relay", "lease", "since", "shards", ""]);
            for relay in &self.relays {
                table.row([
                    self.short(&relay.owner, &relay.name),
                    span(relay.lease_seconds),
                    terminal::time(relay.started_at),
                    relay.shards.to_string(),
                    if relay.draining { "draining".to_owned() } else { String::new() },
                ]);
            }
            say(table.show("  "));
        }
        say(self.groups().show("  "));
        let mut table = Table::new(["child", "rows", "size", ""]);
        for child in &self.ring {
            table.row([
                child.child.to_string(),
                or_more(child.rows, child.rows_or_more),
                size(child.bytes),
                if child.current { "current".to_owned() } else { String::new() },
            ]);
        }
        say(table.show("  "));
    }

    fn groups(&self) -> Table {
        let titles =
            ["shards", "relay", "epoch", "lease", "state", "window", "unsent", "oldest", "parked"];
        let mut table = Table::new(titles);
        for group in &self.shards {
            let relay = group.owner.as_deref().zip(group.relay.as_deref());
            let window = |seq| format!("open, sent to {seq}");
            table.row([
                group.shards.to_string(),
                relay.map_or_else(|| "-".to_owned(), |(owner, name)| self.short(owner, name)),
                group.epoch.to_string(),
                group.lease_seconds.map_or_else(|| "-".to_owned(), span),
                group.state(),
                group.sent_seq.map_or_else(|| "done".to_owned(), window),
                or_more(group.unsent, group.unsent_or_more),
                group.oldest_unsent_seconds.map_or_else(|| "-".to_owned(), span),
                match group.parked_rows {
                    0 => "-".to_owned(),
                    rows => format!("{rows} ({})", count(group.parked_keys, "key")),
                },
            ]);
        }
        table
    }

    /// The relay's name, and where several have it the end of what tells them apart.
    fn short(&self, owner: &str, name: &str) -> String {
        if self.relays.iter().filter(|relay| relay.name == name).count() < 2 {
            return name.to_owned();
        }
        format!("{name}~{}", &owner[owner.len().saturating_sub(4)..])
    }
}

async fn relays(connection: &mut PgConnection) -> Result<Vec<Relay>, Error> {
    sqlx::query_as(
        "select name,
                owner,
                extract(epoch from lease_until - clock_timestamp())::float8 as lease_seconds,
                draining,
                started_at,
                (select coalesce(bit_or(1::bigint << shard), 0)
                 from messaging.outbox_cursor cursor
                 where cursor.owner = relay.owner) as shards
         from messaging.outbox_relay relay
         where lease_until > clock_timestamp()
         order by name, started_at",
    )
    .fetch_all(connection)
    .await
    .map_err(doing("reading the relays"))
}

/// The size of a child costs no look into it, its rows are counted up to a limit.
async fn ring(connection: &mut PgConnection) -> Result<Vec<Child>, Error> {
    let children: Vec<Child> = sqlx::query_as(
        "select child,
                (select count(*)
                 from (select from messaging.outbox where slot = child limit $1) counted) as rows,
                pg_total_relation_size(format('messaging.outbox_%s', child)::regclass) as bytes,
                child = floor(extract(epoch from clock_timestamp()) / 60)::bigint % 4 as current
         from generate_series(0, 3) child",
    )
    .bind(COUNTED)
    .fetch_all(connection)
    .await
    .map_err(doing("looking at the ring"))?;
    let capped = |child: Child| Child { rows_or_more: child.rows >= COUNTED, ..child };
    Ok(children.into_iter().map(capped).collect())
}

fn or_more(number: i64, more: bool) -> String {
    if more { format!("{number} or more") } else { number.to_string() }
}

pub(crate) fn size(bytes: i64) -> String {
    match bytes {
        few if few < 10 << 20 => format!("{} kB", few >> 10),
        some if some < 10 << 30 => format!("{} MB", some >> 20),
        many => format!("{} GB", many >> 30),
    }
}

fn rfc3339<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&terminal::time(*time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!([0, 20 << 20, 11 << 30].map(size), ["0 kB", "20 MB", "11 GB"]);
    }
}
