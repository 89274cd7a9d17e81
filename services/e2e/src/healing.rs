//! After the faults: everything runs again, nothing is parked, and the shop gets time to settle, until nothing moves any more.

use std::time::Duration;

use local::{Part, SERVICES};
use proto::operations::v1::{GetLagRequest, GetLagResponse};
use sqlx::{Connection as _, PgConnection};

use crate::{
    arena::{Arena, until},
    injector, offsets, redrive,
};

/// Every unsettled thing is counted by one of these.
const UNSETTLED: [(Part, &str); 3] = [
    (
        Part::Orders,
        "select count(*) from orders where state = 'pending' or (state = 'confirmed' and cancel = 'requested')",
    ),
    (Part::Orchestrator, "select count(*) from sagas where not finished and state <> 'FULFILLING'"),
    (Part::Products, "select count(*) from messaging.inbox_parked"),
];

/// Heals every fault, and waits until the shop has settled. Errors: what still moved when patience ended; what it is exactly
/// is for the checker to say.
pub async fn settle(arena: &Arena, patience: Duration) -> anyhow::Result<()> {
    injector::heal(arena).await?;
    redrive::clear(arena).await?;
    until("the shop has settled", patience, async || settled(arena).await).await
}

/// Nothing is on its way and nothing waits, seen twice: between two looks a message may hide from both.
async fn settled(arena: &Arena) -> anyhow::Result<()> {
    let before = standing(arena).await?;
    let after = standing(arena).await?;
    anyhow::ensure!(before == after, "something moves");
    Ok(())
}

async fn standing(arena: &Arena) -> anyhow::Result<Vec<String>> {
    let mut standing = Vec::new();
    for part in SERVICES {
        let answer = arena.operations(part)?.get_lag(GetLagRequest {}).await?.into_inner();
        let GetLagResponse { outbox_rows, parked, .. } = answer;
        anyhow::ensure!(outbox_rows == 0, "{} has {outbox_rows} rows to send", part.name());
        anyhow::ensure!(parked == 0, "{} has {parked} messages parked", part.name());
        let behind = offsets::behind(arena, part).await?;
        anyhow::ensure!(behind == 0, "{} has {behind} messages to handle", part.name());
        let mut conn = PgConnection::connect(&arena.stack.database_url(part)).await?;
        let handled: i64 =
            sqlx::query_scalar("select coalesce(sum(deliveries), 0)::bigint from messaging.trail")
                .fetch_one(&mut conn)
                .await?;
        standing.push(format!("{}: {handled}", part.name()));
    }
    for (part, statement) in UNSETTLED {
        let mut conn = PgConnection::connect(&arena.stack.database_url(part)).await?;
        let count: i64 = sqlx::query_scalar(statement).fetch_one(&mut conn).await?;
        anyhow::ensure!(count == 0, "{} has {count} that have not settled", part.name());
    }
    Ok(standing)
}
