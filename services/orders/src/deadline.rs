//! Cancels orders that were pending for too long. The only time-out that cancels.

use std::time::Duration;

use chassis::{
    cause::Cause,
    clock,
    doorbell::Doorbell,
    outbox,
    policy::Book as _,
    spans,
    trail::{self, Entry, Kind},
};
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    book::{Book, Wants},
    domain::Message,
    error::Error,
    store,
};

const EVERY: Duration = Duration::from_secs(1);
const AT_ONCE: i64 = 500;

/// Repeats [`step`] every second until told to stop.
pub async fn run(
    pool: PgPool,
    doorbell: Doorbell,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let swept = async { step(&mut *pool.acquire().await?, clock::now()).await }.await;
        match swept {
            Ok(0) => {}
            Ok(cancelled) => {
                tracing::info!(cancelled, "cancelled orders whose deadline had passed");
                doorbell.ring();
            }
            Err(error) => {
                tracing::warn!(%error, source = ?std::error::Error::source(&error), "deadlines will be tried again")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// Cancels the orders whose deadline has passed at `now`, up to some hundred; returns how many.
pub async fn step(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<usize, Error> {
    let overdue = store::overdue(conn, now, AT_ONCE).await?;
    if overdue.is_empty() {
        return Ok(0);
    }
    let mut tx = conn.begin().await?;
    let mut book = Book::load(&mut tx, &Wants::all(overdue.iter().copied())).await?;
    let (mut events, mut entries) = (Vec::new(), Vec::new());
    for order_id in overdue {
        let Some(order) = book.order(order_id) else { continue };
        let trace = spans::timer("OrderDeadline", order_id);
        let cause = Cause::local("orders", "OrderDeadline", Uuid::now_v7(), trace, now)
            .of_order(order_id, order.coordination);
        let reaction = book
            .decide(order_id, Message::DeadlinePassed, &cause)
            .map_err(|error| Error::deciding(order_id, error))?;
        entries.push(Entry::local(Kind::Timer, &cause, reaction.outcome, &reaction.events));
        events.extend(reaction.events);
    }
    book.save(&mut tx).await?;
    outbox::append(&mut tx, &events).await?;
    trail::note(&mut tx, &entries).await?;
    tx.commit().await?;
    book.committed();
    Ok(events.len())
}
