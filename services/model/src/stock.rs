//! products: hands what arrives to the reservation of its order and the product as it stands, and sends what that tells.

use chassis::cause::CausalPath;
use chrono::DateTime;
use products::{
    SERVICE,
    domain::{Decision, Event, Message as Heard, Reservation, Shelf},
    policies::own_rejection,
    product,
};
use prost::Name as _;
use proto::products::v1::ProductOutOfStock;
use uuid::Uuid;

use crate::{
    checking::World,
    message::{Body, Message},
    network::Letter,
    routes::Service,
    seam,
    shop::{Product, Shop},
};

/// The product that every order wants.
pub(crate) const PRODUCT: &str = "tv";

/// A message arrives.
pub(crate) fn hear(world: &World, shop: &mut Shop, message: Message) {
    let (Some(order), Some(heard)) = (message.order, heard(world, message)) else { return };
    let row = shop.order(order).reservation.as_deref();
    match seam::decide_reservation(world, row, &heard, &shelf(world, shop.product)) {
        Ok(Decision::Applied(row, events)) => {
            let kept = shop.order_mut(order);
            kept.reservations += u8::from(matches!(row, Reservation::Reserved { .. }));
            kept.reservation = seam::kept_reservation(world, row);
            events.iter().for_each(|event| tell(world, shop, message, event));
        }
        Ok(Decision::Answered(_, answer)) => tell(world, shop, message, &answer),
        Ok(Decision::Duplicate | Decision::OwnOrigin | Decision::Raced) => {}
        Err(_) => {
            let letter = Letter { to: Service::Products, message };
            shop.seen.quarantine.get_or_insert(letter);
        }
    }
}

fn heard(world: &World, message: Message) -> Option<Heard> {
    let decision_event_id = decision_event_id(message.order?);
    let lines = || world.lines.clone();
    Some(match message.body {
        Body::OrderPlaced => Heard::OrderPlaced { lines: lines(), decision_event_id },
        Body::OrderCancelled => {
            let mut path = CausalPath::default();
            if message.follows_rejection {
                path = path.then(SERVICE, ProductOutOfStock::NAME, decision_event_id);
            }
            Heard::OrderCancelled { own_rejection: own_rejection(&path) }
        }
        Body::ReserveStock => Heard::ReserveStock { lines: lines(), decision_event_id },
        Body::ReleaseStock => Heard::ReleaseStock,
        _ => return None,
    })
}

/// One for each order: it has one decision.
fn decision_event_id(order: u8) -> Uuid {
    Uuid::from_u128(u128::from(order) + 1)
}

fn tell(world: &World, shop: &mut Shop, cause: Message, event: &Event) {
    let body = match event {
        Event::StockReserved { .. } => Body::StockReserved,
        Event::ProductOutOfStock { .. } => Body::ProductOutOfStock,
        Event::StockReleased { .. } => Body::StockReleased,
        Event::ProductChanged(product) => {
            // The model's numbers are small; one that is not would be a stock gone wrong, and is shown as one.
            let stock = u8::try_from(product.stock).unwrap_or(u8::MAX);
            let version = u8::try_from(product.version).unwrap_or(u8::MAX);
            shop.product = Product { stock, version };
            Body::ProductChanged { version, stock }
        }
    };
    world.send(shop, cause.then(body));
}

fn shelf(world: &World, product: Product) -> Shelf {
    let on_shelf = product::Product {
        product_id: PRODUCT.to_owned(),
        name: String::new(),
        price: world.price.clone(),
        stock: product.stock.into(),
        image_url: String::new(),
        options: Vec::new(),
        version: product.version.into(),
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
    };
    Shelf::from([(PRODUCT.to_owned(), on_shelf)])
}

/// The row that a reservation of these lines leaves.
pub(crate) fn as_if_reserved(world: &World) -> Reservation {
    Reservation::Reserved { decision_event_id: Uuid::nil(), lines: world.lines.clone() }
}
