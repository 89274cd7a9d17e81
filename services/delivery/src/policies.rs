//! How delivery reacts to what orders tells. Orders pinned to orchestration are left to the orchestrator's commands.

use chassis::{
    cause::{Cause, Coordination},
    policy::{Policy, Reaction, Refused},
    switches::Switch,
    trail::Outcome,
};
use proto::orders::v1::{OrderCancelRequested, OrderCancelled, OrderConfirmed, OrderPlaced};
use uuid::Uuid;

use crate::{
    book::Book,
    domain::{self, Carriers, Decision, Heard},
    events,
    parcel::Parcel,
    wire,
};

type Wants = <Book as chassis::policy::Book>::Wants;

/// Whenever an order is placed, open a delivery for it; where no carrier delivers to, say that it failed.
#[derive(Debug)]
pub struct OpenDelivery {
    /// Where no carrier delivers to.
    pub carriers: Carriers,
    /// For demonstrations: while it is on, no carrier delivers anywhere.
    pub refuse: Switch,
}

impl Policy<Book> for OpenDelivery {
    type Event = OrderPlaced;

    fn wants(&self, event: &OrderPlaced, wants: &mut Wants) -> Result<(), Refused> {
        want(&event.order_id, wants)
    }

    fn react(
        &self,
        event: &OrderPlaced,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        let parcel = wire::parcel(event)?;
        let carrier = !self.refuse.is_on() && self.carriers.reach(&parcel.address);
        let heard = Heard::OrderPlaced { carrier };
        react(book, &event.order_id, heard, Some(parcel), cause)
    }
}

/// Whenever an order is confirmed, let its goods leave.
#[derive(Debug)]
pub struct ReadyDelivery;

impl Policy<Book> for ReadyDelivery {
    type Event = OrderConfirmed;

    fn wants(&self, event: &OrderConfirmed, wants: &mut Wants) -> Result<(), Refused> {
        want(&event.order_id, wants)
    }

    fn react(
        &self,
        event: &OrderConfirmed,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        react(book, &event.order_id, Heard::OrderConfirmed, None, cause)
    }
}

/// Whenever a customer wants a confirmed order called off, cancel its delivery, or refuse when the goods have left.
#[derive(Debug)]
pub struct ArbitrateCancel;

impl Policy<Book> for ArbitrateCancel {
    type Event = OrderCancelRequested;

    fn wants(&self, event: &OrderCancelRequested, wants: &mut Wants) -> Result<(), Refused> {
        want(&event.order_id, wants)
    }

    fn react(
        &self,
        event: &OrderCancelRequested,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        react(book, &event.order_id, Heard::OrderCancelRequested, None, cause)
    }
}

/// Whenever an order is cancelled, cancel its delivery, or remember to refuse the placement that comes late.
#[derive(Debug)]
pub struct CancelDelivery;

impl Policy<Book> for CancelDelivery {
    type Event = OrderCancelled;

    fn wants(&self, event: &OrderCancelled, wants: &mut Wants) -> Result<(), Refused> {
        want(&event.order_id, wants)
    }

    fn react(
        &self,
        event: &OrderCancelled,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        react(book, &event.order_id, Heard::OrderCancelled { path: &cause.path }, None, cause)
    }
}

/// The delivery of the order that an event or a command names.
pub(crate) fn want(order_id: &str, wants: &mut Wants) -> Result<(), Refused> {
    wants.insert(wire::order_id(order_id)?);
    Ok(())
}

/// Decides on the row, moves it on, and tells of it. `parcel` opens a delivery where there is none.
fn react(
    book: &mut Book,
    order_id: &str,
    heard: Heard<'_>,
    parcel: Option<Parcel>,
    cause: &Cause,
) -> Result<Reaction, Refused> {
    if Coordination::is_commanded(cause.coordination) {
        return Ok(Reaction::nothing(Outcome::Ignored));
    }
    decide(book, wire::order_id(order_id)?, heard, parcel, Uuid::now_v7(), cause)
}

/// The same of any order. `event_id` is the id of the event that tells of it.
pub(crate) fn decide(
    book: &mut Book,
    order_id: Uuid,
    heard: Heard<'_>,
    parcel: Option<Parcel>,
    event_id: Uuid,
    cause: &Cause,
) -> Result<Reaction, Refused> {
    let current = book.find(order_id).map(|delivery| &delivery.state);
    let decision = domain::react(current, heard, event_id)
        .map_err(|contradiction| Refused::because(contradiction.to_string()))?;
    match decision {
        Decision::Nothing(outcome) => Ok(Reaction::nothing(outcome)),
        Decision::Becomes(state) => {
            book.advance(order_id, state, parcel, cause);
            Ok(Reaction::applied(Vec::new()))
        }
        Decision::Tells(state, told) => {
            let delivery = book.advance(order_id, state, parcel, cause);
            Ok(Reaction::applied(vec![events::outgoing(delivery, told, event_id, cause)?]))
        }
        Decision::Answers(told, outcome) => {
            let stands = book.find(order_id);
            let answer =
                stands.map(|it| events::outgoing(it, told, event_id, cause)).transpose()?;
            Ok(Reaction::answered(outcome, answer.into_iter().collect()))
        }
    }
}
