//! How a service reacts: the book of rows that a batch of messages touches, and one policy per reaction,
//! "Whenever X, do Y". Load, decide, save: the inbox runs the steps, a service fills them in.

use std::future::Future;

use proto::event::Event;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    cause::{Cause, Coordination, EncodeError},
    envelope::ContentType,
    outbox::Outgoing,
    trail::Outcome,
};

/// The rows that a batch touches, held in memory between load and save.
pub trait Book: Sized + Send + Sync + 'static {
    /// What the messages of a batch ask to be loaded: ids, without duplicates.
    type Wants: Default + Send + Sync;

    /// Locks and loads every wanted row: `for update`, aggregates by order_id before products by product_id, sorted, so
    /// that no two batches can wait for each other in a circle.
    fn load(
        conn: &mut PgConnection,
        wants: &Self::Wants,
    ) -> impl Future<Output = sqlx::Result<Self>> + Send;

    /// Writes every changed row once. New rows `on conflict do nothing`, changed ones `where version = <loaded>`; fewer
    /// rows than expected is [`SaveError::Conflict`].
    fn save(&self, conn: &mut PgConnection) -> impl Future<Output = Result<(), SaveError>> + Send;

    /// What was saved is committed: the place to count what came of it.
    fn committed(&self) {}
}

/// Why a book was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Somebody else wrote one of the rows meanwhile: roll back, load again, decide again.
    #[error("a row was written by somebody else meanwhile")]
    Conflict,
    /// The database refused.
    #[error("save the changed rows")]
    Sql(#[from] sqlx::Error),
}

impl SaveError {
    /// [`SaveError::Conflict`] unless every expected row was written.
    pub fn unless_all_written(
        expected: usize,
        result: &sqlx::postgres::PgQueryResult,
    ) -> Result<(), Self> {
        if result.rows_affected() == expected as u64 { Ok(()) } else { Err(Self::Conflict) }
    }
}

/// A message that must not be handled: malformed, or in contradiction to the row. It parks under its key until an
/// operator retries or skips it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Refused {
    /// With a reason for the operator.
    pub fn because(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// Refuses a command unless its headers say that it is about this order, and that the orchestrator drives the order.
    pub fn unless_commanded(cause: &Cause, order_id: Uuid) -> Result<(), Self> {
        if cause.coordination != Some(Coordination::Orchestration) {
            return Err(Self(format!("a command for order {order_id}, which is not orchestrated")));
        }
        if cause.correlation_id.is_some_and(|correlated| correlated != order_id) {
            return Err(Self(format!(
                "the payload is about order {order_id}, the headers are about another"
            )));
        }
        Ok(())
    }
}

impl From<EncodeError> for Refused {
    fn from(error: EncodeError) -> Self {
        Self(error.to_string())
    }
}

/// What a policy made of a message.
#[derive(Debug)]
pub struct Reaction {
    /// What came of it.
    pub outcome: Outcome,
    /// The events that follow, in order.
    pub events: Vec<Outgoing>,
}

impl Reaction {
    /// Nothing had to be done.
    pub fn nothing(outcome: Outcome) -> Self {
        Self { outcome, events: Vec::new() }
    }

    /// A command was answered, whatever came of it.
    pub fn answered(outcome: Outcome, events: Vec<Outgoing>) -> Self {
        Self { outcome, events }
    }

    /// Something changed, and these events tell of it.
    pub fn applied(events: Vec<Outgoing>) -> Self {
        Self { outcome: Outcome::Applied, events }
    }
}

/// One reaction of a service to one type of event. Idempotent by the row it decides on: the same message may come again,
/// late, or before its predecessors.
pub trait Policy<B: Book>: Send + Sync + 'static {
    /// What it reacts to.
    type Event: Event;

    /// Whether one that was handled before is not decided again, which saves work. A command is, and whoever waits for answers
    /// must decide them again too.
    const SKIPS_DUPLICATES: bool = !Self::Event::IS_COMMAND;

    /// Names the rows that deciding this event needs.
    fn wants(&self, event: &Self::Event, wants: &mut B::Wants) -> Result<(), Refused>;

    /// Decides the event on the rows as they stand in memory, changing them there. On an error it may leave them half
    /// changed: they are thrown away.
    fn react(&self, event: &Self::Event, book: &mut B, cause: &Cause) -> Result<Reaction, Refused>;
}

/// An event or a command out of its payload. Errors: it is not one, in words for the operator.
pub fn decode<E: Event>(content_type: ContentType, payload: &[u8]) -> Result<E, Refused> {
    let event = match content_type {
        ContentType::Json => serde_json::from_slice(payload).map_err(|error| error.to_string()),
        ContentType::Protobuf => E::decode(payload).map_err(|error| error.to_string()),
    };
    event.map_err(|error| Refused(format!("the payload is not a {}: {error}", E::full_name())))
}

/// A policy whose event type is forgotten, so that a table can hold them all.
pub(crate) trait Handler<B: Book>: Send + Sync {
    fn decode(
        &self,
        content_type: ContentType,
        payload: &[u8],
    ) -> Result<Box<dyn Decoded<B> + '_>, Refused>;
}

/// A decoded event together with the policy for it.
pub(crate) trait Decoded<B: Book>: Send + Sync {
    fn skips_duplicates(&self) -> bool;
    fn wants(&self, wants: &mut B::Wants) -> Result<(), Refused>;
    fn react(&self, book: &mut B, cause: &Cause) -> Result<Reaction, Refused>;
}

struct Bound<'a, P, E> {
    policy: &'a P,
    event: E,
}

impl<B: Book, P: Policy<B>> Handler<B> for P {
    fn decode(
        &self,
        content_type: ContentType,
        payload: &[u8],
    ) -> Result<Box<dyn Decoded<B> + '_>, Refused> {
        Ok(Box::new(Bound { policy: self, event: decode::<P::Event>(content_type, payload)? }))
    }
}

impl<B: Book, P: Policy<B>> Decoded<B> for Bound<'_, P, P::Event> {
    fn skips_duplicates(&self) -> bool {
        P::SKIPS_DUPLICATES
    }

    fn wants(&self, wants: &mut B::Wants) -> Result<(), Refused> {
        self.policy.wants(&self.event, wants)
    }

    fn react(&self, book: &mut B, cause: &Cause) -> Result<Reaction, Refused> {
        self.policy.react(&self.event, book, cause)
    }
}
