//! Random histories: orders are placed, cancelled by customers and rolled back, by events or by commands, and what is told
//! about them arrives in any order, any number of times. Whatever happens, pieces neither appear nor vanish.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use proptest::prelude::*;

use super::{
    tests::{lines, product},
    *,
};

const NOW: DateTime<Utc> = DateTime::from_timestamp_nanos(1_700_000_000_000_000_000);
const PRODUCTS: [&str; 2] = ["tv", "clock"];

/// This service: its rows and its shelf, moved by the production code alone.
struct Products {
    rows: BTreeMap<usize, Reservation>,
    shelf: Shelf,
    initial: BTreeMap<String, i64>,
    decisions: u128,
}

impl Products {
    fn new(stock: [i64; 2]) -> Self {
        let shelf: Shelf =
            PRODUCTS.into_iter().zip(stock).map(|(id, stock)| product(id, stock)).collect();
        let initial = shelf.iter().map(|(id, product)| (id.clone(), product.stock)).collect();
        Self { rows: BTreeMap::new(), shelf, initial, decisions: 0 }
    }

    fn next_id(&mut self) -> Uuid {
        self.decisions += 1;
        Uuid::from_u128(self.decisions)
    }

    fn hear(&mut self, order: usize, message: &Message) -> Result<Decision, Contradiction> {
        let before = (self.rows.clone(), self.shelf.clone());
        let result = decide(self.rows.get(&order), message, &self.shelf, NOW);
        if let Ok(Decision::Applied(row, events)) = &result {
            let old = self.rows.insert(order, row.clone());
            assert!(forward(old.as_ref(), row), "{old:?} -> {row:?}");
            for event in events {
                let Event::ProductChanged(product) = event else { continue };
                let old = self.shelf.insert(product.product_id.clone(), product.clone());
                assert_eq!(old.map(|old| old.version + 1), Some(product.version));
            }
        } else {
            assert_eq!(before, (self.rows.clone(), self.shelf.clone()));
        }
        self.check();
        result
    }

    /// Free and held make what there was at the start.
    fn check(&self) {
        for (product_id, product) in &self.shelf {
            assert!(product.stock >= 0, "{product_id}: {}", product.stock);
            assert_eq!(
                product.stock + self.held(product_id),
                self.initial[product_id],
                "{product_id}"
            );
        }
    }

    fn held(&self, product_id: &str) -> i64 {
        let reserved = self.rows.values().filter_map(|row| match row {
            Reservation::Reserved { lines, .. } => Some(lines),
            _ => None,
        });
        let lines = reserved.flat_map(Lines::iter).filter(|line| line.product_id() == product_id);
        lines.map(|line| i64::from(line.quantity())).sum()
    }

    fn decision(&self, order: usize) -> Option<Uuid> {
        self.rows.get(&order).and_then(Reservation::decision_event_id)
    }

    fn stock(&self) -> Vec<i64> {
        self.shelf.values().map(|product| product.stock).collect()
    }
}

/// What a command was answered, and that it was answered once.
fn answer(decision: Decision) -> Event {
    let told = match decision {
        Decision::Applied(_, events) => events,
        Decision::Answered(_, answer) => vec![answer],
        Decision::Duplicate | Decision::OwnOrigin | Decision::Raced => Vec::new(),
    };
    let mut answers = told.into_iter().filter(|event| !matches!(event, Event::ProductChanged(_)));
    let answer = answers.next().expect("an answer");
    assert_eq!(answers.next(), None, "and only one");
    answer
}

fn forward(old: Option<&Reservation>, new: &Reservation) -> bool {
    match (old, new) {
        (None, Reservation::Released { .. }) => false,
        (None, _) | (Some(Reservation::Reserved { .. }), Reservation::Released { .. }) => true,
        _ => false,
    }
}

fn wanted() -> impl Strategy<Value = Lines> {
    prop_oneof![
        (1..5).prop_map(|tv| lines(&[("tv", tv)])),
        (1..5).prop_map(|clock| lines(&[("clock", clock)])),
        (1..5, 1..5).prop_map(|(tv, clock)| lines(&[("clock", clock), ("tv", tv)])),
    ]
}

