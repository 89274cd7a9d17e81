//! `parked skip`: the first row of a key is dropped for good, and those behind it go. What is dropped is printed before.

use sqlx::PgConnection;

use super::{Row, Which};
use crate::{
    cli::ParkedSkip,
    verbs::{
        error::{Error, doing, refuse},
        terminal::{self, count, tell},
        waiting,
    },
};

/// Says what would be lost, asks, prints the row, writes the wish, and waits.
///
/// # Errors
/// A row that is not the first parked of its key, a row that cannot be printed, or Postgres'; then nothing is dropped.
pub async fn wish(flags: &ParkedSkip) -> Result<(), Error> {
    let (source, mut connection) = flags.databases.the_one().await?;
    let key = flags.key.as_str();
    let Some(row) = Row::find(&mut connection, Which::FirstOf(key)).await? else {
        return refuse(format!("{}: key {key:?} is not parked: see `parked list`", source.name));
    };
    if let Some(seq) = flags.seq.filter(|seq| *seq != row.seq) {
        return refuse(format!(
            "the first parked row of key {key:?} is {}, not {seq}: nothing was changed",
            row.seq
        ));
    }
    tell(format!(
        "{}: drops row {} of key {key:?} for topic {} ({}), so that {} can go",
        source.name,
        row.seq,
        row.topic,
        row.reason,
        count(row.behind, "later row")
    ));
    if !row.payload_readable {
        tell(
            "This role may not read payloads: what is printed is not enough to write the event again.",
        );
    }
    terminal::agree(flags.consent.yes).await?;
    if let Err(error) = terminal::print(&row.json(&source.name).to_string()) {
        return refuse(format!("the row could not be printed ({error}): nothing was dropped"));
    }
    write(&mut connection, row.seq).await?;
    let seq = row.seq;
    let outcome = waiting::until(&mut connection, flags.patience.wait, async |connection| {
        Ok(fate(connection, seq).await? != Fate::Waits)
    })
    .await?;
    let name = &source.name;
    tell(match (fate(&mut connection, seq).await?, outcome.excuse()) {
        (Fate::Gone, _) => format!("{name}: dropped row {seq}"),
        (Fate::Stays, _) => format!("{name}: row {seq} stays: the wish was withdrawn"),
        (Fate::Waits, excuse) => format!(
            "{name}: row {seq} is marked; {}, unless you `withdraw` it",
            excuse.unwrap_or_default()
        ),
    });
    Ok(())
}

async fn write(connection: &mut PgConnection, seq: i64) -> Result<(), Error> {
    let wished = sqlx::query("update messaging.outbox_parked set wish = 'skip' where seq = $1")
        .bind(seq)
        .execute(connection)
        .await
        .map_err(doing("wishing for a row to be dropped"))?;
    if wished.rows_affected() == 0 {
        return refuse(format!(
            "row {seq} was sent or dropped in the meantime: nothing was changed"
        ));
    }
    Ok(())
}

/// What has become of a row that is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Gone,
    Waits,
    Stays,
}

async fn fate(connection: &mut PgConnection, seq: i64) -> Result<Fate, Error> {
    let waits = sqlx::query_scalar::<_, bool>(
        "select wish is not distinct from 'skip'
         from messaging.outbox_parked
         where seq = $1",
    )
    .bind(seq)
    .fetch_optional(connection)
    .await
    .map_err(doing("looking after the wish"))?;
    Ok(match waits {
        None => Fate::Gone,
        Some(true) => Fate::Waits,
        Some(false) => Fate::Stays,
    })
}
