//! What people wish of a cursor: to send again from an earlier row, or to begin at either end of the outbox. The verbs
//! write the wish; the shard's owner carries it out while nothing is on its way.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};

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
    let wishes = sqlx::query_scalar::<_, Json<Wish>>(
        "select distinct wish
         from messaging.outbox_cursor
         where owner = $1
           and wish is not null",
    )
    .bind(grant.owner())
    .fetch_all(&mut *connection)
    .await
    .map_err(postgres("reading the wishes"))?;
    for Json(wish) in wishes {
        let moved = carry(connection, grant, &wish).await?;
        tracing::warn!(source, ?wish, shards = moved, "moved the cursor, as wished");
    }
    Ok(())
}

/// In the snapshot `3:3:` no transaction is visible: every row that is there counts as fresh.
async fn carry(connection: &mut PgConnection, grant: &Grant, wish: &Wish) -> Result<u64, Error> {
    // A replay goes up to what is acknowledged, or on to the end of the window that is open: rows between its beginning
    // and the place where it was interrupted are sent once more too.
    let statement = match wish {
        Wish::Replay { .. } => {
            "update messaging.outbox_cursor
             set acked = '3:3:',
                 target = coalesce(target, acked),
                 sent_seq = least($3 - 1, coalesce(sent_seq, $3 - 1)),
                 wish = null,
                 moves = moves + 1
             where owner = $1
               and wish = $2"
        }
        Wish::ToEarliest => {
            "update messaging.outbox_cursor
             set acked = '3:3:',
                 target = null,
                 sent_seq = null,
                 wish = null,
                 moves = moves + 1
             where owner = $1
               and wish = $2
               and $3::bigint is null"
        }
        Wish::ToLatest => {
            "update messaging.outbox_cursor
             set acked = pg_current_snapshot(),
                 target = null,
                 sent_seq = null,
                 wish = null,
                 moves = moves + 1
             where owner = $1
               and wish = $2
               and $3::bigint is null"
        }
    };
    let from_seq = match wish {
        Wish::Replay { from_seq } => Some(*from_seq),
        Wish::ToEarliest | Wish::ToLatest => None,
    };
    let moved = sqlx::query(statement)
        .bind(grant.owner())
        .bind(Json(wish))
        .bind(from_seq)
        .execute(connection)
        .await
        .map_err(postgres("moving the cursor as wished"))?;
    Ok(moved.rows_affected())
}