/// An arbitrary message: causality is not asked.
#[derive(Clone, Debug)]
enum Arbitrary {
    Placed,
    Cancelled,
    CancelledByRejectionOf(usize),
    Reserve,
    Release,
}

fn arbitrary() -> impl Strategy<Value = (usize, Arbitrary)> {
    let message = prop_oneof![
        Just(Arbitrary::Placed),
        Just(Arbitrary::Cancelled),
        (0..4_usize).prop_map(Arbitrary::CancelledByRejectionOf),
        Just(Arbitrary::Reserve),
        Just(Arbitrary::Release),
    ];
    (0..4_usize, message)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_sequence_of_messages_makes_or_loses_a_piece(
        stock in [0..8_i64, 0..8_i64],
        orders in prop::collection::vec(wanted(), 4),
        messages in prop::collection::vec(arbitrary(), 0..40),
    ) {
        let mut products = Products::new(stock);
        for (order, message) in messages {
            let decision_event_id = products.next_id();
            let message = match message {
                Arbitrary::Placed => Message::OrderPlaced { lines: orders[order].clone(), decision_event_id },
                Arbitrary::Cancelled => Message::OrderCancelled { own_rejection: None },
                Arbitrary::CancelledByRejectionOf(other) => {
                    let claimed = products.rows.get(&other).and_then(Reservation::decision_event_id);
                    Message::OrderCancelled { own_rejection: Some(claimed.unwrap_or(decision_event_id)) }
                }
                Arbitrary::Reserve => Message::ReserveStock { lines: orders[order].clone(), decision_event_id },
                Arbitrary::Release => Message::ReleaseStock,
            };
            let honest = !matches!(&message, Message::OrderCancelled { own_rejection: Some(_) });
            let result = products.hear(order, &message);
            prop_assert!(!honest || result.is_ok());
        }
    }

    #[test]
    fn where_there_is_enough_every_permutation_with_duplicates_ends_the_same(
        orders in prop::collection::vec((wanted(), any::<bool>()), 1..6),
        order_of_arrival in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        rest in any::<prop::sample::Index>(),
        commanded in any::<bool>(),
    ) {
        let mut products = Products::new([100, 100]);
        let mut told = Vec::new();
        for (order, (_, cancelled)) in orders.iter().enumerate() {
            told.push((order, false));
            if *cancelled {
                told.push((order, true));
            }
        }
        // Some of them early, or twice; then each of them at least once, from somewhere on.
        let mut arrivals: Vec<_> = order_of_arrival.iter().map(|index| *index.get(&told)).collect();
        let first = rest.index(told.len());
        told.rotate_left(first);
        arrivals.extend(told);
        for (order, is_cancel) in arrivals {
            let decision_event_id = products.next_id();
            let lines = orders[order].0.clone();
            let message = match (commanded, is_cancel) {
                (false, false) => Message::OrderPlaced { lines, decision_event_id },
                (false, true) => Message::OrderCancelled { own_rejection: None },
                (true, false) => Message::ReserveStock { lines, decision_event_id },
                (true, true) => Message::ReleaseStock,
            };
            products.hear(order, &message).unwrap();
        }
        let mut expected = Products::new([100, 100]);
        for (order, (lines, _)) in orders.iter().enumerate().filter(|(_, (_, cancelled))| !cancelled) {
            let decision_event_id = expected.next_id();
            expected.hear(order, &Message::OrderPlaced { lines: lines.clone(), decision_event_id }).unwrap();
        }
        prop_assert_eq!(products.stock(), expected.stock());
        for (order, (_, cancelled)) in orders.iter().enumerate() {
            let state = products.rows[&order].state();
            let undone = ["RELEASED", "TOMBSTONE"].contains(&state);
            prop_assert!(state == "RESERVED" && !cancelled || undone && *cancelled, "{}", state);
        }
    }

    /// The orchestrator repeats and overtakes itself, and asks for a release at the end: each time it is told what stands.
    #[test]
    fn every_command_is_answered_with_what_stands_and_after_a_release_nothing_is_held(
        stock in 0..8_i64,
        wanted in wanted(),
        releases in prop::collection::vec(any::<bool>(), 0..12),
    ) {
        let mut products = Products::new([stock, stock]);
        let before = products.stock();
        for release in releases.into_iter().chain([true, false]) {
            let decision_event_id = products.next_id();
            let command = if release {
                Message::ReleaseStock
            } else {
                Message::ReserveStock { lines: wanted.clone(), decision_event_id }
            };
            let decided = products.decision(0);
            let answer = answer(products.hear(0, &command).unwrap());
            let told = match (&products.rows[&0], release) {
                (Reservation::Reserved { lines, .. }, false) => Event::StockReserved { decision_event_id, lines: lines.clone() },
                (Reservation::Rejected { shortages, .. }, false) => {
                    Event::ProductOutOfStock { decision_event_id, shortages: shortages.clone() }
                }
                (row, _) => Event::StockReleased { lines: row.lines().cloned() },
            };
            prop_assert_eq!(answer, told);
            prop_assert!(decided.is_none() || products.decision(0) == decided, "the decision's id has changed");
        }
        prop_assert_eq!(products.stock(), before);
    }

    #[test]
    fn an_honest_history_ends_with_the_stock_of_the_orders_that_hold(
        stock in [0..8_i64, 0..8_i64],
        orders in prop::collection::vec((wanted(), any::<bool>()), 1..5),
        schedule in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..60),
    ) {
        let mut network = Network::new(stock, &orders);
        for (index, again) in schedule {
            if !network.in_flight.is_empty() {
                network.step(index.index(network.in_flight.len()), again);
            }
        }
        while !network.in_flight.is_empty() {
            network.step(0, false);
        }
        for (order, row) in &network.products.rows {
            let holds = matches!(row, Reservation::Reserved { .. });
            prop_assert_eq!(holds, !network.cancelled.contains(order), "order {}: {:?}", order, row);
        }
        prop_assert_eq!(network.products.rows.len(), orders.len());
    }
}

