//! The fate of an order, decided purely: (fate, message) -> (fate', event) or a refusal. The orders row is the one register
//! of decisions; the others report facts.

mod commands;

use chassis::trail::Outcome;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Accepted; not everybody has agreed yet.
    Pending,
    /// Stock is reserved and the delivery has started.
    Confirmed,
    /// Called off. Final.
    Cancelled(Reason),
    /// Delivered. Final.
    Completed,
}

/// Why an order was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// products could not reserve every line.
    OutOfStock,
    /// The customer asked for it.
    Customer,
    /// The goods could not be delivered.
    DeliveryFailed,
    /// The deadline passed while the order was pending.
    TimedOut,
}

/// A customer's wish to cancel a confirmed order; delivery decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cancel {
    /// Nobody asked.
    None,
    /// Asked, and not decided.
    Requested,
    /// Refused: the goods had left.
    Refused,
}

/// Everything that decides an order's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fate {
    /// Where it stands.
    pub state: State,
    /// The wish to cancel it.
    pub cancel: Cancel,
    /// products said that the stock is reserved. Never taken back.
    pub stock_reserved: bool,
    /// delivery said that it has started. Never taken back.
    pub delivery_started: bool,
}

/// What an order is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// The customer calls it off.
    CancelOrder,
    /// Its deadline has passed.
    DeadlinePassed,
    /// products has reserved every line.
    StockReserved,
    /// products could not reserve every line, and took nothing.
    ProductOutOfStock,
    /// delivery has opened a delivery.
    DeliveryStarted,
    /// delivery has called it off.
    DeliveryCancelled,
    /// delivery cannot call it off: the goods have left.
    DeliveryCancelRefused,
    /// The goods have arrived.
    DeliveryCompleted,
    /// The goods cannot be delivered.
    DeliveryFailed,
    /// The orchestrator asks for a decision.
    Command(Command),
}

/// What the orchestrator asks an order to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Stock is reserved and the delivery has started: let it hold.
    ConfirmOrder,
    /// Call it off, for this reason.
    CancelOrder(Reason),
    /// The goods have left: refuse the customer's wish.
    RefuseCancel,
    /// The goods have arrived: let it be done.
    CompleteOrder,
}

/// What an order tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The order holds.
    OrderConfirmed,
    /// delivery is to decide a cancellation.
    OrderCancelRequested,
    /// The order is called off.
    OrderCancelled,
    /// The customer's wish is refused: an answer to a command.
    OrderCancelRefused,
    /// The goods have arrived: an answer to a command.
    OrderCompleted,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The fate changes, perhaps with an event that tells of it.
    Change(Fate, Option<Event>),
    /// It is so already.
    Duplicate,
    /// It is the consequence of this order's own cancellation.
    OwnOrigin,
    /// Another decision was faster.
    Raced,
    /// It has no meaning in this state.
    Ignored,
    /// Nothing changes, for this reason; the command is answered all the same.
    Answer(Event, Outcome),
}

/// Why a message is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A customer's cancel was refused before: the goods have left.
    #[error("the goods have left; the cancellation was refused")]
    CancelRefused,
    /// A customer's cancel comes too late: the goods have arrived.
    #[error("the order is completed")]
    Completed,
    /// The goods of a cancelled order arrived: a person must look.
    #[error("a delivery was completed for an order that is cancelled")]
    ShippedAndCancelled,
    /// Such a command follows from the order's confirmation, and there was none: a person must look.
    #[error("the order is still pending, so there is nothing to refuse or to complete")]
    NotConfirmed,
}

impl Fate {
    /// Of an order that was just accepted.
    pub const PLACED: Self = Self {
        state: State::Pending,
        cancel: Cancel::None,
        stock_reserved: false,
        delivery_started: false,
    };

