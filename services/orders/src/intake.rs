//! Accepts orders: those that wait are placed together in one commit, since a commit costs the same for one order as for
//! a hundred. A lone order is not delayed, and one caller's failure or departure is not another's.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chassis::{
    doorbell::Doorbell,
    idempotency::{self, Claim, Claimed},
    outbox, spans, status,
    trail::{self, Entry, Kind, Outcome},
};
use sqlx::{Acquire as _, PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    catalogue::{self, Product},
    error::Error,
    order::Order,
    placement::Placement,
    store, wire,
};

/// A group that takes longer has a connection that leads nowhere.
const LONGEST_COMMIT: Duration = Duration::from_secs(5);

/// Orders that share one commit at most.
const LARGEST_GROUP: usize = 256;

/// What an accepted placement led to.
pub type Placed = Result<Order, Error>;

struct Waiting {
    placement: Placement,
    answer: oneshot::Sender<Placed>,
}

/// Where calls leave their placements.
#[derive(Clone, Debug)]
pub struct Intake(mpsc::Sender<Waiting>);

/// Places what is left at the [`Intake`].
#[derive(Debug)]
pub struct Clerk {
    waiting: mpsc::Receiver<Waiting>,
    pool: PgPool,
    doorbell: Doorbell,
}

/// An intake and the clerk behind it.
pub fn open(pool: PgPool, doorbell: Doorbell) -> (Intake, Clerk) {
    let (sender, waiting) = mpsc::channel(4 * LARGEST_GROUP);
    (Intake(sender), Clerk { waiting, pool, doorbell })
}

impl Intake {
    /// Places an order, and answers when it is committed. Cancelling leaves it open whether it is.
    pub async fn place(&self, placement: Placement) -> Placed {
        let (answer, placed) = oneshot::channel();
        self.0.send(Waiting { placement, answer }).await.map_err(|_| Error::Stopping)?;
        placed.await.map_err(|_| Error::Stopping)?
    }
}

impl Clerk {
    /// Repeats [`Clerk::step`] until nobody can come any more: on shutdown the last calls are still served.
    pub async fn run(mut self) -> anyhow::Result<()> {
        while !self.waiting.is_closed() || !self.waiting.is_empty() {
            self.step().await;
        }
        Ok(())
    }

    /// Places the orders that wait, together; waits for one if there is none. Returns without doing anything when nobody
    /// can come any more.
    pub async fn step(&mut self) {
        let mut waiting = Vec::new();
        self.waiting.recv_many(&mut waiting, LARGEST_GROUP).await;
        while !waiting.is_empty() {
            // What repeats a request of this group comes after it, since that one may yet be refused.
            let mut claimed = HashSet::new();
            let first = |waiting: &Waiting| {
                let claim = waiting.placement.claim.as_ref();
                claim.is_none_or(|it| claimed.insert((it.caller.clone(), it.request_id.clone())))
            };
            let (group, repeats) = waiting.into_iter().partition(first);
            self.serve(group).await;
            waiting = repeats;
        }
    }

    async fn serve(&self, group: Vec<Waiting>) {
        let (placements, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|waiting| (waiting.placement, waiting.answer)).unzip();
        let placed = self.place_together(&placements).await;
        for (answer, placed) in answers.into_iter().zip(placed) {
            // Whoever has gone does not need to know.
            let _ = answer.send(placed);
        }
    }

    async fn place_together(&self, placements: &[Placement]) -> Vec<Placed> {
        if placements.is_empty() {
            return Vec::new();
        }
        match self.transact(placements).await {
            Ok(placed) => placed,
            // One by one they would wait for it in vain, each as long as this one; or be placed already.
            Err(Error::Database(error)) if is_away(&error) => {
                let error = Arc::new(error);
                placements.iter().map(|_| Err(Error::Away(Arc::clone(&error)))).collect()
            }
            Err(_) if placements.len() > 1 => self.place_one_by_one(placements).await,
            Err(error) => vec![Err(error)],
        }
    }

    async fn place_one_by_one(&self, placements: &[Placement]) -> Vec<Placed> {
        let mut placed = Vec::new();
        for placement in placements {
            let one = self.transact(std::slice::from_ref(placement)).await;
            placed.push(one.and_then(|mut one| one.pop().unwrap_or(Err(Error::Stopping))));
        }
        placed
    }

    async fn transact(&self, placements: &[Placement]) -> Result<Vec<Placed>, Error> {
        let calls = placements.iter().map(|placement| &placement.cause.trace);
        let mut span = spans::transaction("orders", calls);
        let placed = tokio::time::timeout(LONGEST_COMMIT, self.commit(placements))
            .await
            .unwrap_or(Err(Error::Database(sqlx::Error::PoolTimedOut)));
        if let Err(error) = &placed {
            span.failed(error);
        }
        placed
    }

    async fn commit(&self, placements: &[Placement]) -> Result<Vec<Placed>, Error> {
        let mut conn = self.pool.acquire().await?;
        let mut tx = conn.begin().await?;
        let placed = place(&mut tx, placements).await?;
        tx.commit().await?;
        self.doorbell.ring();
        Ok(placed)
    }
}

