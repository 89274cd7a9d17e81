//! The specification of the state machine, as given / when / then, and its whole table in table.txt.

use std::fmt::Write as _;

use super::*;

const OURS: Uuid = Uuid::from_u128(1);
const NEXT: Uuid = Uuid::from_u128(2);

fn path_of(causes: &[Uuid]) -> CausalPath {
    causes
        .iter()
        .fold(CausalPath::default(), |path, cause| path.then("delivery", "Something", *cause))
}

fn states() -> [(&'static str, Option<State>); 10] {
    [
        ("none", None),
        ("STARTED", Some(State::Started)),
        ("READY", Some(State::Ready)),
        ("DISPATCHED", Some(State::Dispatched(Late::NoCancel))),
        ("DISPATCHED, refused", Some(State::Dispatched(Late::CancelRefused))),
        ("COMPLETED", Some(State::Completed(Late::NoCancel))),
        ("COMPLETED, refused", Some(State::Completed(Late::CancelRefused))),
        ("CANCELLED", Some(State::Cancelled { told_by: OURS })),
        ("FAILED", Some(State::Failed { told_by: OURS, reason: "lost".to_owned() })),
        ("TOMBSTONE", Some(State::Tombstone)),
    ]
}

fn name(state: &State) -> &'static str {
    match state {
        State::Started => "STARTED",
        State::Ready => "READY",
        State::Dispatched(Late::NoCancel) => "DISPATCHED",
        State::Dispatched(Late::CancelRefused) => "DISPATCHED, refused",
        State::Completed(Late::NoCancel) => "COMPLETED",
        State::Completed(Late::CancelRefused) => "COMPLETED, refused",
        State::Cancelled { .. } => "CANCELLED",
        State::Failed { .. } => "FAILED",
        State::Tombstone => "TOMBSTONE",
    }
}

/// Every (message, state) pair with what is decided.
fn table() -> String {
    let (ours, foreign) = (path_of(&[OURS]), path_of(&[]));
    let heard = [
        ("OrderPlaced", Heard::OrderPlaced { carrier: true }),
        ("OrderPlaced, no carrier", Heard::OrderPlaced { carrier: false }),
        ("OrderConfirmed", Heard::OrderConfirmed),
        ("OrderCancelRequested", Heard::OrderCancelRequested),
        ("OrderCancelled", Heard::OrderCancelled { path: &foreign }),
        ("OrderCancelled, our own doing", Heard::OrderCancelled { path: &ours }),
        ("StartDelivery", Heard::StartDelivery { carrier: true }),
        ("StartDelivery, no carrier", Heard::StartDelivery { carrier: false }),
        ("ReadyDelivery", Heard::ReadyDelivery),
        ("CancelDelivery", Heard::CancelDelivery),
    ];
    let calls = [
        ("DispatchDelivery", Call::Dispatch),
        ("CompleteDelivery", Call::Complete),
        ("FailDelivery", Call::Fail { reason: "lost".to_owned() }),
    ];
    let mut table = String::new();
    for (message, heard) in heard {
        writeln!(table, "{message}").unwrap();
        for (from, state) in states() {
            let verdict = match react(state.as_ref(), heard, NEXT) {
                Ok(Decision::Becomes(next)) => format!("-> {}", name(&next)),
                Ok(Decision::Tells(next, told)) => format!("-> {}, Delivery{told:?}", name(&next)),
                Ok(Decision::Answers(told, outcome)) => {
                    format!("Delivery{told:?} ({})", outcome.as_str())
                }
                Ok(Decision::Nothing(outcome)) => format!("nothing ({})", outcome.as_str()),
                Err(contradiction) => format!("parks: {contradiction}"),
            };
            writeln!(table, "    {from:<20} {verdict}").unwrap();
        }
    }
    for (message, call) in calls {
        writeln!(table, "{message}").unwrap();
        for (from, state) in states() {
            // Without a row, the call is answered NOT_FOUND before there is anything to decide.
            let verdict =
                match state.map_or(Err(Refusal::NotFound), |state| act(&state, &call, NEXT)) {
                    Ok((next, told)) => format!("-> {}, Delivery{told:?}", name(&next)),
                    Err(refusal) => format!("refused: {refusal:?}"),
                };
            writeln!(table, "    {from:<20} {verdict}").unwrap();
        }
    }
    table
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "for people: cargo test -p delivery the_whole_table_is_printed -- --nocapture"
)]
fn the_whole_table_is_printed() {
    println!("{}", table());
}

#[test]
fn every_pair_of_state_and_message_is_decided_as_the_table_says() {
    let expected: Vec<_> = include_str!("table.txt").lines().collect();
    assert_eq!(table().lines().collect::<Vec<_>>(), expected);
}

