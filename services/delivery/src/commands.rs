//! What delivery does when the orchestrator tells it to. Every command is answered, however often it comes and also when
//! nothing has to be done.

use chassis::{
    cause::{Cause, Coordination},
    policy::{Policy, Reaction, Refused},
    switches::Switch,
};
use proto::delivery::v1;

use crate::{
    book::Book,
    domain::{Carriers, Heard},
    parcel::Parcel,
    policies::{decide, want},
    wire,
};

type Wants = <Book as chassis::policy::Book>::Wants;

/// Whenever the orchestrator wants a delivery started, open one; where no carrier delivers to, answer that it failed.
#[derive(Debug)]
pub struct StartDelivery {
    /// Where no carrier delivers to.
    pub carriers: Carriers,
    /// For demonstrations: while it is on, no carrier delivers anywhere.
    pub refuse: Switch,
}

impl Policy<Book> for StartDelivery {
    type Event = v1::StartDelivery;

    fn wants(&self, command: &Self::Event, wants: &mut Wants) -> Result<(), Refused> {
        want(&command.order_id, wants)
    }

    fn react(
        &self,
        command: &Self::Event,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        let parcel = wire::commanded(command)?;
        let carrier = !self.refuse.is_on() && self.carriers.reach(&parcel.address);
        let heard = Heard::StartDelivery { carrier };
        obey(book, &command.order_id, heard, Some(parcel), cause)
    }
}

/// Whenever the orchestrator says that the order is confirmed, let its goods leave.
#[derive(Debug)]
pub struct ReadyDelivery;

impl Policy<Book> for ReadyDelivery {
    type Event = v1::ReadyDelivery;

    fn wants(&self, command: &Self::Event, wants: &mut Wants) -> Result<(), Refused> {
        want(&command.order_id, wants)
    }

    fn react(
        &self,
        command: &Self::Event,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        obey(book, &command.order_id, Heard::ReadyDelivery, None, cause)
    }
}

/// Whenever the orchestrator wants a delivery called off, cancel it, or refuse when the goods have left.
#[derive(Debug)]
pub struct CancelDelivery;

impl Policy<Book> for CancelDelivery {
    type Event = v1::CancelDelivery;

    fn wants(&self, command: &Self::Event, wants: &mut Wants) -> Result<(), Refused> {
        want(&command.order_id, wants)
    }

    fn react(
        &self,
        command: &Self::Event,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        obey(book, &command.order_id, Heard::CancelDelivery, None, cause)
    }
}

fn obey(
    book: &mut Book,
    order_id: &str,
    heard: Heard<'_>,
    parcel: Option<Parcel>,
    cause: &Cause,
) -> Result<Reaction, Refused> {
    let order_id = wire::order_id(order_id)?;
    Refused::unless_commanded(cause, order_id)?;
    let pinned = book.find(order_id).map(|delivery| delivery.coordination);
    if pinned == Some(Coordination::Choreography) {
        return Err(Refused(format!(
            "a command for order {order_id}, which is choreographed here"
        )));
    }
    decide(book, order_id, heard, parcel, cause.answer_id(), cause)
}
