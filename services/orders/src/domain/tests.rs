//! The domain as a specification: the whole table of decisions, and histories in every order.

use proptest::prelude::*;

use super::*;

const MESSAGES: [Message; 9] = [
    Message::CancelOrder,
    Message::DeadlinePassed,
    Message::StockReserved,
    Message::ProductOutOfStock,
    Message::DeliveryStarted,
    Message::DeliveryCancelled,
    Message::DeliveryCancelRefused,
    Message::DeliveryCompleted,
    Message::DeliveryFailed,
];

const CONFIRMED: Fate = Fate {
    state: State::Confirmed,
    cancel: Cancel::None,
    stock_reserved: true,
    delivery_started: true,
};

fn fates() -> Vec<Fate> {
    let pending = |stock_reserved, delivery_started| Fate {
        stock_reserved,
        delivery_started,
        ..Fate::PLACED
    };
    vec![
        Fate::PLACED,
        pending(true, false),
        pending(false, true),
        CONFIRMED,
        Fate { cancel: Cancel::Requested, ..CONFIRMED },
        Fate { cancel: Cancel::Refused, ..CONFIRMED },
        Fate { state: State::Cancelled(Reason::OutOfStock), ..Fate::PLACED },
        Fate { state: State::Cancelled(Reason::Customer), ..Fate::PLACED },
        Fate { state: State::Cancelled(Reason::DeliveryFailed), ..CONFIRMED },
        Fate { state: State::Cancelled(Reason::TimedOut), ..Fate::PLACED },
        Fate { state: State::Completed, ..CONFIRMED },
        Fate { state: State::Completed, cancel: Cancel::Refused, ..CONFIRMED },
    ]
}

fn name(fate: Fate) -> String {
    let facts = match (fate.stock_reserved, fate.delivery_started) {
        (true, false) => " +stock",
        (false, true) => " +delivery",
        _ => "",
    };
    let cancel =
        if fate.cancel == Cancel::None { String::new() } else { format!(" {:?}", fate.cancel) };
    format!("{:?}{cancel}{facts}", fate.state)
}

fn table() -> String {
    let mut table = String::new();
    for fate in fates() {
        for message in MESSAGES {
            let decided = match fate.decide(message) {
                Ok(Decision::Change(next, event)) => {
                    format!(
                        "{}{}",
                        name(next),
                        event.map(|event| format!(", {event:?}")).unwrap_or_default()
                    )
                }
                Ok(other) => format!("({other:?})"),
                Err(refusal) => format!("refused: {refusal:?}"),
            };
            table += &format!("{} | {message:?} -> {decided}\n", name(fate));
        }
    }
    table
}

#[test]
fn every_state_and_message_is_decided_as_the_table_says() {
    assert_eq!(table(), include_str!("table.txt"), "the table is now:\n{}", table());
}

#[test]
fn both_facts_confirm_in_whichever_order_they_come() {
    for facts in [
        [Message::StockReserved, Message::DeliveryStarted],
        [Message::DeliveryStarted, Message::StockReserved],
    ] {
        let (fate, events) = run(facts);
        assert_eq!(fate.state, State::Confirmed);
        assert_eq!(events, [Event::OrderConfirmed]);
    }
}

#[test]
fn a_confirmed_order_is_cancelled_only_through_delivery() {
    let (fate, events) =
        run([Message::StockReserved, Message::DeliveryStarted, Message::CancelOrder]);
    assert_eq!((fate.state, fate.cancel), (State::Confirmed, Cancel::Requested));
    assert_eq!(events, [Event::OrderConfirmed, Event::OrderCancelRequested]);
}

fn run(messages: impl IntoIterator<Item = Message>) -> (Fate, Vec<Event>) {
    let mut fate = Fate::PLACED;
    let mut events = Vec::new();
    for message in messages {
        if let Ok(Decision::Change(next, event)) = fate.decide(message) {
            fate = next;
            events.extend(event);
        }
    }
    (fate, events)
}

proptest! {
    /// Whatever comes, in whatever order and however often: a final fate stays, facts are never forgotten, the order is
    /// confirmed and cancelled at most once, and confirmed only with both facts.
    #[test]
    fn fates_only_move_forward(indices in prop::collection::vec(0..MESSAGES.len(), 0..40)) {
        let mut fate = Fate::PLACED;
        let mut events = Vec::new();
        for message in indices.into_iter().map(|index| MESSAGES[index]) {
            let Ok(Decision::Change(next, event)) = fate.decide(message) else { continue };
            prop_assert!(!fate.is_final(), "{fate:?} left by {message:?}");
            prop_assert!(next.stock_reserved >= fate.stock_reserved && next.delivery_started >= fate.delivery_started);
            prop_assert!(next.state != State::Confirmed || (next.stock_reserved && next.delivery_started));
            events.extend(event);
            fate = next;
        }
        for once in [Event::OrderConfirmed, Event::OrderCancelled, Event::OrderCancelRequested] {
            prop_assert!(events.iter().filter(|event| **event == once).count() <= 1, "{events:?}");
        }
    }

    /// A message that comes twice in a row changes nothing the second time.
    #[test]
    fn a_duplicate_changes_nothing(indices in prop::collection::vec(0..MESSAGES.len(), 0..20)) {
        let once: Vec<_> = indices.iter().map(|index| MESSAGES[*index]).collect();
        let twice: Vec<_> = once.iter().flat_map(|message| [*message, *message]).collect();
        prop_assert_eq!(run(once), run(twice));
    }
}
