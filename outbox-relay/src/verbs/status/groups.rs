//! Shards that share their owner and their position, as one line: what the cursor says of them, and what waits.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, types::Json};

use crate::{
    backlog::COUNTED,
    config::Source,
    shards::Shards,
    verbs::error::{Error, doing},
};

/// Shards that share their owner and their position.
#[derive(Debug, Serialize)]
pub(crate) struct Group {
    #[serde(serialize_with = "ranges")]
    pub(crate) shards: Shards,
    /// The name of the relay that ships them.
    pub(crate) relay: Option<String>,
    pub(crate) owner: Option<String>,
    /// The highest, where they differ.
    pub(crate) epoch: i64,
    /// None when the owner is not alive.
    pub(crate) lease_seconds: Option<f64>,
    pub(crate) paused: bool,
    pub(crate) wish: Option<Value>,
    pub(crate) acked: String,
    /// The end of the window that is open, and the last row of it that is acknowledged.
    pub(crate) target: Option<String>,
    pub(crate) sent_seq: Option<i64>,
    pub(crate) unsent: i64,
    /// Whether there may be more unsent rows than were counted.
    pub(crate) unsent_or_more: bool,
    pub(crate) oldest_unsent_seconds: Option<f64>,
    pub(crate) parked_rows: i64,
    pub(crate) parked_keys: i64,
}

/// What the cursor says of one shard.
#[derive(Debug, FromRow)]
struct Standing {
    shard: i16,
    relay: Option<String>,
    owner: Option<String>,
    epoch: i64,
    lease_seconds: Option<f64>,
    paused: bool,
    wish: Option<Json<Value>>,
    acked: String,
    target: Option<String>,
    sent_seq: Option<i64>,
}

/// What waits of one shard.
#[derive(Debug, Default, Clone, Copy)]
struct Waiting {
    unsent: i64,
    capped: bool,
    oldest: Option<f64>,
    parked_rows: i64,
    parked_keys: i64,
}

/// Reads all shards, and brings them together unless each is wanted by itself.
pub(crate) async fn read(
    connection: &mut PgConnection,
    source: &Source,
    each_shard: bool,
) -> Result<Vec<Group>, Error> {
    let standings = standings(connection).await?;
    let waiting = waiting(connection, source).await?;
    Ok(groups(standings, &waiting, each_shard))
}

/// Brings together what shares owner, position and what people wish of it.
fn groups(
    standings: Vec<Standing>,
    waiting: &BTreeMap<i16, Waiting>,
    each_shard: bool,
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for standing in standings {
        let waiting = waiting.get(&standing.shard).copied().unwrap_or_default();
        let group = Group::of(standing, waiting);
        match groups.iter_mut().find(|other| !each_shard && other.is_like(&group)) {
            Some(other) => other.join(&group),
            None => groups.push(group),
        }
    }
    groups
}

