//! orders: hands what arrives and what is called to the fate of its order, and sends what that tells.

use orders::{
    catalogue,
    domain::{Command, Decision, Event, Fate, Message as Heard, Refusal},
};

use crate::{
    checking::World,
    message::{Body, Message},
    network::Letter,
    routes::Service,
    seam::{self, Rule},
    shop::{Product, Shop},
    stock::PRODUCT,
};

/// Places an order, unless its request was answered before.
pub(crate) fn place(world: &World, shop: &mut Shop, order: u8, request: u8) {
    let claimed = shop.claims.contains(&request);
    if claimed && world.keeps(Rule::RequestIdUnique) {
        return;
    }
    if !claimed {
        shop.claims.push(request);
    }
    shop.order_mut(order).fate = Some(Fate::PLACED);
    world.send(shop, Message::about(order, Body::OrderPlaced));
}

/// A message arrives.
pub(crate) fn hear(world: &World, shop: &mut Shop, message: Message) {
    if let Body::ProductChanged { version, stock } = message.body {
        return replicate(world, shop, Product { stock, version });
    }
    let (Some(order), Some(heard)) = (message.order, heard(message.body)) else { return };
    if decide(world, shop, order, heard, Some(message)).is_err() {
        let letter = Letter { to: Service::Orders, message };
        shop.seen.quarantine.get_or_insert(letter);
    }
}

/// A call or a timer. A refusal is the caller's.
pub(crate) fn call(world: &World, shop: &mut Shop, order: u8, call: Heard) {
    let _refused = decide(world, shop, order, call, None);
}

fn decide(
    world: &World,
    shop: &mut Shop,
    order: u8,
    heard: Heard,
    cause: Option<Message>,
) -> Result<(), Refusal> {
    let Some(fate) = shop.order(order).fate else { return Ok(()) };
    let told = match seam::decide_order(world, fate, heard)? {
        Decision::Change(next, event) => {
            let row = shop.order_mut(order);
            row.fate = Some(next);
            if event == Some(Event::OrderCancelled) {
                row.cancellations += 1;
            }
            event
        }
        Decision::Answer(event, _) => Some(event),
        Decision::Duplicate | Decision::OwnOrigin | Decision::Raced | Decision::Ignored => None,
    };
    if let Some(body) = told.map(told_as) {
        let message = cause.map_or_else(|| Message::about(order, body), |cause| cause.then(body));
        world.send(shop, message);
    }
    Ok(())
}

fn heard(body: Body) -> Option<Heard> {
    Some(match body {
        Body::StockReserved => Heard::StockReserved,
        Body::ProductOutOfStock => Heard::ProductOutOfStock,
        Body::DeliveryStarted => Heard::DeliveryStarted,
        Body::DeliveryCancelled => Heard::DeliveryCancelled,
        Body::DeliveryCancelRefused => Heard::DeliveryCancelRefused,
        Body::DeliveryCompleted => Heard::DeliveryCompleted,
        Body::DeliveryFailed => Heard::DeliveryFailed,
        Body::ConfirmOrder => Heard::Command(Command::ConfirmOrder),
        Body::CancelOrder(reason) => Heard::Command(Command::CancelOrder(reason)),
        Body::RefuseCancel => Heard::Command(Command::RefuseCancel),
        Body::CompleteOrder => Heard::Command(Command::CompleteOrder),
        _ => return None,
    })
}

fn told_as(event: Event) -> Body {
    match event {
        Event::OrderConfirmed => Body::OrderConfirmed,
        Event::OrderCancelRequested => Body::OrderCancelRequested,
        Event::OrderCancelled => Body::OrderCancelled,
        Event::OrderCancelRefused => Body::OrderCancelRefused,
        Event::OrderCompleted => Body::OrderCompleted,
    }
}

fn replicate(world: &World, shop: &mut Shop, heard: Product) {
    let supersedes = as_known(world, heard).supersedes(&as_known(world, shop.replica));
    if supersedes || !world.keeps(Rule::ReplicaByVersion) {
        shop.seen.replica_went_back |= heard.version < shop.replica.version;
        shop.replica = heard;
    }
}

fn as_known(world: &World, product: Product) -> catalogue::Product {
    catalogue::Product {
        product_id: PRODUCT.to_owned(),
        name: String::new(),
        price: world.price.clone(),
        stock: product.stock.into(),
        version: product.version.into(),
        updated_at: chrono::DateTime::UNIX_EPOCH,
    }
}
