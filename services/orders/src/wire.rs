//! Orders and their events as other services and callers see them.

use chassis::{cause::Coordination, wire::timestamp};
use proto::orders::v1::{
    self, CancelReason, OrderCancelRefused, OrderCancelRequested, OrderCancelled, OrderCompleted,
    OrderConfirmed, OrderPlaced, OrderTransition,
};

use crate::{
    domain::{Cancel, Reason},
    order::{self, Customer, Line, Order, Transition},
};

/// An order as a caller sees it, without its transitions.
pub fn order(order: &Order) -> v1::Order {
    v1::Order {
        order_id: order.order_id.to_string(),
        state: order::shown(order.fate).into(),
        customer: Some(customer(&order.customer)),
        lines: order.lines.iter().map(line).collect(),
        total: Some(order.total.clone().into()),
        revision: order.revision,
        etag: order.etag(),
        cancel_reason: reason(order.reason()).into(),
        coordination: coordination(order.coordination).into(),
        create_time: Some(timestamp(order.created_at)),
        update_time: Some(timestamp(order.updated_at)),
        settle_time: order.settled_at.map(timestamp),
        deadline_time: Some(timestamp(order.deadline_at)),
        cancel_refused: order.fate.cancel == Cancel::Refused,
        transitions: Vec::new(),
    }
}

/// A transition as a caller sees it.
pub fn transition(transition: &Transition) -> OrderTransition {
    OrderTransition {
        revision: transition.revision,
        state: transition.state.into(),
        cancel_reason: reason(transition.reason).into(),
        cause: transition.cause.clone(),
        cause_id: transition.cause_id.to_string(),
        event_id: transition.event_id.map(|id| id.to_string()).unwrap_or_default(),
        trace_id: transition.trace_id.clone().unwrap_or_default(),
        create_time: Some(timestamp(transition.created_at)),
    }
}

/// An order as it was after a transition, from the order as it was before.
pub fn after(mut order: v1::Order, transition: &Transition) -> v1::Order {
    let at = timestamp(transition.created_at);
    order.state = transition.state.into();
    order.cancel_reason = reason(transition.reason).into();
    order.cancel_refused = transition.cancel_refused;
    order.revision = transition.revision;
    order.etag = format!("r{}", transition.revision);
    let settled_before = order
        .settle_time
        .filter(|settled| (settled.seconds, settled.nanos) <= (at.seconds, at.nanos));
    order.settle_time =
        settled_before.or((transition.state != v1::OrderState::Pending).then_some(at));
    order.update_time = Some(at);
    order
}

/// The event of a new order.
pub fn order_placed(order: &Order) -> OrderPlaced {
    OrderPlaced {
        order_id: order.order_id.to_string(),
        customer: Some(customer(&order.customer)),
        lines: order.lines.iter().map(line).collect(),
        total: Some(order.total.clone().into()),
    }
}

/// The event of an order that holds.
pub fn order_confirmed(order: &Order) -> OrderConfirmed {
    OrderConfirmed {
        order_id: order.order_id.to_string(),
        customer: Some(customer(&order.customer)),
    }
}

/// The event of a cancellation that delivery is to decide.
pub fn order_cancel_requested(order: &Order) -> OrderCancelRequested {
    OrderCancelRequested {
        order_id: order.order_id.to_string(),
        customer: Some(customer(&order.customer)),
    }
}

/// The event of an order that is called off.
pub fn order_cancelled(order: &Order) -> OrderCancelled {
    OrderCancelled {
        order_id: order.order_id.to_string(),
        reason: reason(order.reason()).into(),
        customer: Some(customer(&order.customer)),
        lines: order.lines.iter().map(line).collect(),
    }
}

/// The event of a cancellation that is refused.
pub fn order_cancel_refused(order: &Order) -> OrderCancelRefused {
    OrderCancelRefused {
        order_id: order.order_id.to_string(),
        customer: Some(customer(&order.customer)),
    }
}

/// The event of an order that is done.
pub fn order_completed(order: &Order) -> OrderCompleted {
    OrderCompleted {
        order_id: order.order_id.to_string(),
        customer: Some(customer(&order.customer)),
    }
}

/// The coordination as callers name it.
pub fn coordination(coordination: Coordination) -> v1::Coordination {
    match coordination {
        Coordination::Choreography => v1::Coordination::Choreography,
        Coordination::Orchestration => v1::Coordination::Orchestration,
    }
}

fn customer(customer: &Customer) -> v1::Customer {
    v1::Customer {
        customer_id: customer.customer_id.clone(),
        name: customer.name.clone(),
        address: customer.address.clone(),
    }
}

fn line(line: &Line) -> v1::OrderLine {
    v1::OrderLine {
        product_id: line.product_id.clone(),
        product_name: line.product_name.clone(),
        // At most a million, checked when the order was placed.
        quantity: i32::try_from(line.quantity).unwrap_or(i32::MAX),
        unit_price: Some(line.unit_price.clone().into()),
    }
}

fn reason(reason: Option<Reason>) -> CancelReason {
    match reason {
        None => CancelReason::Unspecified,
        Some(Reason::OutOfStock) => CancelReason::OutOfStock,
        Some(Reason::Customer) => CancelReason::Customer,
        Some(Reason::DeliveryFailed) => CancelReason::DeliveryFailed,
        Some(Reason::TimedOut) => CancelReason::TimedOut,
    }
}

/// The reason that a command gives; none when it gives none that is known.
pub fn commanded(reason: i32) -> Option<Reason> {
    match CancelReason::try_from(reason) {
        Ok(CancelReason::Unspecified) | Err(_) => None,
        Ok(CancelReason::OutOfStock) => Some(Reason::OutOfStock),
        Ok(CancelReason::Customer) => Some(Reason::Customer),
        Ok(CancelReason::DeliveryFailed) => Some(Reason::DeliveryFailed),
        Ok(CancelReason::TimedOut) => Some(Reason::TimedOut),
    }
}
