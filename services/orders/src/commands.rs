//! What orders decides when the orchestrator asks it to. Every command is answered, however often it comes and also when
//! nothing changes.

use chassis::{
    cause::Cause,
    policy::{Policy, Reaction, Refused},
};
use proto::orders::v1;

use crate::{
    book::{Book, Wants},
    domain::Command,
    wire,
};

/// Whenever the orchestrator has stock and a delivery for an order, confirm it, unless it is cancelled.
#[derive(Debug)]
pub struct ConfirmOrder;

impl Policy<Book> for ConfirmOrder {
    type Event = v1::ConfirmOrder;

    fn wants(&self, command: &Self::Event, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(&command.order_id)
    }

    fn react(
        &self,
        command: &Self::Event,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        book.obey(&command.order_id, Command::ConfirmOrder, cause)
    }
}

/// Whenever the orchestrator wants an order called off, cancel it, where its state allows that for this reason.
#[derive(Debug)]
pub struct CancelOrder;

impl Policy<Book> for CancelOrder {
    type Event = v1::CancelOrder;

    fn wants(&self, command: &Self::Event, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(&command.order_id)
    }

    fn react(
        &self,
        command: &Self::Event,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        let reason = wire::commanded(command.reason)
            .ok_or_else(|| Refused::because("a cancellation needs a reason that is known"))?;
        book.obey(&command.order_id, Command::CancelOrder(reason), cause)
    }
}

/// Whenever the orchestrator hears that the goods have left, refuse the customer's wish to cancel.
#[derive(Debug)]
pub struct RefuseCancel;

impl Policy<Book> for RefuseCancel {
    type Event = v1::RefuseCancel;

    fn wants(&self, command: &Self::Event, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(&command.order_id)
    }

    fn react(
        &self,
        command: &Self::Event,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        book.obey(&command.order_id, Command::RefuseCancel, cause)
    }
}

/// Whenever the orchestrator hears that the goods have arrived, complete the order.
#[derive(Debug)]
pub struct CompleteOrder;

impl Policy<Book> for CompleteOrder {
    type Event = v1::CompleteOrder;

    fn wants(&self, command: &Self::Event, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(&command.order_id)
    }

    fn react(
        &self,
        command: &Self::Event,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        book.obey(&command.order_id, Command::CompleteOrder, cause)
    }
}
