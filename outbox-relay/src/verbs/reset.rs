//! `reset-cursor`: to either end of the outbox.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    error::{Error, doing},
    replay,
    terminal::{self, count, tell},
};
use crate::{
    backlog::COUNTED,
    cli::{End, ResetCursor},
    config::Source,
    shards::Shards,
    wish::Wish,
};

/// Says what would be sent again or never, asks, writes the wish, and waits.
///
/// # Errors
/// Postgres'.
pub async fn wish(flags: &ResetCursor) -> Result<(), Error> {
    let (source, mut connection) = flags.databases.the_one().await?;
    let (name, shards) = (&source.name, flags.shards);
    let wish = match flags.to {
        End::Earliest => {
            let rows = replay::sent_since(&mut connection, source, i64::MIN, shards).await?;
            tell(format!("{name}: sends {rows} again: all that the ring holds of shards {shards}"));
            Wish::ToEarliest
        }
        End::Latest => {
            let rows = unsent(&mut connection, source, shards).await?;
            tell(format!(
                "{name}: {rows} of shards {shards} will never be sent, nor what is committed before the relay does this"
            ));
            Wish::ToLatest
        }
    };
    replay::tell_of_others(&mut connection, shards).await?;
    terminal::agree(flags.consent.yes).await?;
    replay::carry_out(&mut connection, source, &wish, shards, &flags.patience).await
}

async fn unsent(
    connection: &mut PgConnection,
    source: &Source,
    shards: Shards,
) -> Result<String, Error> {
    let rows: Vec<(i64, i16, i64, f64)> =
        sqlx::query_as(AssertSqlSafe(source.table.backlog_by_shard()))
            .bind(COUNTED)
            .fetch_all(connection)
            .await
            .map_err(doing("counting what is unsent"))?;
    let meant = |shard: i16| !Shards::of(shard).common(shards).is_empty();
    let total: i64 = rows.iter().map(|row| row.2).sum();
    let unsent = rows.iter().filter(|row| meant(row.1)).map(|row| row.2).sum();
    let number = count(unsent, "unsent row");
    Ok(if total < COUNTED { number } else { format!("{number} or more") })
}
