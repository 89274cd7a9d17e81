//! An order as its row holds it, and how a decision changes it.

use chassis::{
    cause::{Cause, Coordination, EncodeError},
    outbox::Outgoing,
    policy::{Reaction, Refused},
    trail::Outcome,
};
use chrono::{DateTime, Utc};
use proto::{money::Money, orders::v1::OrderState};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    domain::{Cancel, Decision, Event, Fate, Message, Reason, Refusal, State},
    wire,
};

/// Who ordered, and where the goods go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    /// Who.
    pub customer_id: String,
    /// The name on the parcel.
    pub name: String,
    /// Where the parcel goes.
    pub address: String,
}

/// One product of an order, with the name and price it had when the order was placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The product.
    pub product_id: String,
    /// Its name.
    pub product_name: String,
    /// Pieces.
    pub quantity: u32,
    /// The price of one piece.
    pub unit_price: Money,
}

/// An order.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its id.
    pub order_id: Uuid,
    /// Who ordered.
    pub customer: Customer,
    /// What.
    pub lines: Vec<Line>,
    /// The sum over the lines.
    pub total: Money,
    /// How the services come to agree about it.
    pub coordination: Coordination,
    /// What has been decided.
    pub fate: Fate,
    /// Moves with every change of the row.
    pub version: i64,
    /// Moves with what a caller can see.
    pub revision: i64,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it last changed for a caller.
    pub updated_at: DateTime<Utc>,
    /// When it was first confirmed or cancelled.
    pub settled_at: Option<DateTime<Utc>>,
    /// Until when it may stay pending.
    pub deadline_at: DateTime<Utc>,
}

/// One revision of an order: what a caller could see, and what caused it.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The order.
    pub order_id: Uuid,
    /// The revision it led to.
    pub revision: i64,
    /// The state as shown.
    pub state: OrderState,
    /// Why, when it is cancelled.
    pub reason: Option<Reason>,
    /// Whether a cancellation has been refused.
    pub cancel_refused: bool,
    /// The short name of the event, call or timer.
    pub cause: String,
    /// Its id.
    pub cause_id: Uuid,
    /// The event that told of it.
    pub event_id: Option<Uuid>,
    /// The trace it belongs to.
    pub trace_id: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
}

impl Order {
    /// The etag of what a caller can see.
    pub fn etag(&self) -> String {
        format!("r{}", self.revision)
    }

    /// Decides a message on this order: changes it, and says what came of it, with the transition a caller can see.
    pub fn decide(
        &mut self,
        message: Message,
        cause: &Cause,
    ) -> Result<(Reaction, Option<Transition>), Error> {
        let commanded = matches!(message, Message::Command(_));
        let (next, event) = match self.fate.decide(message)? {
            Decision::Change(next, event) => (next, event),
            Decision::Answer(event, outcome) => {
                let answer = self.tell(event, commanded, cause)?;
                return Ok((Reaction::answered(outcome, vec![answer]), None));
            }
            Decision::Duplicate => return Ok((Reaction::nothing(Outcome::Duplicate), None)),
            Decision::OwnOrigin => return Ok((Reaction::nothing(Outcome::OwnOrigin), None)),
            Decision::Raced => return Ok((Reaction::nothing(Outcome::Raced), None)),
            Decision::Ignored => return Ok((Reaction::nothing(Outcome::Ignored), None)),
        };
        let seen_before = (shown(self.fate), self.fate.cancel);
        self.fate = next;
        self.version += 1;
        let told = event.map(|event| self.tell(event, commanded, cause)).transpose()?;
        let event_id = told.as_ref().map(|event| event.event_id);
        let transition = (seen_before != (shown(next), next.cancel))
            .then(|| self.next_revision(cause, event_id));
        Ok((Reaction::applied(told.into_iter().collect()), transition))
    }

    /// The first transition, of an order that was just placed.
    pub fn placed(&self, cause: &Cause, event_id: Uuid) -> Transition {
        self.transition(cause, Some(event_id))
    }

    fn next_revision(&mut self, cause: &Cause, event_id: Option<Uuid>) -> Transition {
        self.revision += 1;
        self.updated_at = cause.now;
        if self.fate.state != State::Pending {
            self.settled_at.get_or_insert(cause.now);
        }
        self.transition(cause, event_id)
    }

    fn transition(&self, cause: &Cause, event_id: Option<Uuid>) -> Transition {
        Transition {
            order_id: self.order_id,
            revision: self.revision,
            state: shown(self.fate),
            reason: self.reason(),
            cancel_refused: self.fate.cancel == Cancel::Refused,
            cause: cause.name.clone(),
            cause_id: cause.id,
            event_id,
            trace_id: cause.trace.trace_id(),
            created_at: cause.now,
        }
    }

    fn tell(&self, event: Event, commanded: bool, cause: &Cause) -> Result<Outgoing, EncodeError> {
        let cause = cause.clone().of_order(self.order_id, self.coordination);
        let id = if commanded { cause.answer_id() } else { Uuid::now_v7() };
        match event {
            Event::OrderConfirmed => cause.emit_as(id, &wire::order_confirmed(self)),
            Event::OrderCancelRequested => cause.emit_as(id, &wire::order_cancel_requested(self)),
            Event::OrderCancelled => cause.emit_as(id, &wire::order_cancelled(self)),
            Event::OrderCancelRefused => cause.emit_as(id, &wire::order_cancel_refused(self)),
            Event::OrderCompleted => cause.emit_as(id, &wire::order_completed(self)),
        }
    }

    /// Why it was cancelled, if it was.
    pub fn reason(&self) -> Option<Reason> {
        match self.fate.state {
            State::Cancelled(reason) => Some(reason),
            State::Pending | State::Confirmed | State::Completed => None,
        }
    }
}

/// The state as a caller sees it.
pub fn shown(fate: Fate) -> OrderState {
    match (fate.state, fate.cancel) {
        (State::Pending, _) => OrderState::Pending,
        (State::Confirmed, Cancel::Requested) => OrderState::Cancelling,
        (State::Confirmed, Cancel::None | Cancel::Refused) => OrderState::Confirmed,
        (State::Cancelled(_), _) => OrderState::Cancelled,
        (State::Completed, _) => OrderState::Completed,
    }
}

/// Why a message was not decided.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The event that tells of it could not be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}
