//! What the orchestrator reacts to: one event begins a saga, and all others that are told under its id are weighed by it.

use std::marker::PhantomData;

use chassis::{
    cause::{Cause, Coordination},
    policy::{Policy, Reaction, Refused},
    trail::Outcome,
};
use proto::event::Event;
use uuid::Uuid;

use crate::{book::Book, definition::Definition, patience::Patience};

type Wants = <Book as chassis::policy::Book>::Wants;

/// Whenever this event comes and its order is pinned to orchestration, begin its saga.
#[derive(Debug)]
pub struct Begin<E> {
    /// The saga.
    definition: &'static Definition,
    patience: Patience,
    event: PhantomData<E>,
}

/// Whenever this event comes, let the saga of its key weigh it.
#[derive(Debug)]
pub struct Hear<E> {
    patience: Patience,
    event: PhantomData<E>,
}

impl<E> Begin<E> {
    /// Begins sagas by this definition.
    pub fn new(definition: &'static Definition, patience: Patience) -> Self {
        Self { definition, patience, event: PhantomData }
    }
}

impl<E> Hear<E> {
    /// With this much patience for the answers to what follows.
    pub fn new(patience: Patience) -> Self {
        Self { patience, event: PhantomData }
    }
}

impl<E: Event> Policy<Book> for Begin<E> {
    type Event = E;

    fn wants(&self, event: &E, wants: &mut Wants) -> Result<(), Refused> {
        wants.insert(saga_id(event)?);
        Ok(())
    }

    fn react(&self, event: &E, book: &mut Book, cause: &Cause) -> Result<Reaction, Refused> {
        let saga_id = addressed(event, cause)?;
        if cause.coordination != Some(Coordination::Orchestration) {
            return Ok(Reaction::nothing(Outcome::Ignored));
        }
        let data = serde_json::to_value(event).map_err(|error| Refused(error.to_string()))?;
        book.begin(self.definition, saga_id, data, cause, &self.patience)
    }
}

impl<E: Event> Policy<Book> for Hear<E> {
    type Event = E;

    /// An answer may come again with other content, once its command was sent again.
    const SKIPS_DUPLICATES: bool = false;

    fn wants(&self, event: &E, wants: &mut Wants) -> Result<(), Refused> {
        wants.insert(saga_id(event)?);
        Ok(())
    }

    fn react(&self, event: &E, book: &mut Book, cause: &Cause) -> Result<Reaction, Refused> {
        book.hear(addressed(event, cause)?, E::NAME, cause, &self.patience)
    }
}

fn saga_id<E: Event>(event: &E) -> Result<Uuid, Refused> {
    Uuid::try_parse(event.key()).map_err(|_| Refused(format!("{:?} is not a UUID", event.key())))
}

/// The saga, unless headers and payload speak of different ones.
fn addressed<E: Event>(event: &E, cause: &Cause) -> Result<Uuid, Refused> {
    let saga_id = saga_id(event)?;
    match cause.correlation_id {
        Some(other) if other != saga_id => {
            Err(Refused(format!("the payload is about {saga_id}, the headers are about {other}")))
        }
        Some(_) | None => Ok(saga_id),
    }
}
