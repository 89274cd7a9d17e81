//! What delivery tells the others: every event carries the delivery as it stands after the change, or without one.

use chassis::{
    cause::{Cause, EncodeError},
    outbox::Outgoing,
};
use proto::delivery::v1::{
    Delivery as View, DeliveryCancelRefused, DeliveryCancelled, DeliveryCompleted,
    DeliveryDispatched, DeliveryFailed, DeliveryReady, DeliveryStarted,
};
use uuid::Uuid;

use crate::{domain::Told, parcel::Delivery, wire};

/// The event that tells of a change.
pub fn outgoing(
    delivery: &Delivery,
    told: Told,
    event_id: Uuid,
    cause: &Cause,
) -> Result<Outgoing, EncodeError> {
    let view = wire::delivery(delivery);
    match told {
        Told::Started => cause.emit_as(event_id, &started(view)),
        Told::Ready => cause.emit_as(event_id, &ready(view)),
        Told::Dispatched => cause.emit_as(event_id, &dispatched(view)),
        Told::Completed => cause.emit_as(event_id, &completed(view)),
        Told::Cancelled => cause.emit_as(event_id, &cancelled(view)),
        Told::CancelRefused => cause.emit_as(event_id, &cancel_refused(view)),
        Told::Failed => cause.emit_as(event_id, &failed(view)),
    }
}

fn started(view: View) -> DeliveryStarted {
    DeliveryStarted {
        delivery_id: view.delivery_id,
        order_id: view.order_id,
        lines: view.lines,
        customer_id: view.customer_id,
        customer_name: view.customer_name,
        delivery_address: view.delivery_address,
        delivery_state: view.state,
    }
}

fn ready(view: View) -> DeliveryReady {
    DeliveryReady {
        delivery_id: view.delivery_id,
        order_id: view.order_id,
        lines: view.lines,
        customer_id: view.customer_id,
        customer_name: view.customer_name,
        delivery_address: view.delivery_address,
        delivery_state: view.state,
    }
}

fn dispatched(view: View) -> DeliveryDispatched {
    DeliveryDispatched {
        delivery_id: view.delivery_id,
        order_id: view.order_id,
        lines: view.lines,
        customer_id: view.customer_id,
        customer_name: view.customer_name,
        delivery_address: view.delivery_address,
        delivery_state: view.state,
    }
}

fn completed(view: View) -> DeliveryCompleted {
    DeliveryCompleted {
        delivery_id: view.delivery_id,
        order_id: view.order_id,
        lines: view.lines,
        customer_id: view.customer_id,
        customer_name: view.customer_name,
        delivery_address: view.delivery_address,
        delivery_state: view.state,
    }
}

fn cancelled(view: View) -> DeliveryCancelled {
    DeliveryCancelled {
        delivery_id: view.delivery_id,
        order_id: view.order_id,
        lines: view.lines,
        customer_id: view.customer_id,
        customer_name: view.customer_name,
        delivery_address: view.delivery_address,
        delivery_state: view.state,
    }
}

fn cancel_refused(view: View) -> DeliveryCancelRefused {
    DeliveryCancelRefused {
        delivery_id: view.delivery_id,
        order_id: view.order_id,
        lines: view.lines,
        customer_id: view.customer_id,
        customer_name: view.customer_name,
        delivery_address: view.delivery_address,
        delivery_state: view.state,
    }
}

fn failed(view: View) -> DeliveryFailed {
    DeliveryFailed {
        delivery_id: view.delivery_id,
        order_id: view.order_id,
        lines: view.lines,
        customer_id: view.customer_id,
        customer_name: view.customer_name,
        delivery_address: view.delivery_address,
        delivery_state: view.state,
        reason: view.failure_reason,
    }
}
