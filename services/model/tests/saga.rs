//! The saga as it is in production breaks nothing, and each of its rules is missed; both as the README keeps it.

use std::collections::{BTreeSet, HashSet};

use model::{checking::World, report, scenario};
use orchestrator::order::V1;
use orders::domain::{Reason, State};
use stateright::Model as _;

const README: &str = include_str!("../README.md");

/// The rows of a table, without how long they took.
fn rows(text: &str, untimed: bool) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with('|'));
    lines
        .map(|line| {
            let cells = line.trim_matches('|').rsplit_once('|').filter(|_| untimed);
            cells.map_or(line, |(cells, _)| cells).trim_matches('|').trim().to_owned()
        })
        .collect()
}

#[test]
fn every_property_holds_in_every_state() {
    let mut out = Vec::new();
    let holds = report::proofs(&mut out, scenario::all(false), 1).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(holds, "{out}");
    let kept = rows(README, true);
    for row in rows(&out, true).into_iter().skip(2) {
        assert!(kept.contains(&row), "the README does not have {row}; the table is now:\n{out}");
    }
}

#[test]
fn every_rule_that_is_left_out_is_missed() {
    let mut out = Vec::new();
    let missed = report::table(&mut out, 1).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(missed, "{out}");
    let kept = rows(README, false);
    for row in rows(&out, false) {
        assert!(kept.contains(&row), "the README does not have {row}; the table is now:\n{out}");
    }
}

/// A model in which nothing happens breaks nothing either.
#[test]
fn every_saga_state_and_every_end_of_an_order_is_come_to() {
    let scenarios = scenario::all(false).into_iter();
    let world = scenarios.map(|it| World::new(it, None).unwrap()).nth(4).unwrap();
    assert_eq!(world.scenario.name, "one order, orchestration");
    let (mut seen, mut next) = (HashSet::new(), world.init_states());
    let (mut sagas, mut fates) = (BTreeSet::new(), HashSet::new());
    while let Some(shop) = next.pop() {
        if seen.contains(&shop) {
            continue;
        }
        next.extend(world.next_states(&shop));
        sagas.extend(shop.orders[0].saga.as_ref().map(|saga| saga.state));
        fates.extend(shop.orders[0].fate.map(|fate| fate.state));
        seen.insert(shop);
    }
    let states = V1.states.iter().map(|state| state.name).filter(|name| *name != V1.resolved);
    assert_eq!(sagas, states.collect());
    let reasons = [Reason::OutOfStock, Reason::Customer, Reason::DeliveryFailed, Reason::TimedOut];
    let ends = reasons.map(State::Cancelled).into_iter().chain([State::Completed]);
    assert!(ends.into_iter().all(|end| fates.contains(&end)), "{fates:?}");
}