/// orders and this service, and what travels between them: unordered, duplicated, never lost.
struct Network {
    products: Products,
    orders: Vec<Lines>,
    in_flight: Vec<(usize, Travelling)>,
    /// The one register: an order is cancelled once.
    cancelled: BTreeSet<usize>,
}

#[derive(Clone, Copy)]
enum Travelling {
    Placed,
    CustomerCancels,
    Cancelled { own_rejection: Option<Uuid> },
    OutOfStock { event_id: Uuid },
}

impl Network {
    fn new(stock: [i64; 2], orders: &[(Lines, bool)]) -> Self {
        let mut in_flight = Vec::new();
        for (order, (_, customer_cancels)) in orders.iter().enumerate() {
            in_flight.push((order, Travelling::Placed));
            if *customer_cancels {
                in_flight.push((order, Travelling::CustomerCancels));
            }
        }
        Self {
            products: Products::new(stock),
            orders: orders.iter().map(|(lines, _)| lines.clone()).collect(),
            in_flight,
            cancelled: BTreeSet::new(),
        }
    }

    /// One message arrives; with `again`, it will arrive once more.
    fn step(&mut self, at: usize, again: bool) {
        let (order, message) =
            if again { self.in_flight[at] } else { self.in_flight.swap_remove(at) };
        match message {
            Travelling::CustomerCancels => self.cancel(order, None),
            Travelling::OutOfStock { event_id } => self.cancel(order, Some(event_id)),
            Travelling::Placed => {
                let decision_event_id = self.products.next_id();
                let lines = self.orders[order].clone();
                self.hear(order, &Message::OrderPlaced { lines, decision_event_id });
            }
            Travelling::Cancelled { own_rejection } => {
                self.hear(order, &Message::OrderCancelled { own_rejection });
            }
        }
    }

    fn cancel(&mut self, order: usize, own_rejection: Option<Uuid>) {
        if self.cancelled.insert(order) {
            self.in_flight.push((order, Travelling::Cancelled { own_rejection }));
        }
    }

    /// An honest history is never quarantined.
    fn hear(&mut self, order: usize, message: &Message) {
        let Decision::Applied(_, events) = self.products.hear(order, message).unwrap() else {
            return;
        };
        for event in events {
            if let Event::ProductOutOfStock { decision_event_id: event_id, .. } = event {
                self.in_flight.push((order, Travelling::OutOfStock { event_id }));
            }
        }
    }
}
