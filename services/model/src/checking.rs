//! The shop as stateright sees it: what may happen next in a state, and what becomes of the state.

use std::fmt;

use anyhow::Context as _;
use delivery::domain::Call;
use orders::domain::Message as Heard;
use products::lines::{Line, Lines};
use proto::money::Money;
use stateright::{Model, Property};

use crate::{
    fates,
    message::Message,
    network::{Channel, Letter},
    parcels, properties,
    routes::{Routes, Service},
    sagas,
    scenario::Scenario,
    seam::Rule,
    shop::Shop,
    stock,
};

/// A scenario, and the rule that is left out of it.
#[derive(Clone, Debug)]
pub struct World {
    /// What may happen.
    pub scenario: Scenario,
    /// What is left out.
    pub left_out: Option<Rule>,
    /// Who hears what.
    pub routes: Routes,
    /// What every order wants.
    pub lines: Lines,
    /// What a piece costs.
    pub price: Money,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A service works on a message.
    Arrives(Letter),
    /// A service begins a topic again, for the messages of one key.
    Replays(Channel),
    /// The client clicks again.
    Clicks,
    /// The customer cancels.
    Cancels(u8),
    /// The deadline passes.
    Deadline(u8),
    /// The goods leave.
    Dispatches(u8),
    /// The goods arrive.
    Completes(u8),
    /// The goods cannot be delivered.
    Fails(u8),
    /// The orchestrator has waited long enough.
    LosesPatience(u8),
    /// An operator gives the saga up.
    Forces(u8),
    /// An operator lets a parked saga go on.
    Unparks(u8),
}

impl World {
    /// A scenario as it is in production, but for the rule that is left out.
    pub fn new(scenario: Scenario, left_out: Option<Rule>) -> anyhow::Result<Self> {
        let lines = Lines::new([Line::new(stock::PRODUCT, 1)]).context("what an order wants")?;
        let price = Money::new("KRW", 1000, 0).context("what a piece costs")?;
        Ok(Self { scenario, left_out, routes: Routes::of_production(), lines, price })
    }

    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.left_out != Some(rule)
    }

    pub(crate) fn send(&self, shop: &mut Shop, message: Message) {
        let network = self.scenario.network;
        for to in self.receivers(message) {
            shop.post.send(network, Letter { to, message });
        }
    }

    fn receivers(&self, message: Message) -> Vec<Service> {
        match message.order {
            None if !self.scenario.actors.replica => Vec::new(),
            None => vec![Service::Orders],
            Some(order) => {
                let pinned = self.scenario.orders[usize::from(order)];
                self.routes.receivers(message.body, pinned).collect()
            }
        }
    }

    fn arrives(&self, shop: &mut Shop, letter: Letter) {
        shop.post.hand_over(self.scenario.network, letter);
        match letter.to {
            Service::Orders => fates::hear(self, shop, letter.message),
            Service::Products => stock::hear(self, shop, letter.message),
            Service::Delivery => parcels::hear(self, shop, letter.message),
            Service::Orchestrator => sagas::hear(self, shop, letter.message),
        }
    }

    /// Whether nothing follows any more, unless somebody acts.
    pub fn is_quiet(&self, shop: &Shop) -> bool {
        let mut orders = 0..shop.orders.len() as u8;
        !orders.any(|order| sagas::may_lose_patience(self, shop, order))
            && shop.post.next(self.scenario.network).into_iter().all(|letter| {
                let mut after = shop.clone();
                self.arrives(&mut after, letter);
                after == *shop
            })
    }

    fn happen(&self, shop: &mut Shop, happening: Happening) {
        match happening {
            Happening::Arrives(letter) => self.arrives(shop, letter),
            Happening::Replays(channel) => shop.post.replay(channel),
            Happening::Clicks => fates::place(self, shop, 1, 0),
            Happening::Cancels(order) => fates::call(self, shop, order, Heard::CancelOrder),
            Happening::Deadline(order) => fates::call(self, shop, order, Heard::DeadlinePassed),
            Happening::Dispatches(order) => parcels::call(self, shop, order, &Call::Dispatch),
            Happening::Completes(order) => parcels::call(self, shop, order, &Call::Complete),
            Happening::Fails(order) => {
                parcels::call(self, shop, order, &Call::Fail { reason: String::new() });
            }
            Happening::LosesPatience(order) => sagas::lose_patience(self, shop, order),
            Happening::Forces(order) => sagas::force(self, shop, order),
            Happening::Unparks(order) => sagas::unpark(self, shop, order),
        }
    }

    fn acts(&self, shop: &Shop, order: u8, happenings: &mut Vec<Happening>) {
        let actors = self.scenario.actors;
        let mut may = |allowed: bool, happening: Happening| {
            if allowed {
                happenings.push(happening);
            }
        };
        may(actors.customer, Happening::Cancels(order));
        may(actors.deadline, Happening::Deadline(order));
        may(actors.warehouse, Happening::Dispatches(order));
        may(actors.warehouse, Happening::Completes(order));
        may(actors.failure, Happening::Fails(order));
        may(sagas::may_lose_patience(self, shop, order), Happening::LosesPatience(order));
        may(actors.operator, Happening::Forces(order));
        may(actors.operator, Happening::Unparks(order));
    }
}

