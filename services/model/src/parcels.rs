//! delivery: hands what arrives and what the warehouse calls to the row of its order, and sends what that tells.

use chassis::cause::CausalPath;
use delivery::domain::{Call, Decision, Heard, Told};
use uuid::Uuid;

use crate::{
    checking::World,
    message::{Body, Message},
    network::Letter,
    routes::Service,
    seam,
    shop::Shop,
};

/// A message arrives.
pub(crate) fn hear(world: &World, shop: &mut Shop, message: Message) {
    // Here the path only explains: whatever it holds, the row becomes the same.
    let path = CausalPath::default();
    let (Some(order), Some(heard)) = (message.order, heard(shop, message.body, &path)) else {
        return;
    };
    let row = shop.order(order).delivery.as_deref();
    match seam::decide_delivery(world, row, heard) {
        Ok(Decision::Becomes(state)) => {
            shop.order_mut(order).delivery = seam::kept_delivery(world, state);
        }
        Ok(Decision::Tells(state, told)) => {
            shop.order_mut(order).delivery = seam::kept_delivery(world, state);
            world.send(shop, message.then(told_as(told)));
        }
        Ok(Decision::Answers(told, _)) => world.send(shop, message.then(told_as(told))),
        Ok(Decision::Nothing(_)) => {}
        Err(_) => {
            let letter = Letter { to: Service::Delivery, message };
            shop.seen.quarantine.get_or_insert(letter);
        }
    }
}

/// The warehouse calls. A refusal is the caller's.
pub(crate) fn call(world: &World, shop: &mut Shop, order: u8, call: &Call) {
    let Some(state) = shop.order(order).delivery.as_deref() else { return };
    if let Ok((state, told)) = seam::act_on_delivery(world, state, call, event_id()) {
        shop.order_mut(order).delivery = seam::kept_delivery(world, state);
        world.send(shop, Message::about(order, told_as(told)));
    }
}

/// Which event told of a row is asked by its path alone, which holds none here.
pub(crate) fn event_id() -> Uuid {
    Uuid::nil()
}

fn heard<'a>(shop: &Shop, body: Body, path: &'a CausalPath) -> Option<Heard<'a>> {
    Some(match body {
        Body::OrderPlaced => Heard::OrderPlaced { carrier: shop.carrier },
        Body::OrderConfirmed => Heard::OrderConfirmed,
        Body::OrderCancelRequested => Heard::OrderCancelRequested,
        Body::OrderCancelled => Heard::OrderCancelled { path },
        Body::StartDelivery => Heard::StartDelivery { carrier: shop.carrier },
        Body::ReadyDelivery => Heard::ReadyDelivery,
        Body::CancelDelivery => Heard::CancelDelivery,
        _ => return None,
    })
}

fn told_as(told: Told) -> Body {
    match told {
        Told::Started => Body::DeliveryStarted,
        Told::Ready => Body::DeliveryReady,
        Told::Dispatched => Body::DeliveryDispatched,
        Told::Completed => Body::DeliveryCompleted,
        Told::Cancelled => Body::DeliveryCancelled,
        Told::CancelRefused => Body::DeliveryCancelRefused,
        Told::Failed => Body::DeliveryFailed,
    }
}
