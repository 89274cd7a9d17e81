//! `withdraw`: wishes that no relay has carried out yet are taken back. One that has come to a wish first keeps what it did.

use sqlx::{FromRow, PgConnection};

use super::{
    choice::all_well,
    error::{Error, doing},
    terminal::say,
};
use crate::{cli::Withdraw, config::Source, shards::Shards};

/// Takes the wishes back, and says which.
///
/// # Errors
/// The databases that did not answer.
pub async fn withdraw(flags: &Withdraw) -> Result<(), Error> {
    let ask = async |source: &Source, connection: &mut PgConnection| {
        let name = &source.name;
        let cursors = match flags.key {
            None => of_cursors(connection, flags.shards.unwrap_or(Shards::ALL)).await?,
            Some(_) => Vec::new(),
        };
        for Moving { wish, shards } in &cursors {
            say(format!("{name}: withdrew a wish of shards {shards}: {wish}"));
        }
        let rows = match flags.shards {
            None => of_rows(connection, flags.key.as_deref()).await?,
            Some(_) => Vec::new(),
        };
        for Parked { wish, seq, key } in &rows {
            say(format!("{name}: withdrew the {wish} of row {seq} of key {key:?}"));
        }
        if cursors.is_empty() && rows.is_empty() {
            say(format!("{name}: no such wish waits"));
        }
        Ok(())
    };
    let (_, errors) = flags.databases.each(ask).await?;
    all_well(errors)
}

/// A wish that moves cursors.
#[derive(Debug, FromRow)]
struct Moving {
    wish: String,
    #[sqlx(try_from = "i64")]
    shards: Shards,
}

async fn of_cursors(connection: &mut PgConnection, shards: Shards) -> Result<Vec<Moving>, Error> {
    sqlx::query_as(
        "with wished as (
             select shard, wish::text as wish
             from messaging.outbox_cursor
             where ($1::bigint >> shard) & 1 = 1
               and wish is not null
             for update
         ), withdrawn as (
             update messaging.outbox_cursor cursor
             set wish = null
             from wished
             where wished.shard = cursor.shard
             returning wished.shard, wished.wish
         )
         select wish, bit_or(1::bigint << shard) as shards
         from withdrawn
         group by wish
         order by min(shard)",
    )
    .bind(shards.mask())
    .fetch_all(connection)
    .await
    .map_err(doing("withdrawing wishes for the cursor"))
}

/// A wish for a parked row.
#[derive(Debug, FromRow)]
struct Parked {
    wish: String,
    seq: i64,
    key: String,
}

async fn of_rows(connection: &mut PgConnection, key: Option<&str>) -> Result<Vec<Parked>, Error> {
    sqlx::query_as(
        "with wished as (
             select seq, wish
             from messaging.outbox_parked
             where wish is not null
               and ($1::text is null or key = $1)
             for update
         ), withdrawn as (
             update messaging.outbox_parked parked
             set wish = null
             from wished
             where wished.seq = parked.seq
             returning wished.wish, parked.seq, parked.key
         )
         select wish, seq, key
         from withdrawn
         order by seq",
    )
    .bind(key)
    .fetch_all(connection)
    .await
    .map_err(doing("withdrawing wishes for parked rows"))
}
