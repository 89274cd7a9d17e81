//! What must hold in every state. That nothing gets stuck is one of them: in a state after which nothing follows any more,
//! unless somebody acts, every order is settled; and rows only move forward, so such a state always comes.

use delivery::domain::State as Parcel;
use orchestrator::{order::V1, saga::Saga};
use orders::domain::{Cancel, State};
use products::domain::Reservation;
use stateright::Property;

use crate::{
    checking::World,
    shop::{Order, Shop},
};

/// All of them.
pub(crate) fn all() -> Vec<Property<World>> {
    vec![
        Property::always("free and held pieces are what there was", |_, shop: &Shop| {
            usize::from(shop.product.stock) + shop.held() == usize::from(shop.initial)
        }),
        Property::always("shipped is held, and not cancelled", |_, shop: &Shop| {
            let mut shipped = shop.orders.iter().filter(|order| order.is_shipped());
            shipped.all(|order| order.holds() && !order.is_cancelled())
        }),
        Property::always("cancelled once", |_, shop: &Shop| {
            shop.orders.iter().all(|order| order.cancellations <= 1)
        }),
        Property::always("reserved once", |_, shop: &Shop| {
            shop.orders.iter().all(|order| order.reservations <= 1)
        }),
        Property::always("one click, one order", |_, shop: &Shop| {
            shop.orders.iter().filter(|order| order.fate.is_some()).count() <= shop.claims.len()
        }),
        Property::always("the replica never goes back", |_, shop: &Shop| {
            !shop.seen.replica_went_back
        }),
        Property::always("no message needs a person", |_, shop: &Shop| {
            shop.seen.quarantine.is_none()
        }),
        Property::always("every order settles", |world: &World, shop: &Shop| {
            shop.orders.iter().all(is_settled) || !world.is_quiet(shop)
        }),
        Property::always("every saga ends", |world: &World, shop: &Shop| {
            shop.orders.iter().all(has_no_work_left) || !world.is_quiet(shop)
        }),
    ]
}

/// Whether the three rows agree about an order, and nobody waits for a decision.
pub(crate) fn is_settled(order: &Order) -> bool {
    let Some(fate) = order.fate else { return true };
    let (reservation, delivery) = (order.reservation.as_deref(), order.delivery.as_deref());
    match fate.state {
        State::Pending => false,
        State::Confirmed => {
            fate.cancel != Cancel::Requested
                && order.holds()
                && matches!(delivery, Some(Parcel::Ready | Parcel::Dispatched(_)))
        }
        State::Completed => {
            fate.cancel != Cancel::Requested
                && order.holds()
                && matches!(delivery, Some(Parcel::Completed(_)))
        }
        State::Cancelled(_) => {
            !matches!(reservation, Some(Reservation::Reserved { .. }))
                && matches!(
                    delivery,
                    None | Some(
                        Parcel::Cancelled { .. } | Parcel::Failed { .. } | Parcel::Tombstone
                    )
                )
        }
    }
}

/// Whether its saga, if it has one, has ended; or waits for the goods to arrive, while the order holds.
fn has_no_work_left(order: &Order) -> bool {
    order.saga.as_deref().is_none_or(|saga| {
        V1.is_finished(saga) || (is_waiting_for_facts(saga) && !order.is_cancelled())
    })
}

fn is_waiting_for_facts(saga: &Saga) -> bool {
    saga.parked.is_none() && V1.awaited(saga).is_empty()
}