impl Model for World {
    type State = Shop;
    type Action = Happening;

    fn init_states(&self) -> Vec<Shop> {
        let carriers: &[bool] = if self.scenario.actors.failure { &[true, false] } else { &[true] };
        let starts = self.scenario.stocks.iter().flat_map(|stock| {
            carriers.iter().map(|carrier| Shop::new(&self.scenario, *stock, *carrier))
        });
        let placed = starts.map(|mut shop| {
            // A client who clicks again has placed one order so far.
            let orders = if self.scenario.actors.client { 1 } else { shop.orders.len() as u8 };
            (0..orders).for_each(|order| fates::place(self, &mut shop, order, order));
            shop
        });
        placed.collect()
    }

    fn actions(&self, shop: &Shop, happenings: &mut Vec<Happening>) {
        let arrives = shop.post.next(self.scenario.network).into_iter().map(Happening::Arrives);
        happenings.extend(arrives);
        happenings.extend(shop.post.replayable().into_iter().map(Happening::Replays));
        if self.scenario.actors.client {
            happenings.push(Happening::Clicks);
        }
        (0..shop.orders.len() as u8).for_each(|order| self.acts(shop, order, happenings));
    }

    fn next_state(&self, shop: &Shop, happening: Happening) -> Option<Shop> {
        let mut next = shop.clone();
        self.happen(&mut next, happening);
        (next != *shop).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Arrives(Letter { to, message }) => {
                write!(f, "{to:?} gets {}", message.body.kind().name)?;
                message.order.map_or(Ok(()), |order| write!(f, " of {}", name(order)))
            }
            Self::Replays(Channel { reader, topic, order }) => {
                write!(f, "{reader:?} begins {topic} again")?;
                order.map_or(Ok(()), |order| write!(f, ", for {}", name(order)))
            }
            Self::Clicks => write!(f, "the client sends its request again"),
            Self::Cancels(order) => write!(f, "the customer cancels {}", name(order)),
            Self::Deadline(order) => write!(f, "the deadline of {} passes", name(order)),
            Self::Dispatches(order) => write!(f, "the goods of {} leave", name(order)),
            Self::Completes(order) => write!(f, "the goods of {} arrive", name(order)),
            Self::Fails(order) => write!(f, "the delivery of {} fails", name(order)),
            Self::LosesPatience(order) => write!(f, "the saga of {} waits too long", name(order)),
            Self::Forces(order) => write!(f, "an operator gives {} up", name(order)),
            Self::Unparks(order) => write!(f, "an operator lets {} go on", name(order)),
        }
    }
}

fn name(order: u8) -> char {
    char::from(b'A' + order)
}
