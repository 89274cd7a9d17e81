//! What the outside knows: which orders were acknowledged, what stock there was, and which messages are ours and not the
//! shop's. The shop is held to it afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

/// Where a message lies in Kafka.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// What is known, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// The acknowledged orders, each with the request that placed it, which is its customer too.
    pub orders: BTreeMap<Uuid, String>,
    /// Requests that were answered with a second order.
    pub placed_twice: Vec<(String, Uuid, Uuid)>,
    /// What was put into the stock of each product, and what was taken out of it by hand.
    pub stock: BTreeMap<String, i64>,
    /// Messages that somebody beside the relay has sent.
    pub injected: BTreeSet<Place>,
}

/// The ledger, written from many sides.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Entries>);

impl Ledger {
    /// An order was acknowledged.
    pub fn acknowledged(&self, order_id: Uuid, request_id: &str) {
        self.lock().orders.insert(order_id, request_id.to_owned());
    }

    /// A request was answered with one order, and then with another.
    pub fn placed_twice(&self, request_id: &str, first: Uuid, second: Uuid) {
        self.lock().placed_twice.push((request_id.to_owned(), first, second));
    }

    /// A product was made with so many pieces, or got so many more.
    pub fn stocked(&self, product_id: &str, pieces: i64) {
        *self.lock().stock.entry(product_id.to_owned()).or_default() += pieces;
    }

    /// A message is ours.
    pub fn injected(&self, place: Place) {
        self.lock().injected.insert(place);
    }

    /// One of the latest orders, if there is any: the `back`th from the end, as far as there are so many.
    pub fn recent(&self, back: usize) -> Option<Uuid> {
        // Ids grow with time.
        let entries = self.lock();
        let mut latest = entries.orders.keys().rev().take(back + 1);
        latest.next_back().copied()
    }

    /// All of it, as it is now.
    pub fn entries(&self) -> Entries {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
