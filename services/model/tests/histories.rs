//! Random histories of the whole shop, through the functions that decide in production: messages come in any order and again,
//! services crash before they commit, and everybody acts at any moment.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use chassis::cause::Coordination::{self, Choreography, Orchestration};
use model::{
    checking::{Happening, World},
    network::Network,
    scenario::{Actors, Scenario},
    shop::{Order, Shop},
};
use orders::domain::{Reason, State};
use proptest::{prelude::*, sample::Index};
use stateright::Model as _;

fn world(orders: [Coordination; 2], network: Network, stock: u8, actors: Actors) -> World {
    let orders = orders.to_vec();
    let scenario = Scenario { name: "history", orders, stocks: vec![stock], network, actors };
    World::new(scenario, None).unwrap()
}

/// Both orders are placed, and nobody has heard of them.
fn placed(world: &World, carrier: bool) -> Shop {
    let mut shop = world.init_states().remove(0);
    shop.carrier = carrier;
    shop
}

fn networks() -> impl Strategy<Value = Network> {
    prop::sample::select(Network::ALL.to_vec())
}

/// What happens next, of all that may; and whether whoever works on it dies first.
fn choices(most: usize) -> impl Strategy<Value = Vec<(Index, bool)>> {
    prop::collection::vec((any::<Index>(), prop::bool::weighted(0.1)), 0..most)
}

fn hold(world: &World, shop: &Shop) {
    for property in world.properties() {
        assert!((property.condition)(world, shop), "{}: {shop:#?}", property.name);
    }
}

fn wander(world: &World, mut shop: Shop, choices: &[(Index, bool)]) -> Shop {
    for (choice, crashes) in choices {
        let mut next = Vec::new();
        world.actions(&shop, &mut next);
        if next.is_empty() {
            break;
        }
        let happening = next[choice.index(next.len())];
        if *crashes {
            // Nothing of it was committed: it is decided again, as it was before.
            let lost = world.next_state(&shop, happening);
            assert_eq!(lost, world.next_state(&shop, happening));
            continue;
        }
        shop = world.next_state(&shop, happening).unwrap_or(shop);
        hold(world, &shop);
    }
    shop
}

/// Everything that was sent arrives, until nothing follows any more.
fn settle(world: &World, mut shop: Shop) -> Shop {
    for _ in 0..1000 {
        let mut next = Vec::new();
        world.actions(&shop, &mut next);
        let mut arrivals = next.into_iter().filter(|it| matches!(it, Happening::Arrives(_)));
        match arrivals.find_map(|arrives| world.next_state(&shop, arrives)) {
            Some(next) => shop = next,
            None => return shop,
        }
    }
    panic!("it goes on for ever: {shop:#?}");
}

/// The warehouse sends what it may.
fn ship(world: &World, mut shop: Shop) -> Shop {
    for order in [0, 1] {
        for happening in [Happening::Dispatches(order), Happening::Completes(order)] {
            shop = world.next_state(&shop, happening).unwrap_or(shop);
        }
    }
    shop
}

/// What was decided, and whether a piece is held and has left.
fn end(order: &Order) -> (Option<State>, bool, bool) {
    (order.fate.map(|fate| fate.state), order.holds(), order.is_shipped())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where nothing races, what was decided counts, not when it was heard, nor how the services come to agree.
    #[test]
    fn every_permutation_ends_the_same_in_both_styles(
        network in networks(),
        short in any::<bool>(),
        carrier in prop::bool::weighted(0.8),
        cancelled in any::<[bool; 2]>(),
        choices in choices(120),
    ) {
        let stock = if short { 0 } else { 2 };
        for style in [Choreography, Orchestration] {
            let world = world([style; 2], network, stock, Actors::NONE);
            let mut shop = placed(&world, carrier);
            for order in [0, 1].into_iter().filter(|order| cancelled[usize::from(*order)]) {
                shop = world.next_state(&shop, Happening::Cancels(order)).unwrap();
            }
            let shop = settle(&world, wander(&world, shop, &choices));
            let shop = settle(&world, ship(&world, shop));
            hold(&world, &shop);
            for (order, cancelled) in shop.orders.iter().zip(cancelled) {
                let expected = match (cancelled, short, carrier) {
                    (true, _, _) => Some(Reason::Customer),
                    (false, true, true) => Some(Reason::OutOfStock),
                    (false, false, false) => Some(Reason::DeliveryFailed),
                    (false, false, true) => None,
                    // Whoever is heard first gives the reason.
                    (false, true, false) => match order.fate.map(|fate| fate.state) {
                        Some(State::Cancelled(Reason::OutOfStock)) => Some(Reason::OutOfStock),
                        _ => Some(Reason::DeliveryFailed),
                    },
                };
                let expected = match expected {
                    Some(reason) => (Some(State::Cancelled(reason)), false, false),
                    None => (Some(State::Completed), true, true),
                };
                prop_assert_eq!(end(order), expected, "{:?}: {:#?}", style, shop);
            }
        }
    }

    /// Everybody acts at any moment, on two orders that race for what there is, of the same style or not.
    #[test]
    fn no_history_breaks_a_property_and_all_of_them_settle(
        network in networks(),
        stock in 0..3_u8,
        carrier in prop::bool::weighted(0.9),
        first in any::<bool>(),
        second in any::<bool>(),
        choices in choices(160),
    ) {
        let style = |orchestrated| if orchestrated { Orchestration } else { Choreography };
        let actors = Actors { operator: true, replica: true, ..Actors::ALL };
        let busy = world([style(first), style(second)], network, stock, actors);
        let shop = wander(&busy, placed(&busy, carrier), &choices);
        // Nobody acts any more, and nobody loses patience.
        let actors = Actors { replica: true, ..Actors::NONE };
        let calm = World { scenario: Scenario { actors, ..busy.scenario.clone() }, ..busy };
        let shop = settle(&calm, shop);
        prop_assert!(calm.is_quiet(&shop));
        hold(&calm, &shop);
        prop_assert_eq!(shop.replica, shop.product);
    }
}
