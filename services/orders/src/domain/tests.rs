//! The domain as a specification: the whole table of decisions, and histories in every order.

use proptest::prelude::*;

use super::*;

const MESSAGES: [Message; 16] = [
    Message::CancelOrder,
    Message::DeadlinePassed,
    Message::StockReserved,
    Message::ProductOutOfStock,
    Message::DeliveryStarted,
    Message::DeliveryCancelled,
    Message::DeliveryCancelRefused,
    Message::DeliveryCompleted,
    Message::DeliveryFailed,
    Message::Command(Command::ConfirmOrder),
    Message::Command(Command::CancelOrder(Reason::OutOfStock)),
    Message::Command(Command::CancelOrder(Reason::Customer)),
    Message::Command(Command::CancelOrder(Reason::DeliveryFailed)),
    Message::Command(Command::CancelOrder(Reason::TimedOut)),
    Message::Command(Command::RefuseCancel),
    Message::Command(Command::CompleteOrder),
];

const EVENTS: [Event; 5] = [
    Event::OrderConfirmed,
    Event::OrderCancelRequested,
    Event::OrderCancelled,
    Event::OrderCancelRefused,
    Event::OrderCompleted,
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
                Ok(Decision::Answer(event, outcome)) => format!("({outcome:?}), {event:?}"),
                Ok(other) => format!("({other:?})"),
                Err(refusal) => format!("refused: {refusal:?}"),
            };
            let message = match message {
                Message::Command(command) => format!("command {command:?}"),
                event_or_call => format!("{event_or_call:?}"),
            };
            table += &format!("{} | {message} -> {decided}\n", name(fate));
        }
    }
    table
}

#[test]
fn every_state_and_message_is_decided_as_the_table_says() {
    assert_eq!(table(), include_str!("table.txt"), "the table is now:\n{}", table());
}

/// What may come to an order that the orchestrator drives.
const DRIVEN: [Message; 9] = [
    Message::CancelOrder,
    Message::DeadlinePassed,
    Message::Command(Command::ConfirmOrder),
    Message::Command(Command::CancelOrder(Reason::OutOfStock)),
    Message::Command(Command::CancelOrder(Reason::Customer)),
    Message::Command(Command::CancelOrder(Reason::DeliveryFailed)),
    Message::Command(Command::CancelOrder(Reason::TimedOut)),
    Message::Command(Command::RefuseCancel),
    Message::Command(Command::CompleteOrder),
];

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

#[test]
fn a_command_cancels_a_confirmed_order_only_when_its_delivery_failed_or_its_customer_asked() {
    let cancel = |reason| Message::Command(Command::CancelOrder(reason));
    let requested = Fate { cancel: Cancel::Requested, ..CONFIRMED };
    let refused = Fate { cancel: Cancel::Refused, ..CONFIRMED };
    for fate in [CONFIRMED, refused] {
        let answer = Decision::Answer(Event::OrderConfirmed, Outcome::Ignored);
        assert_eq!(fate.decide(cancel(Reason::Customer)), Ok(answer));
    }
    for (fate, reason) in [(requested, Reason::Customer), (CONFIRMED, Reason::DeliveryFailed)] {
        let cancelled = Fate { state: State::Cancelled(reason), ..fate };
        let decision = Decision::Change(cancelled, Some(Event::OrderCancelled));
        assert_eq!(fate.decide(cancel(reason)), Ok(decision));
    }
}

#[test]
fn a_completion_by_command_refuses_the_wish_that_nobody_has_decided() {
    let requested = Fate { cancel: Cancel::Requested, ..CONFIRMED };
    let completed = Fate { state: State::Completed, cancel: Cancel::Refused, ..CONFIRMED };
    let decision = Decision::Change(completed, Some(Event::OrderCompleted));
    assert_eq!(requested.decide(Message::Command(Command::CompleteOrder)), Ok(decision));
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
        for once in EVENTS {
            prop_assert!(events.iter().filter(|event| **event == once).count() <= 1, "{events:?}");
        }
    }

    /// Calls, deadlines and commands in any order: every command is answered with where the order stands then, and a
    /// confirmed order is cancelled only because of its delivery.
    #[test]
    fn every_command_is_answered_with_where_the_order_stands(indices in prop::collection::vec(0..DRIVEN.len(), 0..40)) {
        let mut fate = Fate::PLACED;
        for message in indices.into_iter().map(|index| DRIVEN[index]) {
            let (next, answer) = match fate.decide(message) {
                Ok(Decision::Change(next, event)) => (next, event),
                Ok(Decision::Answer(event, _)) => (fate, Some(event)),
                Ok(_) => (fate, None),
                Err(Refusal::NotConfirmed) => {
                    prop_assert_eq!(fate.state, State::Pending);
                    continue;
                }
                Err(Refusal::ShippedAndCancelled) => {
                    prop_assert!(matches!(fate.state, State::Cancelled(_)));
                    continue;
                }
                Err(Refusal::CancelRefused | Refusal::Completed) => continue,
            };
            if matches!(message, Message::Command(_)) {
                let stands = match next.state {
                    State::Pending => None,
                    State::Confirmed | State::Completed if answer == Some(Event::OrderCancelRefused) => {
                        prop_assert_eq!(next.cancel, Cancel::Refused);
                        answer
                    }
                    State::Confirmed => Some(Event::OrderConfirmed),
                    State::Completed => Some(Event::OrderCompleted),
                    State::Cancelled(_) => Some(Event::OrderCancelled),
                };
                prop_assert_eq!(answer, stands, "{:?} of {:?}", message, fate);
            }
            if let (State::Confirmed, State::Cancelled(reason)) = (fate.state, next.state) {
                let asked = reason == Reason::Customer && fate.cancel == Cancel::Requested;
                prop_assert!(asked || reason == Reason::DeliveryFailed, "{:?} for {:?}", fate, reason);
            }
            fate = next;
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
