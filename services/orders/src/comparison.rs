//! An order as decided, compared with what products and delivery have of it: pure, and every combination is decided. Their rows
//! only move forward, so what they say now is as good as an event that was heard.

use chassis::cause::Coordination;

use crate::domain::{Cancel, Fate, Message, Reason, State};

/// What became of an order at the stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// Its lines were taken.
    Reserved,
    /// They were taken, and have come back.
    Released,
    /// The stock did not do.
    Rejected,
    /// It was cancelled before it was heard of.
    Tombstone,
}

/// Where the delivery of an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Opened.
    Started,
    /// The goods may leave.
    Ready,
    /// The goods have left.
    Dispatched {
        /// A cancellation came afterwards, and was refused.
        cancel_refused: bool,
    },
    /// The goods have arrived.
    Completed,
    /// Called off.
    Cancelled,
    /// Could not be delivered.
    Failed,
}

/// The rows of the others; none where they have not heard of the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Of products.
    pub reservation: Option<Reservation>,
    /// Of delivery. A tombstone is none: it says no more than that.
    pub delivery: Option<Delivery>,
}

/// The event that tells of the state an order is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is pending.
    OrderPlaced,
    /// It is confirmed.
    OrderConfirmed,
    /// Its customer wants it called off.
    OrderCancelRequested,
    /// It is cancelled.
    OrderCancelled,
}

/// What cannot be, and no event puts right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Only a cancellation gives stock back, and nothing is reserved twice.
    #[error("pending, and products has given back, or does not know, what it reserved")]
    PendingWithoutStock,
    /// Only a confirmation lets goods leave, and only a cancellation calls them off.
    #[error("pending, and its delivery has gone on, was called off, or is not known any more")]
    PendingAndDelivered,
    /// Only a cancellation gives stock back.
    #[error("confirmed or completed, and products holds nothing for it")]
    NothingHeld,
    /// Its delivery had started, and nobody asked to call it off.
    #[error("confirmed, and its delivery is not known any more, or was called off")]
    NothingDelivered,
    /// Only goods that have left are a reason to refuse.
    #[error("the customer was refused since the goods had left, but they had not")]
    RefusedBeforeDispatch,
    /// products says so only where it takes nothing.
    #[error("cancelled as out of stock, and products holds stock for it")]
    OutOfStockAndHeld,
    /// Only delivery can cancel a confirmed order, and not once its goods have left.
    #[error("cancelled, and its goods have left")]
    ShippedAndCancelled,
    /// Only an arrival completes an order.
    #[error("completed, and its goods have not arrived")]
    CompletedBeforeArrival,
}

/// What is to be done about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: all is as it should be, or others see to it.
    Agreed,
    /// orders has not heard of this fact: it decides it now.
    Learn(Message),
    /// Somebody has not heard of the order's state: tell it again.
    SendAgain(Told),
    /// A person must look.
    Contradiction(Contradiction),
}

use Verdict::{Agreed, Learn, SendAgain};

/// Compares what was decided with the rows of the others, which were read after it.
pub fn compare(fate: Fate, coordination: Coordination, rows: Rows) -> Verdict {
    let verdict = match fate.state {
        State::Pending => pending(fate, rows),
        State::Confirmed => confirmed(fate.cancel, rows),
        State::Cancelled(reason) => cancelled(reason, rows),
        State::Completed => completed(rows),
    };
    match coordination {
        Coordination::Choreography => verdict,
        Coordination::Orchestration => beside_the_orchestrator(verdict, rows),
    }
}

/// One fact at a time: the next sweep sees what is still missing.
fn pending(fate: Fate, rows: Rows) -> Verdict {
    let stock = match (rows.reservation, fate.stock_reserved) {
        (None, false) => SendAgain(Told::OrderPlaced),
        (Some(Reservation::Reserved), true) => Agreed,
        (Some(Reservation::Reserved), false) => Learn(Message::StockReserved),
        (Some(Reservation::Rejected), false) => Learn(Message::ProductOutOfStock),
        (None | Some(Reservation::Rejected), true)
        | (Some(Reservation::Released | Reservation::Tombstone), _) => {
            return Verdict::Contradiction(Contradiction::PendingWithoutStock);
        }
    };
    let delivery = match (rows.delivery, fate.delivery_started) {
        (None, false) => SendAgain(Told::OrderPlaced),
        (Some(Delivery::Started), true) => Agreed,
        (Some(Delivery::Started), false) => Learn(Message::DeliveryStarted),
        (Some(Delivery::Failed), _) => Learn(Message::DeliveryFailed),
        (None, true)
        | (
            Some(
                Delivery::Ready
                | Delivery::Dispatched { .. }
                | Delivery::Completed
                | Delivery::Cancelled,
            ),
            _,
        ) => return Verdict::Contradiction(Contradiction::PendingAndDelivered),
    };
    match (stock, delivery) {
        (Learn(_), _) => stock,
        (_, Learn(_)) | (Agreed, _) => delivery,
        (SendAgain(_) | Verdict::Contradiction(_), _) => stock,
    }
}

