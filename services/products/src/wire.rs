//! From the domain to what goes over the wire: answers and events. Never the other way.

use chassis::{
    cause::{Cause, EncodeError},
    outbox::Outgoing,
    wire::timestamp,
};
use proto::products::v1;
use uuid::Uuid;

use crate::{
    domain::{Event, Reservation, Shortage},
    lines::{Line, Lines},
    product::Product,
};

/// A product, as it is answered.
pub fn product(product: Product) -> v1::Product {
    let etag = product.etag();
    let options = product
        .options
        .into_iter()
        .map(|option| v1::ProductOption { name: option.name, description: option.description });
    v1::Product {
        product_id: product.product_id,
        name: product.name,
        price: Some(product.price.into()),
        stock: product.stock,
        image_url: product.image_url,
        options: options.collect(),
        version: product.version,
        etag,
        create_time: Some(timestamp(product.created_at)),
        update_time: Some(timestamp(product.updated_at)),
    }
}

/// A line that falls short.
pub fn shortage(shortage: &Shortage) -> v1::Shortage {
    v1::Shortage {
        product_id: shortage.wanted.product_id().to_owned(),
        requested: shortage.wanted.quantity(),
        available: shortage.available,
    }
}

/// What became of an order at the stock.
pub fn reservation(order_id: Uuid, reservation: &Reservation) -> v1::Reservation {
    let state = match reservation {
        Reservation::Reserved { .. } => v1::ReservationState::Reserved,
        Reservation::Released { .. } => v1::ReservationState::Released,
        Reservation::Rejected { .. } => v1::ReservationState::Rejected,
        Reservation::Tombstone => v1::ReservationState::Tombstone,
    };
    let decision = reservation.decision_event_id();
    v1::Reservation {
        order_id: order_id.to_string(),
        state: state.into(),
        lines: reservation.lines().into_iter().flat_map(Lines::iter).map(line).collect(),
        decision_event_id: decision.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// The event that tells of a product's newest version, and of the order that changed it, if one did.
pub fn product_changed(product: &Product, order_id: Option<Uuid>) -> v1::ProductChanged {
    v1::ProductChanged {
        product_id: product.product_id.clone(),
        product_name: product.name.clone(),
        product_price: Some(product.price.clone().into()),
        product_stock: product.stock,
        image_url: product.image_url.clone(),
        version: product.version,
        order_id: order_id.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// An event about an order, ready for the outbox.
pub fn outgoing(event: &Event, order_id: Uuid, cause: &Cause) -> Result<Outgoing, EncodeError> {
    match event {
        Event::StockReserved { decision_event_id, lines } => {
            let lines = lines.iter().map(line).collect();
            let event = v1::StockReserved { order_id: order_id.to_string(), lines };
            cause.emit_as(*decision_event_id, &event)
        }
        Event::ProductOutOfStock { decision_event_id, shortages } => {
            let shortages = shortages.iter().map(shortage).collect();
            let event = v1::ProductOutOfStock { order_id: order_id.to_string(), shortages };
            cause.emit_as(*decision_event_id, &event)
        }
        Event::StockReleased { lines } => {
            let lines = lines.iter().flat_map(Lines::iter).map(line).collect();
            cause.answer(&v1::StockReleased { order_id: order_id.to_string(), lines })
        }
        Event::ProductChanged(product) => cause.emit(&product_changed(product, Some(order_id))),
    }
}

fn line(line: &Line) -> v1::StockLine {
    v1::StockLine { product_id: line.product_id().to_owned(), quantity: line.quantity() }
}
