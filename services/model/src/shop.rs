//! The state of the whole shop: the rows of every service as production has them, and what travels between them.

use std::{fmt, sync::Arc};

use orchestrator::saga::Saga;
use orders::domain::{Fate, State};
use products::domain::Reservation;

use crate::{
    network::{Letter, Post},
    scenario::Scenario,
};

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shop {
    /// What every service knows about each order.
    pub orders: Vec<Order>,
    /// The product.
    pub product: Product,
    /// The product as orders last heard of it.
    pub replica: Product,
    /// Pieces there were at the start.
    pub initial: u8,
    /// Whether some carrier delivers.
    pub carrier: bool,
    /// The request ids that are claimed.
    pub claims: Vec<u8>,
    /// What is on its way.
    pub post: Post,
    /// What happened that must not.
    pub seen: Seen,
}

/// One order, as the four services have it. A row that is not there: not heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Order {
    /// orders: what is decided.
    pub fate: Option<Fate>,
    /// products: what is held.
    pub reservation: Option<Arc<Reservation>>,
    /// delivery: where it stands.
    pub delivery: Option<Arc<delivery::domain::State>>,
    /// The orchestrator: its saga.
    pub saga: Option<Arc<Saga>>,
    /// How often what its saga waits for was sent.
    pub attempts: u8,
    /// How often the orchestrator has lost its patience.
    pub impatience: u8,
    /// How often it was decided that it is cancelled.
    pub cancellations: u8,
    /// How often a piece was taken for it.
    pub reservations: u8,
}

/// The one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// Pieces that can be reserved.
    pub stock: u8,
    /// Grows with every change.
    pub version: u8,
}

/// What a single state does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// A message was refused: in production its key is parked until a person looks.
    pub quarantine: Option<Letter>,
    /// The replica went back to an older version.
    pub replica_went_back: bool,
}

impl Shop {
    /// At the start, with so many pieces; nothing is placed.
    pub fn new(scenario: &Scenario, stock: u8, carrier: bool) -> Self {
        let product = Product { stock, version: 1 };
        Self {
            orders: vec![Order::default(); scenario.orders.len()],
            product,
            replica: product,
            initial: stock,
            carrier,
            claims: Vec::new(),
            post: Post::new(scenario.network),
            seen: Seen::default(),
        }
    }

    /// One of the orders.
    pub fn order(&self, order: u8) -> &Order {
        &self.orders[usize::from(order)]
    }

    /// One of the orders, to be changed.
    pub fn order_mut(&mut self, order: u8) -> &mut Order {
        &mut self.orders[usize::from(order)]
    }

    /// Pieces that orders hold.
    pub fn held(&self) -> usize {
        self.orders.iter().filter(|order| order.holds()).count()
    }
}

impl fmt::Display for Shop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in stock", self.product.stock)?;
        if self.carrier { Ok(()) } else { write!(f, ", no carrier") }
    }
}

impl Order {
    /// Whether a piece is held for it.
    pub fn holds(&self) -> bool {
        matches!(self.reservation.as_deref(), Some(Reservation::Reserved { .. }))
    }

    /// Whether its goods have left.
    pub fn is_shipped(&self) -> bool {
        use delivery::domain::State::{Completed, Dispatched};
        matches!(self.delivery.as_deref(), Some(Dispatched(_) | Completed(_)))
    }

    /// Whether it is decided that it is called off.
    pub fn is_cancelled(&self) -> bool {
        self.fate.is_some_and(|fate| matches!(fate.state, State::Cancelled(_)))
    }
}
