//! The orchestrator's commands, decided on the row: each is answered with what stands, also when nothing has to change.

use chassis::trail::Outcome;
use uuid::Uuid;

use super::{Contradiction, Decision, Late, State, Told, call_off, open};

pub(super) fn start(current: Option<&State>, carrier: bool, event_id: Uuid) -> Decision {
    match current {
        None => open(carrier, event_id),
        Some(State::Started | State::Ready | State::Dispatched(_) | State::Completed(_)) => {
            Decision::Answers(Told::Started, Outcome::Duplicate)
        }
        Some(State::Failed { .. }) => Decision::Answers(Told::Failed, Outcome::Duplicate),
        Some(State::Cancelled { .. }) => Decision::Answers(Told::Cancelled, Outcome::Duplicate),
        Some(State::Tombstone) => Decision::Answers(Told::Cancelled, Outcome::Raced),
    }
}

pub(super) fn ready(current: Option<&State>) -> Result<Decision, Contradiction> {
    match current {
        Some(State::Started) => Ok(Decision::Tells(State::Ready, Told::Ready)),
        Some(State::Ready | State::Dispatched(_) | State::Completed(_)) => {
            Ok(Decision::Answers(Told::Ready, Outcome::Duplicate))
        }
        Some(State::Failed { .. }) => Ok(Decision::Answers(Told::Failed, Outcome::Raced)),
        Some(State::Cancelled { .. } | State::Tombstone) => {
            Ok(Decision::Answers(Told::Cancelled, Outcome::Raced))
        }
        None => Err(Contradiction::NothingToReady),
    }
}

pub(super) fn cancel(current: Option<&State>, event_id: Uuid) -> Decision {
    match current {
        None => Decision::Tells(State::Tombstone, Told::Cancelled),
        Some(State::Started | State::Ready) => call_off(event_id),
        Some(State::Dispatched(Late::NoCancel)) => {
            Decision::Tells(State::Dispatched(Late::CancelRefused), Told::CancelRefused)
        }
        Some(State::Completed(Late::NoCancel)) => {
            Decision::Tells(State::Completed(Late::CancelRefused), Told::CancelRefused)
        }
        Some(State::Dispatched(Late::CancelRefused) | State::Completed(Late::CancelRefused)) => {
            Decision::Answers(Told::CancelRefused, Outcome::Duplicate)
        }
        Some(State::Cancelled { .. } | State::Tombstone) => {
            Decision::Answers(Told::Cancelled, Outcome::Duplicate)
        }
        // Nothing is left to call off, and whoever asked must learn why.
        Some(State::Failed { .. }) => Decision::Answers(Told::Failed, Outcome::Raced),
    }
}