impl Group {
    fn of(standing: Standing, waiting: Waiting) -> Self {
        Self {
            shards: Shards::of(standing.shard),
            relay: standing.relay,
            owner: standing.owner,
            epoch: standing.epoch,
            lease_seconds: standing.lease_seconds,
            paused: standing.paused,
            wish: standing.wish.map(|Json(wish)| wish),
            acked: standing.acked,
            target: standing.target,
            sent_seq: standing.sent_seq,
            unsent: waiting.unsent,
            unsent_or_more: waiting.capped,
            oldest_unsent_seconds: waiting.oldest,
            parked_rows: waiting.parked_rows,
            parked_keys: waiting.parked_keys,
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        let position = |group: &Self| (group.acked.clone(), group.target.clone(), group.sent_seq);
        self.owner == other.owner
            && position(self) == position(other)
            && (self.paused, &self.wish) == (other.paused, &other.wish)
    }

    fn join(&mut self, other: &Self) {
        self.shards = self.shards.and(other.shards);
        self.epoch = self.epoch.max(other.epoch);
        self.unsent += other.unsent;
        self.unsent_or_more |= other.unsent_or_more;
        let ages = self.oldest_unsent_seconds.into_iter().chain(other.oldest_unsent_seconds);
        self.oldest_unsent_seconds = ages.reduce(f64::max);
        self.parked_rows += other.parked_rows;
        self.parked_keys += other.parked_keys;
    }
}

impl Group {
    /// What goes on with them, in words.
    pub(crate) fn state(&self) -> String {
        let wish = self.wish.as_ref().and_then(|wish| wish["verb"].as_str());
        let words = [
            self.paused.then(|| "paused".to_owned()),
            wish.map(|verb| format!("{} waits", verb.replace('_', "-"))),
            self.relay.is_none().then(|| "nobody's".to_owned()),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        if words.is_empty() { "ships".to_owned() } else { words.join(", ") }
    }
}

async fn standings(connection: &mut PgConnection) -> Result<Vec<Standing>, Error> {
    sqlx::query_as(
        "select shard,
                relay.name as relay,
                cursor.owner,
                epoch,
                extract(epoch from lease_until - clock_timestamp())::float8 as lease_seconds,
                paused,
                wish,
                acked::text,
                target::text,
                sent_seq
         from messaging.outbox_standing cursor
         left join messaging.outbox_relay relay
                on relay.owner = cursor.owner
               and lease_until > clock_timestamp()
         order by shard",
    )
    .fetch_all(connection)
    .await
    .map_err(doing("reading the cursor"))
}

async fn waiting(
    connection: &mut PgConnection,
    source: &Source,
) -> Result<BTreeMap<i16, Waiting>, Error> {
    let unsent: Vec<(i64, i16, i64, f64)> =
        sqlx::query_as(AssertSqlSafe(source.table.backlog_by_shard()))
            .bind(COUNTED)
            .fetch_all(&mut *connection)
            .await
            .map_err(doing("counting what is unsent"))?;
    let parked: Vec<(i16, i64, i64)> = sqlx::query_as(
        "select shard, count(*), count(distinct key)
         from messaging.outbox_parked
         group by shard",
    )
    .fetch_all(connection)
    .await
    .map_err(doing("counting what is parked"))?;
    let mut positions: BTreeMap<i64, i64> = BTreeMap::new();
    for (position, _, rows, _) in &unsent {
        *positions.entry(*position).or_default() += rows;
    }
    let mut waiting: BTreeMap<i16, Waiting> = BTreeMap::new();
    for (position, shard, rows, age) in unsent {
        let of = waiting.entry(shard).or_default();
        (of.unsent, of.oldest) = (rows, Some(age));
        of.capped = positions[&position] >= COUNTED;
    }
    for (shard, rows, keys) in parked {
        let of = waiting.entry(shard).or_default();
        (of.parked_rows, of.parked_keys) = (rows, keys);
    }
    Ok(waiting)
}

pub(crate) fn ranges<S: Serializer>(shards: &Shards, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(shard: i16, acked: &str) -> Standing {
        Standing {
            shard,
            relay: Some("r".to_owned()),
            owner: Some("r-1".to_owned()),
            epoch: i64::from(shard),
            lease_seconds: Some(1.0),
            paused: false,
            wish: None,
            acked: acked.to_owned(),
            target: None,
            sent_seq: None,
        }
    }

    #[test]
    fn shards_at_the_same_position_are_one_line_and_their_numbers_add_up() {
        let waits = |unsent, oldest| Waiting { unsent, oldest: Some(oldest), ..Waiting::default() };
        let waiting = BTreeMap::from([(0, waits(2, 5.0)), (2, waits(3, 7.0))]);
        let all = || vec![standing(0, "5:5:"), standing(1, "6:6:"), standing(2, "5:5:")];
        let two = groups(all(), &waiting, false);
        let shown: Vec<_> = two
            .iter()
            .map(|group| {
                (group.shards.to_string(), group.unsent, group.oldest_unsent_seconds, group.epoch)
            })
            .collect();
        assert_eq!(shown, [("0,2".to_owned(), 5, Some(7.0), 2), ("1".to_owned(), 0, None, 1)]);
        assert_eq!(groups(all(), &waiting, true).len(), 3);
    }
}
