//! The life of a delivery as a pure state machine: (state, event, command or call) -> (state', event) or a refusal. No I/O, no
//! clock, no wire types; ids come in as arguments. Dispatch is the pivot: here it is decided whether cancel or ship won.

mod commands;

use chassis::{cause::CausalPath, trail::Outcome};
use uuid::Uuid;

/// Where the delivery of an order stands. An order that was never heard of has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Opened; the order is not confirmed yet.
    Started,
    /// The order is confirmed: the goods may leave.
    Ready,
    /// The goods have left.
    Dispatched(Late),
    /// The goods have arrived.
    Completed(Late),
    /// Called off.
    Cancelled {
        /// The DeliveryCancelled that told of it.
        told_by: Uuid,
    },
    /// Could not be delivered.
    Failed {
        /// The DeliveryFailed that told of it.
        told_by: Uuid,
        /// Why, for people.
        reason: String,
    },
    /// The order was cancelled before it was heard of: a late placement is refused.
    Tombstone,
}

/// Whether a cancellation came after the goods had left. Kept, so that it is refused once however often it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Late {
    /// Nobody has asked for one.
    NoCancel,
    /// One was refused.
    CancelRefused,
}

/// What delivery hears from orders, or is told to do by the orchestrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// An order was accepted.
    OrderPlaced {
        /// Whether some carrier delivers to its address.
        carrier: bool,
    },
    /// Stock is reserved and the delivery has started: the order holds.
    OrderConfirmed,
    /// The customer wants a confirmed order called off.
    OrderCancelRequested,
    /// The order is called off.
    OrderCancelled {
        /// The causes behind it. They only explain: the row decides.
        path: &'a CausalPath,
    },
    /// A command to open a delivery.
    StartDelivery {
        /// Whether some carrier delivers to its address.
        carrier: bool,
    },
    /// A command to let the goods leave: the order is confirmed.
    ReadyDelivery,
    /// A command to call the delivery off.
    CancelDelivery,
}

/// What the warehouse calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// The goods leave.
    Dispatch,
    /// The goods have arrived.
    Complete,
    /// The goods cannot be delivered.
    Fail {
        /// Why, for people.
        reason: String,
    },
}

/// What delivery tells the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// DeliveryStarted.
    Started,
    /// DeliveryReady.
    Ready,
    /// DeliveryDispatched.
    Dispatched,
    /// DeliveryCompleted.
    Completed,
    /// DeliveryCancelled.
    Cancelled,
    /// DeliveryCancelRefused.
    CancelRefused,
    /// DeliveryFailed.
    Failed,
}

/// What becomes of an event or a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The row becomes this.
    Becomes(State),
    /// The row becomes this, and the others are told.
    Tells(State, Told),
    /// Nothing has to change, for this reason.
    Nothing(Outcome),
    /// Nothing has to change, for this reason; the command is answered all the same.
    Answers(Told, Outcome),
}

/// An event or a command that contradicts the row: it must be looked at by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Orders confirms, or asks delivery to cancel, only after DeliveryStarted, which committed together with the row; and
    /// rows are never deleted. No reordering can bring this about, only a lost row, and guessing one would ship or drop
    /// goods that nobody decided on. The same holds for a tombstone: such an order was cancelled while PENDING.
    #[error("orders answers a delivery that was never opened here")]
    NeverOpened,
    /// Orders cancels a confirmed order only when delivery has said that the goods have not left.
    #[error("the order is cancelled, but its goods have left")]
    CancelledAfterDispatch,
    /// The orchestrator lets goods leave only after DeliveryStarted has answered it: a row is lost.
    #[error("there is no delivery whose goods could leave")]
    NothingToReady,
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only a tombstone, which callers do not see; as if there were no row.
    #[error("there is no delivery for the order")]
    NotFound,
    /// The order is not confirmed.
    #[error("the order is not confirmed yet, so its goods may not leave")]
    NotReady,
    /// The goods have not left.
    #[error("the goods have not left yet")]
    NotDispatched,
    /// The goods have left.
    #[error("the goods have left already")]
    AlreadyDispatched,
    /// The goods have arrived.
    #[error("the goods have arrived already")]
    AlreadyCompleted,
    /// The delivery was called off.
    #[error("the delivery was cancelled")]
    Cancelled,
    /// The delivery has failed.
    #[error("the delivery has failed")]
    Failed,
}

/// Where no carrier delivers to.
#[derive(Clone, Debug, Default)]
pub struct Carriers {
    /// The beginnings of those addresses.
    pub none_to: Vec<String>,
}

impl Carriers {
    /// Whether some carrier delivers to this address.
    pub fn reach(&self, address: &str) -> bool {
        !self
            .none_to
            .iter()
            .any(|beginning| !beginning.is_empty() && address.starts_with(beginning))
    }
}

/// Why the goods of an order to such an address are not sent.
pub const NO_CARRIER: &str = "no carrier delivers to this address";

/// Decides what becomes of an event or a command. `event_id` is the id of the event that may follow from it.
pub fn react(
    current: Option<&State>,
    heard: Heard<'_>,
    event_id: Uuid,
) -> Result<Decision, Contradiction> {
    match heard {
        Heard::OrderPlaced { carrier } => Ok(placed(current, carrier, event_id)),
        Heard::OrderConfirmed => confirmed(current),
        Heard::OrderCancelRequested => cancel_requested(current, event_id),
        Heard::OrderCancelled { path } => cancelled(current, path, event_id),
        Heard::StartDelivery { carrier } => Ok(commands::start(current, carrier, event_id)),
        Heard::ReadyDelivery => commands::ready(current),
        Heard::CancelDelivery => Ok(commands::cancel(current, event_id)),
    }
}

