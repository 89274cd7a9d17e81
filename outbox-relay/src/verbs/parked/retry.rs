//! `parked retry`: the first row of keys is sent again now, and what is behind it follows.

use std::collections::BTreeMap;

use sqlx::{FromRow, PgConnection};

use crate::{
    cli::ParkedRetry,
    verbs::{
        error::{Error, doing, refuse},
        terminal::{count, say},
        waiting,
    },
};

/// How many keys are named; the rest is counted.
const NAMED: usize = 20;

/// Writes the wish, waits, and says what became of each key.
///
/// # Errors
/// A key or topic of which nothing is parked, or Postgres'.
pub async fn wish(flags: &ParkedRetry) -> Result<(), Error> {
    let (source, mut connection) = flags.databases.the_one().await?;
    let wished = write(&mut connection, flags).await?;
    if wished.is_empty() {
        return match (&flags.keys.key, &flags.keys.topic) {
            (Some(key), _) => refuse(format!("key {key:?} is not parked: see `parked list`")),
            (None, Some(topic)) => {
                refuse(format!("no key is parked because of topic {topic:?}: see `parked list`"))
            }
            (None, None) => {
                say(format!("{}: nothing is parked", source.name));
                Ok(())
            }
        };
    }
    let rows: Vec<i64> = wished.keys().copied().collect();
    let outcome = waiting::until(&mut connection, flags.patience.wait, async |connection| {
        Ok(left(connection, &rows).await?.iter().all(|row| !row.waits))
    })
    .await?;
    let left = left(&mut connection, &rows).await?;
    let (waiting, refused): (Vec<Left>, Vec<Left>) = left.into_iter().partition(|row| row.waits);
    for Left { seq, reason, .. } in refused.iter().take(NAMED) {
        let key = &wished[seq];
        say(format!("{}: key {key:?}: row {seq} was refused again: {reason}", source.name));
    }
    let (refused, waiting) = (refused.len(), waiting.len());
    let sent = i64::try_from(rows.len() - refused - waiting).unwrap_or(i64::MAX);
    say(format!(
        "{}: {} sent, {refused} refused again, {waiting} waiting",
        source.name,
        count(sent, "key")
    ));
    if let Some(excuse) = outcome.excuse() {
        say(format!("{}: {excuse}", source.name));
    }
    Ok(())
}

/// The rows that are to be tried, with their keys.
async fn write(
    connection: &mut PgConnection,
    flags: &ParkedRetry,
) -> Result<BTreeMap<i64, String>, Error> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "update messaging.outbox_parked parked
         set wish = 'retry'
         from (
             select distinct on (key) seq, topic
             from messaging.outbox_parked
             where $1::text is null or key = $1
             order by key, seq
         ) head
         where head.seq = parked.seq
           and ($2::text is null or head.topic = $2)
         returning parked.seq, parked.key",
    )
    .bind(&flags.keys.key)
    .bind(&flags.keys.topic)
    .fetch_all(connection)
    .await
    .map_err(doing("wishing for another try"))?;
    Ok(rows.into_iter().collect())
}

/// A row that is still parked.
#[derive(Debug, FromRow)]
struct Left {
    seq: i64,
    reason: String,
    /// For its try; otherwise it was refused again.
    waits: bool,
}

async fn left(connection: &mut PgConnection, rows: &[i64]) -> Result<Vec<Left>, Error> {
    sqlx::query_as(
        "select seq, reason, wish is not null as waits
         from messaging.outbox_parked
         where seq = any ($1)
         order by seq",
    )
    .bind(rows)
    .fetch_all(connection)
    .await
    .map_err(doing("looking after the wish"))
}
