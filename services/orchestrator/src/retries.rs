//! Sends again what was not answered in time. A time-out never decides anything: a participant that is down for an hour
//! costs an hour. Only what undoes is given up, and left to a person.

use std::time::Duration;

use chassis::{
    cause::{Cause, Coordination},
    clock,
    doorbell::Doorbell,
    outbox,
    policy::{Book as _, Refused, SaveError},
    spans,
    trail::{self, Entry, Kind, Outcome},
};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{NAME, book::Book, patience::Patience, store};

const EVERY: Duration = Duration::from_millis(500);
const AT_ONCE: i64 = 200;
const TIMER: &str = "StepTimeout";

/// Why nothing was sent again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("find the sagas that wait for an answer")]
    Database(#[from] sqlx::Error),
    /// A locked row was not written.
    #[error("save what was sent again")]
    Save(#[from] SaveError),
    /// That a saga is parked could not be kept.
    #[error("park saga {0}")]
    Park(Uuid, #[source] Refused),
}

/// Repeats [`step`] until told to stop; at once while there is more to do.
pub async fn run(
    pool: PgPool,
    doorbell: Doorbell,
    patience: Patience,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let sent = async { step(&mut *pool.acquire().await?, &patience).await }.await;
        let wait = match sent {
            Ok(0) => EVERY,
            Ok(sagas) => {
                tracing::info!(sagas, "sent again what was not answered in time");
                doorbell.ring();
                if sagas < AT_ONCE as usize { EVERY } else { Duration::ZERO }
            }
            Err(error) => {
                let source = std::error::Error::source(&error);
                tracing::warn!(%error, ?source, "what is not answered will be looked for again");
                EVERY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// Sends again what some hundred sagas wait for, of those that nobody else has locked; returns how many sagas it moved.
pub async fn step(conn: &mut PgConnection, patience: &Patience) -> Result<usize, Error> {
    let mut tx = conn.begin().await?;
    let due = store::lock_due(&mut tx, AT_ONCE).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let mut book = Book::load(&mut tx, &due.iter().copied().collect()).await?;
    let (mut events, mut entries) = (Vec::new(), Vec::new());
    for saga_id in &due {
        let trace = spans::timer(TIMER, *saga_id);
        let cause = Cause::local(NAME, TIMER, Uuid::now_v7(), trace, clock::now())
            .of_order(*saga_id, Coordination::Orchestration);
        let sent = match overdue(&mut book, *saga_id, &cause, patience) {
            Ok(sent) => sent,
            Err(refused) => park(&mut book, *saga_id, &refused.to_string(), &cause, patience)
                .map_err(|refused| Error::Park(*saga_id, refused))?,
        };
        entries.push(Entry::local(Kind::Timer, &cause, Outcome::Applied, &sent));
        events.extend(sent);
    }
    book.save(&mut tx).await?;
    outbox::append(&mut tx, &events).await?;
    trail::note(&mut tx, &entries).await?;
    tx.commit().await?;
    Ok(due.len())
}

fn overdue(
    book: &mut Book,
    saga_id: Uuid,
    cause: &Cause,
    patience: &Patience,
) -> Result<Vec<outbox::Outgoing>, Refused> {
    let Some(row) = book.find(saga_id) else { return Ok(Vec::new()) };
    match row.definition.gives_up(&row.saga, row.attempts(), patience.attempts) {
        Some(why) => park(book, saga_id, &why, cause, patience),
        None => book.resend(saga_id, cause, patience),
    }
}

fn park(
    book: &mut Book,
    saga_id: Uuid,
    why: &str,
    cause: &Cause,
    patience: &Patience,
) -> Result<Vec<outbox::Outgoing>, Refused> {
    let Some(row) = book.find(saga_id) else { return Ok(Vec::new()) };
    tracing::error!(%saga_id, why, "a saga is parked");
    let change = row.definition.park(&row.saga, why);
    book.take(saga_id, change, cause, None, patience)
}
