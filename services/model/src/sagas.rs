//! The orchestrator: hands what arrives to the saga of its order, and sends the commands that follow.

use std::sync::Arc;

use orchestrator::{
    order::{V1, reason},
    saga::{Change, Saga},
};
use orders::wire::commanded;

use crate::{
    checking::World,
    message::{Body, Message},
    seam::{self, Rule},
    shop::Shop,
};

/// What undoes is sent this often before the saga is parked.
const ATTEMPTS: i32 = 1;

/// A message arrives.
pub(crate) fn hear(world: &World, shop: &mut Shop, message: Message) {
    let Some(order) = message.order else { return };
    let saga = shop.order(order).saga.clone();
    let change = match (saga, message.body) {
        (None, Body::OrderPlaced) => V1.begin(),
        (Some(_), Body::OrderPlaced) if !world.keeps(Rule::SagaBeginsOnce) => V1.begin(),
        (None, _) => return,
        (Some(saga), body) => {
            let answers = message.answers.map(|command| command.kind().name);
            match seam::hear_saga(world, &saga, body.kind().name, answers) {
                Some(change) => change,
                None => return,
            }
        }
    };
    take(world, shop, order, change, |body| message.then(body));
}

/// Whether the orchestrator waits for something, and may lose its patience.
pub(crate) fn may_lose_patience(world: &World, shop: &Shop, order: u8) -> bool {
    let row = shop.order(order);
    row.impatience < world.scenario.actors.impatience
        && row
            .saga
            .as_ref()
            .is_some_and(|saga| saga.parked.is_none() && !V1.awaited(saga).is_empty())
}

/// No answer has come in time.
pub(crate) fn lose_patience(world: &World, shop: &mut Shop, order: u8) {
    let row = shop.order_mut(order);
    let Some(saga) = row.saga.clone() else { return };
    row.impatience += 1;
    match V1.gives_up(&saga, i32::from(row.attempts), ATTEMPTS) {
        Some(why) => take(world, shop, order, V1.park(&saga, &why), |body| first(order, body)),
        None => {
            row.attempts += 1;
            send(world, shop, &saga, &V1.awaited(&saga), |body| first(order, body));
        }
    }
}

/// An operator gives the saga up. A refusal is the caller's.
pub(crate) fn force(world: &World, shop: &mut Shop, order: u8) {
    let Some(saga) = shop.order(order).saga.clone() else { return };
    if let Ok(change) = V1.force(&saga) {
        take(world, shop, order, change, |body| first(order, body));
    }
}

/// An operator lets a parked saga go on. A refusal is the caller's.
pub(crate) fn unpark(world: &World, shop: &mut Shop, order: u8) {
    let Some(saga) = shop.order(order).saga.clone() else { return };
    if let Ok(change) = V1.unpark(&saga) {
        take(world, shop, order, change, |body| first(order, body));
    }
}

fn first(order: u8, body: Body) -> Message {
    Message::about(order, body)
}

fn take(
    world: &World,
    shop: &mut Shop,
    order: u8,
    change: Change,
    caused: impl Fn(Body) -> Message,
) {
    let row = shop.order_mut(order);
    let before = row.saga.as_ref().map(|saga| (saga.state, saga.parked.is_some()));
    if before != Some((change.saga.state, change.saga.parked.is_some())) {
        row.attempts = 1;
    }
    let saga = Arc::new(change.saga);
    row.saga = Some(Arc::clone(&saga));
    send(world, shop, &saga, &change.sends, caused);
}

fn send(
    world: &World,
    shop: &mut Shop,
    saga: &Saga,
    commands: &[&str],
    caused: impl Fn(Body) -> Message,
) {
    let because = commanded(reason(saga.because).into());
    for command in commands.iter().filter_map(|command| Body::command(command, because)) {
        world.send(shop, caused(command));
    }
}