fn hear(state: Option<State>, heard: Heard<'_>) -> Decision {
    react(state.as_ref(), heard, NEXT).unwrap()
}

#[test]
fn a_placed_order_opens_a_delivery() {
    assert_eq!(
        hear(None, Heard::OrderPlaced { carrier: true }),
        Decision::Tells(State::Started, Told::Started)
    );
}

#[test]
fn an_address_without_a_carrier_fails_at_once_and_says_why() {
    let Decision::Tells(State::Failed { told_by, reason }, Told::Failed) =
        hear(None, Heard::OrderPlaced { carrier: false })
    else {
        panic!("it did not fail");
    };
    assert_eq!((told_by, reason.as_str()), (NEXT, NO_CARRIER));
}

#[test]
fn a_late_placement_meets_the_tombstone() {
    let Decision::Becomes(tombstone) = hear(None, Heard::OrderCancelled { path: &path_of(&[]) })
    else {
        panic!("no tombstone");
    };
    assert_eq!(
        hear(Some(tombstone), Heard::OrderPlaced { carrier: true }),
        Decision::Nothing(Outcome::Raced)
    );
}

#[test]
fn a_delivery_cannot_be_dispatched_before_its_order_is_confirmed() {
    assert_eq!(act(&State::Started, &Call::Dispatch, NEXT), Err(Refusal::NotReady));
    let Decision::Becomes(ready) = hear(Some(State::Started), Heard::OrderConfirmed) else {
        panic!("not ready")
    };
    assert_eq!(
        act(&ready, &Call::Dispatch, NEXT),
        Ok((State::Dispatched(Late::NoCancel), Told::Dispatched))
    );
}

#[test]
fn a_cancelled_order_cannot_be_dispatched() {
    let Decision::Tells(cancelled, Told::Cancelled) =
        hear(Some(State::Ready), Heard::OrderCancelRequested)
    else {
        panic!("not cancelled");
    };
    assert_eq!(act(&cancelled, &Call::Dispatch, NEXT), Err(Refusal::Cancelled));
}

#[test]
fn a_cancellation_after_dispatch_is_refused_once() {
    let Decision::Tells(refused, Told::CancelRefused) =
        hear(Some(State::Dispatched(Late::NoCancel)), Heard::OrderCancelRequested)
    else {
        panic!("not refused");
    };
    assert_eq!(
        hear(Some(refused.clone()), Heard::OrderCancelRequested),
        Decision::Nothing(Outcome::Duplicate)
    );
    let (completed, _) = act(&refused, &Call::Complete, NEXT).unwrap();
    assert_eq!(
        hear(Some(completed), Heard::OrderCancelRequested),
        Decision::Nothing(Outcome::Duplicate)
    );
}

#[test]
fn the_cancellation_that_follows_from_our_own_event_is_recognised() {
    let path = path_of(&[OURS]);
    for state in [
        State::Cancelled { told_by: OURS },
        State::Failed { told_by: OURS, reason: "lost".to_owned() },
    ] {
        assert_eq!(
            hear(Some(state), Heard::OrderCancelled { path: &path }),
            Decision::Nothing(Outcome::OwnOrigin)
        );
    }
}

#[test]
fn a_cancellation_that_crossed_our_failure_has_raced_it() {
    let failed = State::Failed { told_by: OURS, reason: "lost".to_owned() };
    let customer = path_of(&[NEXT]);
    assert_eq!(
        hear(Some(failed), Heard::OrderCancelled { path: &customer }),
        Decision::Nothing(Outcome::Raced)
    );
}

#[test]
fn a_cancelled_order_whose_goods_have_left_is_for_a_person() {
    let path = path_of(&[]);
    for state in [State::Dispatched(Late::NoCancel), State::Completed(Late::CancelRefused)] {
        assert_eq!(
            react(Some(&state), Heard::OrderCancelled { path: &path }, NEXT),
            Err(Contradiction::CancelledAfterDispatch)
        );
    }
}

#[test]
fn an_answer_to_a_delivery_that_was_never_opened_is_for_a_person() {
    for heard in [Heard::OrderConfirmed, Heard::OrderCancelRequested] {
        assert_eq!(react(None, heard, NEXT), Err(Contradiction::NeverOpened));
        assert_eq!(react(Some(&State::Tombstone), heard, NEXT), Err(Contradiction::NeverOpened));
    }
}

#[test]
fn an_address_is_known_by_its_beginning() {
    let carriers = Carriers { none_to: vec!["Atlantis".to_owned(), String::new()] };
    assert!(!carriers.reach("Atlantis, Main Street 1"));
    assert!(carriers.reach("서울시") && carriers.reach("New Atlantis") && carriers.reach(""));
}
