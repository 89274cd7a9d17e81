//! What people wish of a cursor: to send again from an earlier row, or to begin at either end of the outbox. The verbs
//! write the wish; the shard's owner carries it out while nothing is on its way. One that it cannot read, written by hand
//! or for a newer relay, is taken out and reported: it must not keep the shard from being shipped.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::{Error, error::postgres, lease::Grant};

/// A wish, as it stands in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Wish {
    /// Send again every row that is still there from this sequence number on.
    Replay {
        /// The first row to send again.
        from_seq: i64,
    },
    /// Send everything that is still there, as if nothing had been sent.
    ToEarliest,
    /// Send nothing of what is there, and begin with what is committed from now on.
    ToLatest,
}

/// Carries out the wishes for the shards of a lease.
///
/// # Errors
/// Postgres'.
pub async fn carry_out(
    connection: &mut PgConnection,
    grant: &Grant,
    source: &str,
) -> Result<(), Error> {
    // As text: what is cleared has to be the very wish that was read.
    let wishes = sqlx::query_scalar::<_, String>(
        "select distinct wish::text
         from messaging.outbox_cursor
         where owner = $1
           and wish is not null",
    )
    .bind(grant.owner())
    .fetch_all(&mut *connection)
    .await
    .map_err(postgres("reading the wishes"))?;
    for wish in wishes {
        match serde_json::from_str(&wish) {
            Ok(read) => {
                let shards = carry(connection, grant, &wish, &read).await?;
                // None, if it was withdrawn meanwhile.
                if shards > 0 {
                    tracing::warn!(source, wish, shards, "moved the cursor, as wished");
                }
            }
            Err(error) => {
                let shards = clear(connection, grant, &wish).await?;
                tracing::error!(source, wish, shards, error = %error, "a wish says nothing to this relay; cleared it");
            }
        }
    }
    Ok(())
}

/// Takes a wish out of the table, with nothing done about it.
async fn clear(connection: &mut PgConnection, grant: &Grant, text: &str) -> Result<u64, Error> {
    let cleared = sqlx::query(
        "update messaging.outbox_cursor
         set wish = null
         where owner = $1
           and wish = $2::jsonb",
    )
    .bind(grant.owner())
    .bind(text)
    .execute(connection)
    .await
    .map_err(postgres("clearing a wish"))?;
    Ok(cleared.rows_affected())
}

/// In the snapshot `3:3:` no transaction is visible: every row that is there counts as fresh.
async fn carry(
    connection: &mut PgConnection,
    grant: &Grant,
    text: &str,
    wish: &Wish,
) -> Result<u64, Error> {
    // A replay goes up to what is acknowledged, or on to the end of the window that is open: rows between its beginning
    // and the place where it was interrupted are sent once more too.
    let statement = match wish {
        Wish::Replay { .. } => {
            "update messaging.outbox_cursor
             set acked = '3:3:',
                 target = coalesce(target, acked),
                 sent_seq = least($3, coalesce(sent_seq, $3)),
                 wish = null,
                 moves = moves + 1
             where owner = $1
               and wish = $2::jsonb"
        }
        Wish::ToEarliest => {
            "update messaging.outbox_cursor
             set acked = '3:3:',
                 target = null,
                 sent_seq = null,
                 wish = null,
                 moves = moves + 1
             where owner = $1
               and wish = $2::jsonb
               and $3::bigint is null"
        }
        // What is kept but not passed is among what is there.
        Wish::ToLatest => {
            "with unpassed as (
                 delete from messaging.outbox_parked parked
                 using messaging.outbox_cursor cursor
                 where cursor.shard = parked.shard
                   and cursor.owner = $1
                   and cursor.wish = $2::jsonb
                   and parked.held
             )
             update messaging.outbox_cursor
             set acked = pg_current_snapshot(),
                 target = null,
                 sent_seq = null,
                 wish = null,
                 moves = moves + 1
             where owner = $1
               and wish = $2::jsonb
               and $3::bigint is null"
        }
    };
    let before = match wish {
        Wish::Replay { from_seq } => Some(from_seq.saturating_sub(1)),
        Wish::ToEarliest | Wish::ToLatest => None,
    };
    let moved = sqlx::query(statement)
        .bind(grant.owner())
        .bind(text)
        .bind(before)
        .execute(connection)
        .await
        .map_err(postgres("moving the cursor as wished"))?;
    Ok(moved.rows_affected())
}
