//! What products does when it hears of an order. Each reaction is idempotent by the order's reservation row; orders that
//! are coordinated by the orchestrator are left to its commands.

use chassis::{
    cause::{CausalPath, Cause, Coordination},
    policy::{Policy, Reaction, Refused},
    trail::Outcome,
};
use prost::Name as _;
use proto::{orders::v1 as orders, products::v1 as products};
use uuid::Uuid;

use crate::{
    SERVICE,
    book::{Book, Wants},
    domain::{self, Decision, Message},
    lines::{Line, Lines, LinesError},
    wire,
};

/// Whenever an order was placed, take its lines from the stock, all or none, and tell which.
#[derive(Clone, Copy, Debug)]
pub struct OrderPlaced;

impl Policy<Book> for OrderPlaced {
    type Event = orders::OrderPlaced;

    fn wants(&self, event: &Self::Event, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(order_id(&event.order_id)?);
        wants.products_of(&ordered(&event.lines)?);
        Ok(())
    }

    fn react(
        &self,
        event: &Self::Event,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        let message = Message::OrderPlaced {
            lines: ordered(&event.lines)?,
            decision_event_id: Uuid::now_v7(),
        };
        hear(order_id(&event.order_id)?, &message, book, cause)
    }
}

/// Whenever an order was cancelled, put back what it holds, or refuse its placement before it comes.
#[derive(Clone, Copy, Debug)]
pub struct OrderCancelled;

impl Policy<Book> for OrderCancelled {
    type Event = orders::OrderCancelled;

    fn wants(&self, event: &Self::Event, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(order_id(&event.order_id)?);
        Ok(())
    }

    fn react(
        &self,
        event: &Self::Event,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        let message = Message::OrderCancelled { own_rejection: own_rejection(&cause.path) };
        hear(order_id(&event.order_id)?, &message, book, cause)
    }
}

fn hear(
    order_id: Uuid,
    message: &Message,
    book: &mut Book,
    cause: &Cause,
) -> Result<Reaction, Refused> {
    if Coordination::is_commanded(cause.coordination) {
        return Ok(Reaction::nothing(Outcome::Ignored));
    }
    if cause.correlation_id.is_some_and(|correlated| correlated != order_id) {
        return Err(Refused::because(format!(
            "the payload is about order {order_id}, the headers are about another"
        )));
    }
    decide(order_id, message, book, cause)
}

/// Decides a message on the rows, changing them, and tells what follows.
pub(crate) fn decide(
    order_id: Uuid,
    message: &Message,
    book: &mut Book,
    cause: &Cause,
) -> Result<Reaction, Refused> {
    match domain::decide(book.reservation(order_id), message, book.shelf(), cause.now) {
        Ok(Decision::Applied(reservation, events)) => {
            let outgoing = events.iter().map(|event| wire::outgoing(event, order_id, cause));
            let outgoing = outgoing.collect::<Result<_, _>>()?;
            book.apply(order_id, reservation, events);
            Ok(Reaction::applied(outgoing))
        }
        Ok(Decision::Answered(outcome, answer)) => {
            Ok(Reaction::answered(outcome, vec![wire::outgoing(&answer, order_id, cause)?]))
        }
        Ok(Decision::Duplicate) => Ok(Reaction::nothing(Outcome::Duplicate)),
        Ok(Decision::OwnOrigin) => Ok(Reaction::nothing(Outcome::OwnOrigin)),
        Ok(Decision::Raced) => Ok(Reaction::nothing(Outcome::Raced)),
        Err(contradiction) => {
            tracing::error!(%order_id, event_id = %cause.id, %contradiction, "quarantined a message");
            Err(Refused::because(contradiction.to_string()))
        }
    }
}

/// The rejection of ours that the event says it follows from.
pub fn own_rejection(path: &CausalPath) -> Option<Uuid> {
    path.id_of(SERVICE, products::ProductOutOfStock::NAME)
}

/// The order that an event or a command names.
pub(crate) fn order_id(text: &str) -> Result<Uuid, Refused> {
    Uuid::try_parse(text)
        .map_err(|error| Refused::because(format!("{text:?} is not an order id: {error}")))
}

fn ordered(lines: &[orders::OrderLine]) -> Result<Lines, Refused> {
    checked(lines.iter().map(|line| Line::new(&line.product_id, line.quantity)))
}

/// The lines that an event or a command names.
pub(crate) fn checked(
    lines: impl Iterator<Item = Result<Line, LinesError>>,
) -> Result<Lines, Refused> {
    Lines::new(lines).map_err(|error| Refused::because(format!("the order's lines: {error}")))
}
