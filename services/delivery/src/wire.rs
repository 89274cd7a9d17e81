//! Between rows and what callers and other services see.

use chassis::{policy::Refused, wire::timestamp};
use proto::{
    delivery::v1::{Delivery as View, DeliveryLine, DeliveryState, StartDelivery},
    orders::v1::OrderPlaced,
};
use uuid::Uuid;

use crate::{
    domain::{Late, State},
    parcel::{Delivery, Line, Parcel},
};

/// A delivery as callers see it.
pub fn delivery(delivery: &Delivery) -> View {
    let mut view = View {
        order_id: delivery.order_id.to_string(),
        state: state(&delivery.state).into(),
        etag: format!("v{}", delivery.version),
        create_time: Some(timestamp(delivery.created_at)),
        update_time: Some(timestamp(delivery.updated_at)),
        ..View::default()
    };
    if let Some(parcel) = &delivery.parcel {
        view.delivery_id = parcel.delivery_id.to_string();
        view.customer_id.clone_from(&parcel.customer_id);
        view.customer_name.clone_from(&parcel.customer_name);
        view.delivery_address.clone_from(&parcel.address);
        view.lines = parcel.lines.iter().map(line).collect();
    }
    if let State::Failed { reason, .. } = &delivery.state {
        view.failure_reason.clone_from(reason);
    }
    if let State::Dispatched(late) | State::Completed(late) = delivery.state {
        view.cancel_refused = late == Late::CancelRefused;
    }
    view
}

fn state(state: &State) -> DeliveryState {
    match state {
        State::Started => DeliveryState::Started,
        State::Ready => DeliveryState::Ready,
        State::Dispatched(_) => DeliveryState::Dispatched,
        State::Completed(_) => DeliveryState::Completed,
        // A delivery that was never opened is called off to whoever asks.
        State::Cancelled { .. } | State::Tombstone => DeliveryState::Cancelled,
        State::Failed { .. } => DeliveryState::Failed,
    }
}

/// The name that [`crate::store::page`] knows a state by; none asks for every state.
pub fn filter(state: DeliveryState) -> Option<&'static str> {
    match state {
        DeliveryState::Unspecified => None,
        DeliveryState::Started => Some("started"),
        DeliveryState::Ready => Some("ready"),
        DeliveryState::Dispatched => Some("dispatched"),
        DeliveryState::Completed => Some("completed"),
        DeliveryState::Cancelled => Some("cancelled"),
        DeliveryState::Failed => Some("failed"),
    }
}

fn line(line: &Line) -> DeliveryLine {
    DeliveryLine {
        product_id: line.product_id.clone(),
        product_name: line.product_name.clone(),
        quantity: line.quantity,
    }
}

/// The parcel of a placed order, under a new delivery id. Errors: what is missing in the event.
pub fn parcel(placed: &OrderPlaced) -> Result<Parcel, Refused> {
    let customer =
        placed.customer.as_ref().ok_or_else(|| Refused::because("the order has no customer"))?;
    let lines = placed.lines.iter().map(|line| Line {
        product_id: line.product_id.clone(),
        product_name: line.product_name.clone(),
        quantity: line.quantity,
    });
    Ok(Parcel {
        delivery_id: Uuid::now_v7(),
        customer_id: customer.customer_id.clone(),
        customer_name: customer.name.clone(),
        address: customer.address.clone(),
        lines: checked(lines)?,
    })
}

/// The parcel that a command describes, under a new delivery id. Errors: what is missing in the command.
pub fn commanded(command: &StartDelivery) -> Result<Parcel, Refused> {
    let lines = command.lines.iter().map(|line| Line {
        product_id: line.product_id.clone(),
        product_name: line.product_name.clone(),
        quantity: line.quantity,
    });
    Ok(Parcel {
        delivery_id: Uuid::now_v7(),
        customer_id: command.customer_id.clone(),
        customer_name: command.customer_name.clone(),
        address: command.delivery_address.clone(),
        lines: checked(lines)?,
    })
}

fn checked(lines: impl Iterator<Item = Line>) -> Result<Vec<Line>, Refused> {
    let lines: Vec<Line> = lines.collect();
    if lines.is_empty() {
        return Err(Refused::because("the order has no lines"));
    }
    match lines.iter().find(|line| line.quantity < 1) {
        Some(Line { quantity, product_id, .. }) => {
            Err(Refused(format!("the order has {quantity} pieces of {product_id:?}")))
        }
        None => Ok(lines),
    }
}

/// The order that an event or a command belongs to. Errors: it is not a UUID.
pub fn order_id(text: &str) -> Result<Uuid, Refused> {
    Uuid::try_parse(text)
        .map_err(|error| Refused::because(format!("the order_id {text:?} is not a UUID: {error}")))
}
