//! The event of the state an order is in, once more: the same event under the same id, made again from the row. Whoever has
//! handled it passes over it; whoever has lost it handles it.

use chassis::{
    cause::{CausalPath, Cause, EncodeError},
    outbox::Outgoing,
    spans,
};
use prost::Name as _;
use proto::{
    delivery::v1::{
        DeliveryCancelRefused, DeliveryCancelled, DeliveryCompleted, DeliveryFailed,
        DeliveryStarted,
    },
    orders::v1::OrderState,
    products::v1::{ProductOutOfStock, StockReserved},
};
use uuid::Uuid;

use crate::{
    comparison::Told,
    order::{Order, Transition},
    wire,
};

impl Told {
    /// The state it tells of, as shown.
    pub fn state(self) -> OrderState {
        match self {
            Self::OrderPlaced => OrderState::Pending,
            Self::OrderConfirmed => OrderState::Confirmed,
            Self::OrderCancelRequested => OrderState::Cancelling,
            Self::OrderCancelled => OrderState::Cancelled,
        }
    }
}

/// The event that told of the first transition to a state; none where no transition says so.
pub fn again(
    order: &Order,
    told: Told,
    transitions: &[Transition],
) -> Result<Option<Outgoing>, EncodeError> {
    let mut reached = transitions.iter().filter(|it| it.state == told.state());
    let Some((transition, event_id)) = reached.find_map(|it| Some((it, it.event_id?))) else {
        return Ok(None);
    };
    let cause = cause(order, transition, event_id);
    let event = match told {
        Told::OrderPlaced => cause.emit_as(event_id, &wire::order_placed(order)),
        Told::OrderConfirmed => cause.emit_as(event_id, &wire::order_confirmed(order)),
        Told::OrderCancelRequested => cause.emit_as(event_id, &wire::order_cancel_requested(order)),
        Told::OrderCancelled => cause.emit_as(event_id, &wire::order_cancelled(order)),
    };
    event.map(Some)
}

/// What caused it then, at its time, by which duplicates are found. Of the path only the last step is kept in a row: enough to
/// recognise one's own decision. The trace is a new one.
fn cause(order: &Order, transition: &Transition, event_id: Uuid) -> Cause {
    let (name, id) = (transition.cause.as_str(), transition.cause_id);
    let trace = spans::timer("Reconciliation", order.order_id);
    let cause = Cause::local("orders", name, id, trace, transition.created_at)
        .of_order(order.order_id, order.coordination);
    let commanded = cause.answer_id() == event_id;
    let path = CausalPath::default().then(source(name, commanded), name, id);
    Cause { path, ..cause }
}

/// Who sent what caused it. A command and a call of orders may have one name; only the answer to a command has its id.
fn source(cause: &str, commanded: bool) -> &'static str {
    match cause {
        StockReserved::NAME | ProductOutOfStock::NAME => "products",
        DeliveryStarted::NAME
        | DeliveryFailed::NAME
        | DeliveryCancelled::NAME
        | DeliveryCancelRefused::NAME
        | DeliveryCompleted::NAME => "delivery",
        _ if commanded => "orchestrator",
        _ => "orders",
    }
}
