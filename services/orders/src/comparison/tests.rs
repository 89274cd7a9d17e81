//! The whole table: every fate an order can have, with every pair of rows of the others, in both styles.

use std::fmt::Write as _;

use super::*;

const RESERVATIONS: [Option<Reservation>; 5] = [
    None,
    Some(Reservation::Reserved),
    Some(Reservation::Released),
    Some(Reservation::Rejected),
    Some(Reservation::Tombstone),
];

const DELIVERIES: [Option<Delivery>; 8] = [
    None,
    Some(Delivery::Started),
    Some(Delivery::Ready),
    Some(Delivery::Dispatched { cancel_refused: false }),
    Some(Delivery::Dispatched { cancel_refused: true }),
    Some(Delivery::Completed),
    Some(Delivery::Cancelled),
    Some(Delivery::Failed),
];

const CONFIRMED: Fate = Fate {
    state: State::Confirmed,
    cancel: Cancel::None,
    stock_reserved: true,
    delivery_started: true,
};

fn cancelled_for(reason: Reason) -> Fate {
    Fate { state: State::Cancelled(reason), ..Fate::PLACED }
}

fn fates() -> [(&'static str, Fate); 10] {
    [
        ("pending", Fate::PLACED),
        ("pending, stock known", Fate { stock_reserved: true, ..Fate::PLACED }),
        ("pending, delivery known", Fate { delivery_started: true, ..Fate::PLACED }),
        ("confirmed", CONFIRMED),
        ("confirmed, cancel requested", Fate { cancel: Cancel::Requested, ..CONFIRMED }),
        ("confirmed, cancel refused", Fate { cancel: Cancel::Refused, ..CONFIRMED }),
        ("cancelled, out of stock", cancelled_for(Reason::OutOfStock)),
        ("cancelled by the customer", cancelled_for(Reason::Customer)),
        ("completed", Fate { state: State::Completed, ..CONFIRMED }),
        (
            "completed, cancel refused",
            Fate { state: State::Completed, cancel: Cancel::Refused, ..CONFIRMED },
        ),
    ]
}

fn every_pair() -> impl Iterator<Item = Rows> {
    RESERVATIONS.into_iter().flat_map(|reservation| {
        DELIVERIES.into_iter().map(move |delivery| Rows { reservation, delivery })
    })
}

fn delivery_name(delivery: Option<Delivery>) -> String {
    match delivery {
        None => "none".to_owned(),
        Some(Delivery::Dispatched { cancel_refused: true }) => "Dispatched (refused)".to_owned(),
        Some(Delivery::Dispatched { cancel_refused: false }) => "Dispatched".to_owned(),
        Some(delivery) => format!("{delivery:?}"),
    }
}

fn verdict_name(fate: Fate, rows: Rows) -> String {
    let verdict = compare(fate, Coordination::Choreography, rows);
    let driven = compare(fate, Coordination::Orchestration, rows);
    if verdict == driven {
        format!("{verdict:?}")
    } else {
        format!("{verdict:?}, orchestrated {driven:?}")
    }
}

/// Fate, reservation, and the deliveries that lead to one verdict with them.
fn table() -> String {
    let mut table = String::new();
    for ((fate_name, fate), reservation) in
        fates().into_iter().flat_map(|fate| RESERVATIONS.map(|reservation| (fate, reservation)))
    {
        let mut verdicts: Vec<(String, Vec<String>)> = Vec::new();
        for delivery in DELIVERIES {
            let verdict = verdict_name(fate, Rows { reservation, delivery });
            match verdicts.iter_mut().find(|(name, _)| *name == verdict) {
                Some((_, deliveries)) => deliveries.push(delivery_name(delivery)),
                None => verdicts.push((verdict, vec![delivery_name(delivery)])),
            }
        }
        let reservation = reservation.map_or("none".to_owned(), |it| format!("{it:?}"));
        for (verdict, deliveries) in verdicts {
            let deliveries = if deliveries.len() == DELIVERIES.len() {
                "any".to_owned()
            } else {
                deliveries.join(", ")
            };
            writeln!(table, "{fate_name} | {reservation} | {deliveries} -> {verdict}").unwrap();
        }
    }
    table
}

#[test]
fn every_combination_is_judged_as_the_table_says() {
    assert_eq!(table(), include_str!("table.txt"), "the table is now:\n{}", table());
}

#[test]
fn what_follows_from_heard_events_alone_agrees() {
    let agreed = [
        (CONFIRMED, Some(Reservation::Reserved), Some(Delivery::Ready)),
        (cancelled_for(Reason::OutOfStock), Some(Reservation::Rejected), Some(Delivery::Cancelled)),
        (cancelled_for(Reason::Customer), Some(Reservation::Released), Some(Delivery::Cancelled)),
        (cancelled_for(Reason::Customer), Some(Reservation::Tombstone), None),
        (cancelled_for(Reason::TimedOut), None, None),
        (
            cancelled_for(Reason::DeliveryFailed),
            Some(Reservation::Released),
            Some(Delivery::Failed),
        ),
        (
            Fate { state: State::Completed, ..CONFIRMED },
            Some(Reservation::Reserved),
            Some(Delivery::Completed),
        ),
    ];
    for (fate, reservation, delivery) in agreed {
        for coordination in [Coordination::Choreography, Coordination::Orchestration] {
            let verdict = compare(fate, coordination, Rows { reservation, delivery });
            assert_eq!(verdict, Agreed, "{fate:?}, {reservation:?}, {delivery:?}");
        }
    }
}

/// A fact that is learned is news, and never one that a person must look at.
#[test]
fn whatever_is_to_be_learned_changes_the_order() {
    let mut learned = 0;
    for ((_, fate), rows) in
        fates().into_iter().flat_map(|fate| every_pair().map(move |rows| (fate, rows)))
    {
        if let Learn(message) = compare(fate, Coordination::Choreography, rows) {
            let decision = fate.decide(message);
            assert!(
                matches!(decision, Ok(crate::domain::Decision::Change(..))),
                "{fate:?} is told {message:?} by {rows:?}: {decision:?}"
            );
            learned += 1;
        }
    }
    assert!(learned > 20, "{learned}");
}
