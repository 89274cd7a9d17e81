//! What products does when the orchestrator tells it to. Every command is answered, however often it comes and also when
//! nothing has to be done.

use chassis::{
    cause::Cause,
    policy::{Policy, Reaction, Refused},
};
use proto::products::v1 as products;

use crate::{
    book::{Book, Wants},
    domain::Message,
    lines::{Line, Lines},
    policies::{checked, decide, order_id},
};

/// Whenever the orchestrator wants stock reserved, take every line or none, and answer which.
#[derive(Clone, Copy, Debug)]
pub struct ReserveStock;

impl Policy<Book> for ReserveStock {
    type Event = products::ReserveStock;

    fn wants(&self, command: &Self::Event, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(order_id(&command.order_id)?);
        wants.products_of(&lines(&command.lines)?);
        Ok(())
    }

    fn react(
        &self,
        command: &Self::Event,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        let (lines, decision_event_id) = (lines(&command.lines)?, cause.answer_id());
        obey(&command.order_id, &Message::ReserveStock { lines, decision_event_id }, book, cause)
    }
}

/// Whenever the orchestrator wants stock released, put back what the order holds, or refuse its reservation before it comes.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseStock;

impl Policy<Book> for ReleaseStock {
    type Event = products::ReleaseStock;

    fn wants(&self, command: &Self::Event, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(order_id(&command.order_id)?);
        Ok(())
    }

    fn react(
        &self,
        command: &Self::Event,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        obey(&command.order_id, &Message::ReleaseStock, book, cause)
    }
}

fn obey(
    order: &str,
    message: &Message,
    book: &mut Book,
    cause: &Cause,
) -> Result<Reaction, Refused> {
    let order_id = order_id(order)?;
    Refused::unless_commanded(cause, order_id)?;
    decide(order_id, message, book, cause)
}

fn lines(lines: &[products::StockLine]) -> Result<Lines, Refused> {
    checked(lines.iter().map(|line| Line::new(&line.product_id, line.quantity)))
}