fn placed(current: Option<&State>, carrier: bool, event_id: Uuid) -> Decision {
    match current {
        None => open(carrier, event_id),
        Some(State::Tombstone) => Decision::Nothing(Outcome::Raced),
        Some(
            State::Started
            | State::Ready
            | State::Dispatched(_)
            | State::Completed(_)
            | State::Cancelled { .. }
            | State::Failed { .. },
        ) => Decision::Nothing(Outcome::Duplicate),
    }
}

fn open(carrier: bool, event_id: Uuid) -> Decision {
    if carrier {
        Decision::Tells(State::Started, Told::Started)
    } else {
        let failed = State::Failed { told_by: event_id, reason: NO_CARRIER.to_owned() };
        Decision::Tells(failed, Told::Failed)
    }
}

fn confirmed(current: Option<&State>) -> Result<Decision, Contradiction> {
    match current {
        Some(State::Started) => Ok(Decision::Becomes(State::Ready)),
        Some(State::Ready | State::Dispatched(_) | State::Completed(_)) => {
            Ok(Decision::Nothing(Outcome::Duplicate))
        }
        // The cancellation that followed it came first, or the failure crossed it on the way.
        Some(State::Cancelled { .. } | State::Failed { .. }) => {
            Ok(Decision::Nothing(Outcome::Raced))
        }
        None | Some(State::Tombstone) => Err(Contradiction::NeverOpened),
    }
}

fn cancel_requested(current: Option<&State>, event_id: Uuid) -> Result<Decision, Contradiction> {
    match current {
        Some(State::Started | State::Ready) => Ok(call_off(event_id)),
        Some(State::Dispatched(Late::NoCancel)) => {
            Ok(Decision::Tells(State::Dispatched(Late::CancelRefused), Told::CancelRefused))
        }
        Some(State::Completed(Late::NoCancel)) => {
            Ok(Decision::Tells(State::Completed(Late::CancelRefused), Told::CancelRefused))
        }
        Some(
            State::Dispatched(Late::CancelRefused)
            | State::Completed(Late::CancelRefused)
            | State::Cancelled { .. },
        ) => Ok(Decision::Nothing(Outcome::Duplicate)),
        Some(State::Failed { .. }) => Ok(Decision::Nothing(Outcome::Raced)),
        None | Some(State::Tombstone) => Err(Contradiction::NeverOpened),
    }
}

fn cancelled(
    current: Option<&State>,
    path: &CausalPath,
    event_id: Uuid,
) -> Result<Decision, Contradiction> {
    match current {
        None => Ok(Decision::Becomes(State::Tombstone)),
        Some(State::Started | State::Ready) => Ok(call_off(event_id)),
        Some(State::Dispatched(_) | State::Completed(_)) => {
            Err(Contradiction::CancelledAfterDispatch)
        }
        Some(State::Cancelled { told_by } | State::Failed { told_by, .. })
            if path.contains(*told_by) =>
        {
            Ok(Decision::Nothing(Outcome::OwnOrigin))
        }
        Some(State::Failed { .. }) => Ok(Decision::Nothing(Outcome::Raced)),
        Some(State::Cancelled { .. } | State::Tombstone) => {
            Ok(Decision::Nothing(Outcome::Duplicate))
        }
    }
}

fn call_off(event_id: Uuid) -> Decision {
    Decision::Tells(State::Cancelled { told_by: event_id }, Told::Cancelled)
}

/// Decides a call: what the row becomes, and what the others are told. `event_id` is the id of that event.
pub fn act(state: &State, call: &Call, event_id: Uuid) -> Result<(State, Told), Refusal> {
    match call {
        Call::Dispatch => dispatch(state),
        Call::Complete => complete(state),
        Call::Fail { reason } => fail(state, reason, event_id),
    }
}

fn dispatch(state: &State) -> Result<(State, Told), Refusal> {
    match state {
        State::Ready => Ok((State::Dispatched(Late::NoCancel), Told::Dispatched)),
        State::Started => Err(Refusal::NotReady),
        State::Dispatched(_) => Err(Refusal::AlreadyDispatched),
        State::Completed(_) => Err(Refusal::AlreadyCompleted),
        State::Cancelled { .. } => Err(Refusal::Cancelled),
        State::Failed { .. } => Err(Refusal::Failed),
        State::Tombstone => Err(Refusal::NotFound),
    }
}

fn complete(state: &State) -> Result<(State, Told), Refusal> {
    match state {
        State::Dispatched(late) => Ok((State::Completed(*late), Told::Completed)),
        State::Started | State::Ready => Err(Refusal::NotDispatched),
        State::Completed(_) => Err(Refusal::AlreadyCompleted),
        State::Cancelled { .. } => Err(Refusal::Cancelled),
        State::Failed { .. } => Err(Refusal::Failed),
        State::Tombstone => Err(Refusal::NotFound),
    }
}

fn fail(state: &State, reason: &str, event_id: Uuid) -> Result<(State, Told), Refusal> {
    match state {
        State::Started | State::Ready => {
            Ok((State::Failed { told_by: event_id, reason: reason.to_owned() }, Told::Failed))
        }
        State::Dispatched(_) => Err(Refusal::AlreadyDispatched),
        State::Completed(_) => Err(Refusal::AlreadyCompleted),
        State::Cancelled { .. } => Err(Refusal::Cancelled),
        State::Failed { .. } => Err(Refusal::Failed),
        State::Tombstone => Err(Refusal::NotFound),
    }
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
