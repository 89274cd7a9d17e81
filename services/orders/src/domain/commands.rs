//! The orchestrator's commands. orders decides by its own row, and answers with the event of the state the order is in.

use chassis::trail::Outcome;

use super::{Cancel, Command, Decision, Event, Fate, Reason, Refusal, State};

impl Fate {
    pub(super) fn obey(self, command: Command) -> Result<Decision, Refusal> {
        match command {
            Command::ConfirmOrder => Ok(self.confirm()),
            Command::CancelOrder(reason) => Ok(self.cancel(reason)),
            Command::RefuseCancel => self.refuse_cancel(),
            Command::CompleteOrder => self.complete(),
        }
    }

    fn confirm(self) -> Decision {
        match self.state {
            State::Pending => {
                // The orchestrator has heard both facts, or it would not ask.
                let confirmed = Self {
                    state: State::Confirmed,
                    stock_reserved: true,
                    delivery_started: true,
                    ..self
                };
                Decision::Change(confirmed, Some(Event::OrderConfirmed))
            }
            State::Confirmed => Decision::Answer(Event::OrderConfirmed, Outcome::Duplicate),
            State::Completed => Decision::Answer(Event::OrderCompleted, Outcome::Duplicate),
            State::Cancelled(_) => Decision::Answer(Event::OrderCancelled, Outcome::Raced),
        }
    }

    /// A confirmed order only because its delivery failed, or delivery has called it off at the customer's wish.
    fn cancel(self, reason: Reason) -> Decision {
        match (self.state, self.cancel, reason) {
            (State::Pending, _, _)
            | (State::Confirmed, _, Reason::DeliveryFailed)
            | (State::Confirmed, Cancel::Requested, Reason::Customer) => self.cancel_for(reason),
            (State::Confirmed, _, Reason::OutOfStock | Reason::TimedOut)
            | (State::Confirmed, Cancel::None | Cancel::Refused, Reason::Customer) => {
                Decision::Answer(Event::OrderConfirmed, Outcome::Ignored)
            }
            (State::Completed, _, _) => Decision::Answer(Event::OrderCompleted, Outcome::Ignored),
            (State::Cancelled(before), _, _) if before == reason => {
                Decision::Answer(Event::OrderCancelled, Outcome::Duplicate)
            }
            (State::Cancelled(_), _, _) => Decision::Answer(Event::OrderCancelled, Outcome::Raced),
        }
    }

    fn refuse_cancel(self) -> Result<Decision, Refusal> {
        match (self.state, self.cancel) {
            (State::Pending, _) => Err(Refusal::NotConfirmed),
            (State::Confirmed, Cancel::Requested) => {
                let refused = Self { cancel: Cancel::Refused, ..self };
                Ok(Decision::Change(refused, Some(Event::OrderCancelRefused)))
            }
            (State::Confirmed | State::Completed, Cancel::Refused) => {
                Ok(Decision::Answer(Event::OrderCancelRefused, Outcome::Duplicate))
            }
            (State::Confirmed, Cancel::None) => {
                Ok(Decision::Answer(Event::OrderConfirmed, Outcome::Ignored))
            }
            (State::Completed, Cancel::None | Cancel::Requested) => {
                Ok(Decision::Answer(Event::OrderCompleted, Outcome::Ignored))
            }
            (State::Cancelled(_), _) => Ok(Decision::Answer(Event::OrderCancelled, Outcome::Raced)),
        }
    }

    fn complete(self) -> Result<Decision, Refusal> {
        match self.state {
            State::Pending => Err(Refusal::NotConfirmed),
            State::Confirmed => Ok(Decision::Change(self.completed(), Some(Event::OrderCompleted))),
            State::Completed => Ok(Decision::Answer(Event::OrderCompleted, Outcome::Duplicate)),
            State::Cancelled(_) => Err(Refusal::ShippedAndCancelled),
        }
    }
}
