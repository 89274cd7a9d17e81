//! What a verdict leads to, under the order's lock: a fact is learned, an event is sent again, or a person is called. Each is counted.

use chassis::{
    cause::Cause,
    outbox,
    policy::Book as _,
    saga::{self, Remedy},
    spans,
    trail::{self, Entry, Kind, Outcome},
};
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    book::{Book, Wants},
    comparison::{Contradiction, Told, Verdict},
    domain::Message,
    error::Error,
    order::Order,
    repetition, store,
};

/// Begins to count, with zeros: an alarm is to see the first one.
pub fn counts() {
    let learned = [
        Message::StockReserved,
        Message::ProductOutOfStock,
        Message::DeliveryStarted,
        Message::DeliveryCancelled,
        Message::DeliveryCancelRefused,
        Message::DeliveryCompleted,
        Message::DeliveryFailed,
    ];
    let sent_again =
        [Told::OrderPlaced, Told::OrderConfirmed, Told::OrderCancelRequested, Told::OrderCancelled];
    let contradictions = [
        Contradiction::PendingWithoutStock,
        Contradiction::PendingAndDelivered,
        Contradiction::NothingHeld,
        Contradiction::NothingDelivered,
        Contradiction::RefusedBeforeDispatch,
        Contradiction::OutOfStockAndHeld,
        Contradiction::ShippedAndCancelled,
        Contradiction::CompletedBeforeArrival,
    ];
    let verdicts = learned.map(Verdict::Learn).into_iter();
    let verdicts = verdicts.chain(sent_again.map(Verdict::SendAgain));
    let verdicts = verdicts.chain(contradictions.map(Verdict::Contradiction));
    saga::reconciles(verdicts.filter_map(counted));
}

/// Acts on a verdict, unless the order has moved since it was compared: then it was not this order that was judged. Whether
/// something was wrong.
pub async fn apply(
    conn: &mut PgConnection,
    order: &Order,
    verdict: Verdict,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let Some((remedy, what)) = counted(verdict) else { return Ok(false) };
    let mut tx = conn.begin().await?;
    let mut book = Book::load(&mut tx, &Wants::one(order.order_id)).await?;
    if book.order(order.order_id).is_none_or(|it| it.version != order.version) {
        return Ok(false);
    }
    let is_wrong = match verdict {
        Verdict::Agreed => false,
        Verdict::Learn(fact) => learn(&mut tx, &mut book, order, fact, now).await?,
        Verdict::SendAgain(told) => send_again(&mut tx, order, told).await?,
        Verdict::Contradiction(contradiction) => {
            tracing::error!(order_id = %order.order_id, fate = ?order.fate, %contradiction, "an order needs a person");
            true
        }
    };
    tx.commit().await?;
    book.committed();
    if is_wrong {
        saga::found_wrong(remedy, what);
    }
    Ok(is_wrong)
}

/// Decides a fact as if its event had come: rows of the others only move forward, so one that was asked for is as good as one
/// that was heard.
async fn learn(
    tx: &mut PgConnection,
    book: &mut Book,
    order: &Order,
    fact: Message,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let order_id = order.order_id;
    let trace = spans::timer("Reconciliation", order_id);
    let cause = Cause::local("orders", "Reconciliation", Uuid::now_v7(), trace, now)
        .of_order(order_id, order.coordination);
    let reaction =
        book.decide(order_id, fact, &cause).map_err(|error| Error::deciding(order_id, error))?;
    if reaction.outcome != Outcome::Applied {
        return Ok(false);
    }
    book.save(tx).await?;
    outbox::append(tx, &reaction.events).await?;
    let entry = Entry::local(Kind::Timer, &cause, reaction.outcome, &reaction.events);
    trail::note(tx, &[entry]).await?;
    tracing::info!(%order_id, ?fact, "learned what was never heard");
    Ok(true)
}

/// Tells the order's state again to whoever has not heard of it. Nothing changes, so the trail notes nothing.
async fn send_again(tx: &mut PgConnection, order: &Order, told: Told) -> Result<bool, Error> {
    let order_id = order.order_id;
    let transitions = store::transitions_after(tx, &[(order_id, 0)]).await?;
    let event = repetition::again(order, told, &transitions)
        .map_err(|error| Error::Encode(Box::new(error)))?;
    let Some(event) = event else {
        tracing::warn!(%order_id, event = ?told, "no transition says how this was told");
        return Ok(false);
    };
    outbox::append(tx, &[event]).await?;
    tracing::info!(%order_id, event = ?told, "sent again what somebody has not heard");
    Ok(true)
}

/// As which remedy a verdict counts, and of what.
fn counted(verdict: Verdict) -> Option<(Remedy, &'static str)> {
    match verdict {
        Verdict::Agreed => None,
        Verdict::Learn(fact) => Some((Remedy::Learned, fact_name(fact))),
        Verdict::SendAgain(told) => Some((Remedy::SentAgain, told_name(told))),
        Verdict::Contradiction(contradiction) => {
            Some((Remedy::Contradiction, contradiction_name(contradiction)))
        }
    }
}

fn fact_name(fact: Message) -> &'static str {
    match fact {
        Message::StockReserved => "StockReserved",
        Message::ProductOutOfStock => "ProductOutOfStock",
        Message::DeliveryStarted => "DeliveryStarted",
        Message::DeliveryCancelled => "DeliveryCancelled",
        Message::DeliveryCancelRefused => "DeliveryCancelRefused",
        Message::DeliveryCompleted => "DeliveryCompleted",
        Message::DeliveryFailed => "DeliveryFailed",
        // No fact of the others; no comparison comes to it.
        Message::CancelOrder | Message::DeadlinePassed | Message::Command(_) => "none",
    }
}

fn told_name(told: Told) -> &'static str {
    match told {
        Told::OrderPlaced => "OrderPlaced",
        Told::OrderConfirmed => "OrderConfirmed",
        Told::OrderCancelRequested => "OrderCancelRequested",
        Told::OrderCancelled => "OrderCancelled",
    }
}

fn contradiction_name(contradiction: Contradiction) -> &'static str {
    match contradiction {
        Contradiction::PendingWithoutStock => "pending_without_stock",
        Contradiction::PendingAndDelivered => "pending_and_delivered",
        Contradiction::NothingHeld => "nothing_held",
        Contradiction::NothingDelivered => "nothing_delivered",
        Contradiction::RefusedBeforeDispatch => "refused_before_dispatch",
        Contradiction::OutOfStockAndHeld => "out_of_stock_and_held",
        Contradiction::ShippedAndCancelled => "shipped_and_cancelled",
        Contradiction::CompletedBeforeArrival => "completed_before_arrival",
    }
}
