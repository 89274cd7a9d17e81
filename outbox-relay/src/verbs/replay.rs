//! `replay`: rows that were sent are sent again, as far as the ring still holds them.

use sqlx::{AssertSqlSafe, PgConnection, types::Json};

use super::{
    error::{Error, doing, refuse},
    terminal::{self, count, say, tell},
    waiting,
};
use crate::{
    cli::{From, Patience, Replay},
    config::Source,
    shards::Shards,
    wish::Wish,
};

/// Counting what would be sent again stops here.
const COUNTED: i64 = 1_000_000;

/// Says what would be sent again, asks, writes the wish, and waits.
///
/// # Errors
/// A beginning behind all that is there, or Postgres'.
pub async fn wish(flags: &Replay) -> Result<(), Error> {
    let (source, mut connection) = flags.databases.the_one().await?;
    let from_seq = beginning(&mut connection, source, flags.from).await?;
    let rows = sent_since(&mut connection, source, from_seq, flags.shards).await?;
    tell(format!(
        "{}: sends {rows} again, from {from_seq} on, of shards {}; consumers see them behind what they have",
        source.name, flags.shards
    ));
    tell_of_others(&mut connection, flags.shards).await?;
    terminal::agree(flags.consent.yes).await?;
    let wish = Wish::Replay { from_seq };
    carry_out(&mut connection, source, &wish, flags.shards, &flags.patience).await
}

/// The first row of a replay, if there is one that late.
async fn beginning(
    connection: &mut PgConnection,
    source: &Source,
    from: From,
) -> Result<i64, Error> {
    let (oldest, newest): (Option<i64>, Option<i64>) =
        sqlx::query_as(AssertSqlSafe(source.table.ends()))
            .fetch_one(&mut *connection)
            .await
            .map_err(doing("looking into the ring"))?;
    let (Some(oldest), Some(newest)) = (oldest, newest) else {
        return refuse(format!(
            "{}: the ring is empty: there is nothing to send again",
            source.name
        ));
    };
    match from {
        From::Seq(seq) if seq > newest => refuse(format!(
            "{}: the newest row is {newest}: there is nothing from {seq} on",
            source.name
        )),
        From::Seq(seq) if seq < oldest => {
            tell(format!(
                "{}: the oldest row is {oldest}: what came before it is gone",
                source.name
            ));
            Ok(oldest)
        }
        From::Seq(seq) => Ok(seq),
        From::Time(time) => {
            let first = sqlx::query_scalar(AssertSqlSafe(source.table.first_since()))
                .bind(time)
                .fetch_optional(connection)
                .await
                .map_err(doing("looking for the first row"))?;
            first.map_or_else(
                || {
                    refuse(format!(
                        "{}: no row was written at {} or later",
                        source.name,
                        terminal::time(time)
                    ))
                },
                Ok,
            )
        }
    }
}

/// How many rows would be sent again, in words.
pub(crate) async fn sent_since(
    connection: &mut PgConnection,
    source: &Source,
    from_seq: i64,
    shards: Shards,
) -> Result<String, Error> {
    let rows = sqlx::query_scalar(AssertSqlSafe(source.table.sent_since()))
        .bind(from_seq)
        .bind(shards.mask())
        .bind(COUNTED)
        .fetch_one(connection)
        .await
        .map_err(doing("counting what would be sent again"))?;
    Ok(if rows < COUNTED { count(rows, "row") } else { format!("{COUNTED} rows or more") })
}

/// Says which wishes would be replaced.
pub(crate) async fn tell_of_others(
    connection: &mut PgConnection,
    shards: Shards,
) -> Result<(), Error> {
    let others: Vec<(Json<serde_json::Value>, i64)> = sqlx::query_as(
        "select wish, bit_or(1::bigint << shard)
         from messaging.outbox_cursor
         where ($1::bigint >> shard) & 1 = 1
           and wish is not null
         group by wish",
    )
    .bind(shards.mask())
    .fetch_all(connection)
    .await
    .map_err(doing("looking for other wishes"))?;
    for (Json(wish), mask) in others {
        tell(format!(
            "This replaces a wish of shards {} that waits: {wish}",
            Shards::from_mask(mask)
        ));
    }
    Ok(())
}

/// Writes a wish for the cursors of these shards, waits, and says what became of it.
pub(crate) async fn carry_out(
    connection: &mut PgConnection,
    source: &Source,
    wish: &Wish,
    shards: Shards,
    patience: &Patience,
) -> Result<(), Error> {
    let wished = Wished::write(connection, wish, shards).await?;
    let outcome = waiting::until(connection, patience.wait, async |connection| {
        Ok(wished.become_of(connection).await?.pending.is_empty())
    })
    .await?;
    let Fate { pending, moved } = wished.become_of(connection).await?;
    let name = &source.name;
    if !moved.is_empty() {
        say(format!("{name}: the cursor of shards {moved} was moved"));
    }
    let withdrawn = shards.without(pending).without(moved);
    if !withdrawn.is_empty() {
        say(format!("{name}: the wish for shards {withdrawn} was withdrawn or replaced"));
    }
    if let Some(excuse) = outcome.excuse().filter(|_| !pending.is_empty()) {
        say(format!(
            "{name}: the wish for shards {pending} waits; {excuse}, unless you `withdraw` it"
        ));
    }
    Ok(())
}

/// A wish that was written, and how often the cursors had been moved by hand before.
struct Wished<'a> {
    wish: &'a Wish,
    shards: Vec<i16>,
    moves: Vec<i64>,
}

/// What has become of a wish, by shards.
struct Fate {
    pending: Shards,
    moved: Shards,
}

impl<'a> Wished<'a> {
    async fn write(
        connection: &mut PgConnection,
        wish: &'a Wish,
        shards: Shards,
    ) -> Result<Self, Error> {
        let written: Vec<(i16, i64)> = sqlx::query_as(
            "update messaging.outbox_cursor
             set wish = $1
             where ($2::bigint >> shard) & 1 = 1
             returning shard, moves",
        )
        .bind(Json(wish))
        .bind(shards.mask())
        .fetch_all(connection)
        .await
        .map_err(doing("wishing for the cursor to be moved"))?;
        let (shards, moves) = written.into_iter().unzip();
        Ok(Self { wish, shards, moves })
    }

    async fn become_of(&self, connection: &mut PgConnection) -> Result<Fate, Error> {
        let (pending, moved): (i64, i64) = sqlx::query_as(
            "select coalesce(bit_or(1::bigint << shard) filter (where wish = $1), 0),
                    coalesce(bit_or(1::bigint << shard) filter (where wish is distinct from $1 and moves > before), 0)
             from messaging.outbox_cursor
             join unnest($2::smallint[], $3::bigint[]) wished (shard, before) using (shard)",
        )
        .bind(Json(self.wish))
        .bind(&self.shards)
        .bind(&self.moves)
        .fetch_one(connection)
        .await
        .map_err(doing("looking after the wish"))?;
        Ok(Fate { pending: Shards::from_mask(pending), moved: Shards::from_mask(moved) })
    }
}