    /// Decides a message. Every (state, message) pair is decided here.
    pub fn decide(self, message: Message) -> Result<Decision, Refusal> {
        match message {
            Message::CancelOrder => self.cancelled_by_customer(),
            Message::DeadlinePassed => Ok(match self.state {
                State::Pending => self.cancel_for(Reason::TimedOut),
                State::Confirmed | State::Cancelled(_) | State::Completed => Decision::Raced,
            }),
            Message::StockReserved => {
                Ok(self.learned(self.stock_reserved, Self { stock_reserved: true, ..self }))
            }
            Message::DeliveryStarted => {
                Ok(self.learned(self.delivery_started, Self { delivery_started: true, ..self }))
            }
            Message::ProductOutOfStock => Ok(match self.state {
                // products never takes a reservation back by itself: whoever says so now is not to be believed.
                State::Pending if self.stock_reserved => Decision::Ignored,
                State::Pending => self.cancel_for(Reason::OutOfStock),
                State::Cancelled(Reason::OutOfStock) => Decision::Duplicate,
                State::Cancelled(_) => Decision::Raced,
                State::Confirmed | State::Completed => Decision::Ignored,
            }),
            Message::DeliveryFailed => Ok(match self.state {
                State::Pending | State::Confirmed => self.cancel_for(Reason::DeliveryFailed),
                State::Cancelled(Reason::DeliveryFailed) => Decision::Duplicate,
                State::Cancelled(_) => Decision::Raced,
                State::Completed => Decision::Ignored,
            }),
            Message::DeliveryCancelled => Ok(match (self.state, self.cancel) {
                (State::Confirmed, Cancel::Requested) => self.cancel_for(Reason::Customer),
                (State::Cancelled(_), _) => Decision::OwnOrigin,
                (State::Pending | State::Completed, _)
                | (State::Confirmed, Cancel::None | Cancel::Refused) => Decision::Ignored,
            }),
            Message::DeliveryCancelRefused => Ok(match (self.state, self.cancel) {
                (State::Confirmed, Cancel::Requested) => {
                    Decision::Change(Self { cancel: Cancel::Refused, ..self }, None)
                }
                (State::Confirmed | State::Completed, Cancel::Refused) => Decision::Duplicate,
                (State::Pending | State::Cancelled(_), _)
                | (State::Confirmed, Cancel::None)
                | (State::Completed, Cancel::None | Cancel::Requested) => Decision::Ignored,
            }),
            Message::DeliveryCompleted => match self.state {
                State::Confirmed => Ok(Decision::Change(self.completed(), None)),
                State::Completed => Ok(Decision::Duplicate),
                State::Pending => Ok(Decision::Ignored),
                State::Cancelled(_) => Err(Refusal::ShippedAndCancelled),
            },
            Message::Command(command) => self.obey(command),
        }
    }

    fn cancelled_by_customer(self) -> Result<Decision, Refusal> {
        match (self.state, self.cancel) {
            (State::Pending, _) => Ok(self.cancel_for(Reason::Customer)),
            // orders cannot know whether the goods have left: delivery decides.
            (State::Confirmed, Cancel::None) => {
                let requested = Self { cancel: Cancel::Requested, ..self };
                Ok(Decision::Change(requested, Some(Event::OrderCancelRequested)))
            }
            (State::Confirmed, Cancel::Requested) | (State::Cancelled(_), _) => {
                Ok(Decision::Duplicate)
            }
            (State::Confirmed, Cancel::Refused) => Err(Refusal::CancelRefused),
            (State::Completed, _) => Err(Refusal::Completed),
        }
    }

    /// A fact came in; both facts together confirm the order, in whichever order they come.
    fn learned(self, known: bool, learned: Self) -> Decision {
        match self.state {
            _ if known => Decision::Duplicate,
            State::Pending if learned.stock_reserved && learned.delivery_started => {
                Decision::Change(
                    Self { state: State::Confirmed, ..learned },
                    Some(Event::OrderConfirmed),
                )
            }
            State::Pending => Decision::Change(learned, None),
            State::Cancelled(_) => Decision::Raced,
            State::Confirmed | State::Completed => Decision::Duplicate,
        }
    }

    fn cancel_for(self, reason: Reason) -> Decision {
        Decision::Change(
            Self { state: State::Cancelled(reason), ..self },
            Some(Event::OrderCancelled),
        )
    }

    fn completed(self) -> Self {
        let cancel = match self.cancel {
            Cancel::Requested => Cancel::Refused,
            Cancel::None | Cancel::Refused => self.cancel,
        };
        Self { state: State::Completed, cancel, ..self }
    }

    /// Whether nothing can follow.
    pub fn is_final(self) -> bool {
        matches!(self.state, State::Cancelled(_) | State::Completed)
    }
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
