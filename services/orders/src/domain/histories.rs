//! Random histories over a network that reorders and duplicates, with crashes: an order's fate between a model of products, of
//! delivery and of its customer. What was decided counts, not when it was heard.

use proptest::{prelude::*, sample::Index};

use super::*;

/// What the others decide about an order. Each says so once, and is heard at any time and again.
#[derive(Clone, Copy, Debug)]
struct Others {
    reserves: bool,
    delivers: bool,
    /// How delivery answers a wish to cancel.
    refuses: bool,
}

/// An order, and what was ever told about it.
#[derive(Clone, Debug)]
struct World {
    fate: Fate,
    others: Others,
    told: Vec<Message>,
    events: Vec<Event>,
}

impl World {
    fn new(others: Others) -> Self {
        let stock =
            if others.reserves { Message::StockReserved } else { Message::ProductOutOfStock };
        let parcel =
            if others.delivers { Message::DeliveryStarted } else { Message::DeliveryFailed };
        Self { fate: Fate::PLACED, others, told: vec![stock, parcel], events: Vec::new() }
    }

    fn hear(&mut self, message: Message) {
        // No history of a working system may need a person; a customer may be refused.
        let decision = match self.fate.decide(message) {
            Err(refusal) => {
                assert_eq!(message, Message::CancelOrder, "{refusal}");
                return;
            }
            Ok(decision) => decision,
        };
        let Decision::Change(fate, event) = decision else { return };
        self.fate = fate;
        self.events.extend(event);
        match event {
            Some(Event::OrderCancelRequested) if self.others.refuses => {
                self.told.extend([Message::DeliveryCancelRefused, Message::DeliveryCompleted]);
            }
            Some(Event::OrderCancelRequested | Event::OrderCancelled) if self.others.delivers => {
                self.told.push(Message::DeliveryCancelled);
            }
            _ => {}
        }
    }

    /// Everything that was told arrives, again and again, until nothing changes any more.
    fn settle(&mut self) {
        for _ in 0..20 {
            let before = (self.fate, self.told.len());
            (0..self.told.len()).for_each(|index| self.hear(self.told[index]));
            if before == (self.fate, self.told.len()) {
                return;
            }
        }
        panic!("it goes on for ever: {self:?}");
    }

    fn times(&self, event: Event) -> usize {
        self.events.iter().filter(|told| **told == event).count()
    }
}

fn others() -> impl Strategy<Value = Others> {
    let often = || prop::bool::weighted(0.75);
    (often(), often(), any::<bool>()).prop_map(|(reserves, delivers, refuses)| Others {
        reserves,
        delivers,
        refuses,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_arrival_converges(others in others(), arrivals in prop::collection::vec((any::<Index>(), any::<bool>()), 0..30)) {
        let mut world = World::new(others);
        for (index, crashes) in arrivals {
            let message = *index.get(&world.told);
            if crashes {
                // Decided, and lost before it was committed: it comes again.
                world.clone().hear(message);
            }
            world.hear(message);
        }
        world.settle();
        let holds = others.reserves && others.delivers;
        prop_assert_eq!(world.fate.state == State::Confirmed, holds, "{:?}", world);
        prop_assert_eq!(world.times(Event::OrderConfirmed), usize::from(holds));
        prop_assert_eq!(world.times(Event::OrderCancelled), usize::from(!holds));
    }

    #[test]
    fn a_wish_to_cancel_at_any_moment_is_decided_once(
        others in others(),
        arrivals in prop::collection::vec((any::<Index>(), prop::bool::weighted(0.2)), 0..30),
    ) {
        let mut world = World::new(others);
        for (index, cancels) in arrivals {
            let message = if cancels { Message::CancelOrder } else { *index.get(&world.told) };
            world.hear(message);
        }
        world.settle();
        // On a cancelled order it is granted.
        let open = world.fate.state == State::Confirmed && world.fate.cancel == Cancel::Requested;
        prop_assert!(!open, "nobody has decided: {:?}", world);
        prop_assert!(world.times(Event::OrderCancelled) <= 1 && world.times(Event::OrderCancelRequested) <= 1);
        let cancelled = matches!(world.fate.state, State::Cancelled(_));
        prop_assert_eq!(cancelled, world.times(Event::OrderCancelled) == 1);
        prop_assert!(!cancelled || world.fate.cancel != Cancel::Refused, "refused and cancelled: {:?}", world);
    }
}