fn confirmed(cancel: Cancel, rows: Rows) -> Verdict {
    if rows.reservation != Some(Reservation::Reserved) {
        return Verdict::Contradiction(Contradiction::NothingHeld);
    }
    let Some(delivery) = rows.delivery else {
        return Verdict::Contradiction(Contradiction::NothingDelivered);
    };
    match (cancel, delivery) {
        (_, Delivery::Completed) => Learn(Message::DeliveryCompleted),
        (Cancel::None, Delivery::Started) => SendAgain(Told::OrderConfirmed),
        (Cancel::None, Delivery::Ready | Delivery::Dispatched { .. })
        | (Cancel::Refused, Delivery::Dispatched { .. }) => Agreed,
        (Cancel::None | Cancel::Requested, Delivery::Failed) => Learn(Message::DeliveryFailed),
        (Cancel::None, Delivery::Cancelled) => {
            Verdict::Contradiction(Contradiction::NothingDelivered)
        }
        (
            Cancel::Requested,
            Delivery::Started | Delivery::Ready | Delivery::Dispatched { cancel_refused: false },
        ) => SendAgain(Told::OrderCancelRequested),
        (Cancel::Requested, Delivery::Dispatched { cancel_refused: true }) => {
            Learn(Message::DeliveryCancelRefused)
        }
        (Cancel::Requested, Delivery::Cancelled) => Learn(Message::DeliveryCancelled),
        (
            Cancel::Refused,
            Delivery::Started | Delivery::Ready | Delivery::Cancelled | Delivery::Failed,
        ) => Verdict::Contradiction(Contradiction::RefusedBeforeDispatch),
    }
}

/// Having heard of nothing is as good as having undone it: a late placement meets the cancellation behind it.
fn cancelled(reason: Reason, rows: Rows) -> Verdict {
    let is_held = rows.reservation == Some(Reservation::Reserved);
    match rows.delivery {
        Some(Delivery::Dispatched { .. } | Delivery::Completed) => {
            Verdict::Contradiction(Contradiction::ShippedAndCancelled)
        }
        // products would set such a cancellation aside for a person: it names a rejection that never was.
        _ if is_held && reason == Reason::OutOfStock => {
            Verdict::Contradiction(Contradiction::OutOfStockAndHeld)
        }
        Some(Delivery::Started | Delivery::Ready) => SendAgain(Told::OrderCancelled),
        None | Some(Delivery::Cancelled | Delivery::Failed) if is_held => {
            SendAgain(Told::OrderCancelled)
        }
        None | Some(Delivery::Cancelled | Delivery::Failed) => Agreed,
    }
}

fn completed(rows: Rows) -> Verdict {
    match (rows.reservation, rows.delivery) {
        (Some(Reservation::Reserved), Some(Delivery::Completed)) => Agreed,
        (Some(Reservation::Reserved), _) => {
            Verdict::Contradiction(Contradiction::CompletedBeforeArrival)
        }
        (
            None | Some(Reservation::Released | Reservation::Rejected | Reservation::Tombstone),
            _,
        ) => Verdict::Contradiction(Contradiction::NothingHeld),
    }
}

/// The orchestrator asks until it is answered, and orders decides only what it asks for. What it was never told it cannot ask
/// about: an order, a wish to cancel, an end.
fn beside_the_orchestrator(verdict: Verdict, rows: Rows) -> Verdict {
    match verdict {
        SendAgain(Told::OrderPlaced) if rows == Rows::default() => verdict,
        SendAgain(Told::OrderCancelRequested | Told::OrderCancelled)
        | Verdict::Contradiction(_) => verdict,
        SendAgain(Told::OrderPlaced | Told::OrderConfirmed) | Learn(_) | Agreed => Agreed,
    }
}

#[cfg(test)]
mod tests;
