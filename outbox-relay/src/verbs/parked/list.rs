//! `parked list`: the keys that are held, with the row that holds each.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};

use crate::{
    cli::ParkedList,
    verbs::{
        choice::all_well,
        error::{Error, doing},
        terminal::{self, Table, count, say},
    },
};

/// A parked key and its first row.
#[derive(Debug, FromRow)]
struct Head {
    key: String,
    seq: i64,
    topic: String,
    reason: String,
    wish: Option<String>,
    parked_at: DateTime<Utc>,
    behind: i64,
    /// This key and those after it.
    remaining: i64,
}

#[derive(Debug, Serialize)]
struct Page {
    source: String,
    keys: Vec<Held>,
    /// How many keys come after these.
    more: i64,
    /// What the next page is asked for with.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Held {
    key: String,
    first_seq: i64,
    topic: String,
    reason: String,
    /// How many later rows of the key are parked.
    behind: i64,
    since: String,
    wish: Option<String>,
}

/// Shows a page of each database.
///
/// # Errors
/// The databases that did not answer, after the others were shown.
pub async fn show(flags: &ParkedList) -> Result<(), Error> {
    let ask = async |source: &crate::config::Source, connection: &mut PgConnection| {
        Ok(Page::of(source.name.clone(), read(connection, flags).await?))
    };
    let (pages, errors) = flags.databases.each(ask).await?;
    if flags.json {
        terminal::say_json(&pages);
    } else {
        pages.iter().for_each(Page::show);
    }
    all_well(errors)
}

async fn read(connection: &mut PgConnection, flags: &ParkedList) -> Result<Vec<Head>, Error> {
    sqlx::query_as(
        "select key, seq, topic, reason, wish, parked_at, behind, count(*) over () as remaining
         from (
             select distinct on (key) key, seq, topic, reason, wish, parked_at,
                    count(*) over (partition by key) - 1 as behind
             from messaging.outbox_parked
             where $1::text is null or key = $1
             order by key, seq
         ) head
         where ($2::text is null or topic = $2)
           and ($3::text is null or reason = $3)
           and seq > $4
         order by seq
         limit $5",
    )
    .bind(&flags.key)
    .bind(&flags.topic)
    .bind(&flags.reason)
    .bind(flags.after)
    .bind(flags.limit)
    .fetch_all(connection)
    .await
    .map_err(doing("reading the parked keys"))
}

impl Page {
    fn of(source: String, heads: Vec<Head>) -> Self {
        let shown = i64::try_from(heads.len()).unwrap_or(i64::MAX);
        let more = heads.first().map_or(0, |head| head.remaining - shown);
        let next_after = heads.last().filter(|_| more > 0).map(|last| last.seq);
        let held = |head: Head| Held {
            key: head.key,
            first_seq: head.seq,
            topic: head.topic,
            reason: head.reason,
            behind: head.behind,
            since: terminal::time(head.parked_at),
            wish: head.wish,
        };
        Self { source, keys: heads.into_iter().map(held).collect(), more, next_after }
    }

    fn show(&self) {
        if self.keys.is_empty() {
            return say(format!("{}: no such key is parked", self.source));
        }
        say(format!("{}:", self.source));
        let titles = ["key", "first seq", "topic", "reason", "behind", "since", "wish"];
        let mut table = Table::new(titles);
        for held in &self.keys {
            table.row([
                held.key.clone(),
                held.first_seq.to_string(),
                held.topic.clone(),
                held.reason.clone(),
                held.behind.to_string(),
                held.since.clone(),
                held.wish.clone().unwrap_or_default(),
            ]);
        }
        say(table.show("  "));
        if let Some(after) = self.next_after {
            say(format!("  {} more: --after {after}", count(self.more, "key")));
        }
    }
}