/// Whether the database is away, and did not just choose this transaction as a victim.
fn is_away(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    status::is_passing(error) && !code.is_some_and(|code| code.starts_with("40"))
}

/// Places a group in the caller's transaction: request_ids first, then orders, transitions, events and trail, each in one
/// statement.
pub async fn place(
    conn: &mut PgConnection,
    placements: &[Placement],
) -> Result<Vec<Placed>, Error> {
    let claimed = claim(conn, placements).await?;
    let known = known_products(conn, placements).await?;
    let mut placed = Vec::with_capacity(placements.len());
    for (placement, claimed) in placements.iter().zip(claimed) {
        placed.push(match claimed {
            Claimed::Fresh => {
                placement.price(placement.answered.as_deref().unwrap_or(&known)).map(Outcomes::New)
            }
            Claimed::Repeat(order_id) => Ok(Outcomes::Repeat(order_id)),
            Claimed::Reused => Err(Error::RequestIdReused),
        });
    }
    release_refused(conn, placements, &placed).await?;
    write(conn, placements, &placed).await?;
    answer(conn, placed).await
}

/// A placement that went well.
enum Outcomes {
    New(Order),
    Repeat(String),
}

async fn claim(conn: &mut PgConnection, placements: &[Placement]) -> Result<Vec<Claimed>, Error> {
    let claims: Vec<Claim> =
        placements.iter().filter_map(|placement| placement.claim.clone()).collect();
    if claims.is_empty() {
        return Ok(vec![Claimed::Fresh; placements.len()]);
    }
    let mut claimed = idempotency::claim_all(conn, &claims).await?.into_iter();
    let of = |placement: &Placement| {
        placement.claim.as_ref().and_then(|_| claimed.next()).unwrap_or(Claimed::Fresh)
    };
    Ok(placements.iter().map(of).collect())
}

async fn known_products(
    conn: &mut PgConnection,
    placements: &[Placement],
) -> Result<Vec<Product>, Error> {
    let unanswered = placements.iter().filter(|placement| placement.answered.is_none());
    let mut product_ids: Vec<&str> = unanswered
        .flat_map(|placement| placement.wanted.iter().map(|(product_id, _)| product_id.as_str()))
        .collect();
    product_ids.sort_unstable();
    product_ids.dedup();
    if product_ids.is_empty() {
        Ok(Vec::new())
    } else {
        Ok(catalogue::find(conn, &product_ids).await?)
    }
}

/// A request that was refused has not used its request_id.
async fn release_refused(
    conn: &mut PgConnection,
    placements: &[Placement],
    placed: &[Result<Outcomes, Error>],
) -> Result<(), Error> {
    let refused: Vec<&Claim> = placements
        .iter()
        .zip(placed)
        .filter(|(_, placed)| matches!(placed, Err(Error::Invalid(_) | Error::OutOfStock(_))))
        .filter_map(|(placement, _)| placement.claim.as_ref())
        .collect();
    Ok(idempotency::release(conn, &refused).await?)
}

async fn write(
    conn: &mut PgConnection,
    placements: &[Placement],
    placed: &[Result<Outcomes, Error>],
) -> Result<(), Error> {
    let (mut orders, mut transitions, mut events, mut entries) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (Placement { cause, .. }, placed) in placements.iter().zip(placed) {
        let Ok(Outcomes::New(order)) = placed else { continue };
        let event = cause
            .emit(&wire::order_placed(order))
            .map_err(|error| Error::Encode(Box::new(error)))?;
        transitions.push(order.placed(cause, event.event_id));
        entries.push(Entry::local(
            Kind::Call,
            cause,
            Outcome::Applied,
            std::slice::from_ref(&event),
        ));
        events.push(event);
        orders.push(order);
    }
    store::insert_orders(conn, &orders).await?;
    store::insert_transitions(conn, &transitions).await?;
    outbox::append(conn, &events).await?;
    trail::note(conn, &entries).await?;
    Ok(())
}

/// Reads what repeated requests made.
async fn answer(
    conn: &mut PgConnection,
    placed: Vec<Result<Outcomes, Error>>,
) -> Result<Vec<Placed>, Error> {
    let repeat = |placed: &Result<Outcomes, Error>| match placed {
        Ok(Outcomes::Repeat(order_id)) => Uuid::try_parse(order_id).ok(),
        _ => None,
    };
    let repeats: Vec<Uuid> = placed.iter().filter_map(repeat).collect();
    let found = if repeats.is_empty() { Vec::new() } else { store::orders(conn, &repeats).await? };
    let found: HashMap<String, Order> =
        found.into_iter().map(|order| (order.order_id.to_string(), order)).collect();
    let answer = |placed| match placed {
        Ok(Outcomes::New(order)) => Ok(order),
        Ok(Outcomes::Repeat(order_id)) => {
            found.get(&order_id).cloned().ok_or(Error::NotFound(order_id))
        }
        Err(error) => Err(error),
    };
    Ok(placed.into_iter().map(answer).collect())
}
