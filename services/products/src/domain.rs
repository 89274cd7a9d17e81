//! Reservations, one forward-only row per order: (row, message) -> (row', events) or a refusal. No I/O, no clock, no
//! proto types; every pair of state and message is decided, and the row decides, not the causal path.

use std::collections::BTreeMap;

use chassis::trail::Outcome;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    lines::{Line, Lines},
    product::{Product, StockError},
};

/// What products knows about an order. No row: nothing yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reservation {
    /// The lines were taken from the stock.
    Reserved {
        /// The `StockReserved` that told of it.
        decision_event_id: Uuid,
        /// What was taken.
        lines: Lines,
    },
    /// The lines were taken, and have come back.
    Released {
        /// The `StockReserved` that told of the taking.
        decision_event_id: Uuid,
        /// What was taken.
        lines: Lines,
    },
    /// The stock did not do; nothing was taken.
    Rejected {
        /// The `ProductOutOfStock` that told of it.
        decision_event_id: Uuid,
        /// What was short.
        shortages: Vec<Shortage>,
    },
    /// Cancelled before it was placed, so far as is known here: a placement that comes late is refused.
    Tombstone,
}

/// What is heard about an order, or commanded.
#[derive(Clone, Debug)]
pub enum Message {
    /// It was placed.
    OrderPlaced {
        /// What it wants.
        lines: Lines,
        /// The id for the event that will tell of the decision.
        decision_event_id: Uuid,
    },
    /// It was cancelled.
    OrderCancelled {
        /// The `ProductOutOfStock` of this service that the causal path names, if it names one.
        own_rejection: Option<Uuid>,
    },
    /// The orchestrator wants its lines taken.
    ReserveStock {
        /// What it wants.
        lines: Lines,
        /// The id of the answer to this command.
        decision_event_id: Uuid,
    },
    /// The orchestrator wants nothing held for it, now and ever.
    ReleaseStock,
}

/// The products a decision is about, as they stand.
pub type Shelf = BTreeMap<String, Product>;

/// A line that the stock does not cover.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shortage {
    /// What was wanted.
    #[serde(flatten)]
    pub wanted: Line,
    /// Pieces there are; none of a product that is not known.
    pub available: i64,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Every line was taken.
    StockReserved {
        /// The id to tell it under, which the row keeps.
        decision_event_id: Uuid,
        /// What was taken.
        lines: Lines,
    },
    /// The stock did not do; nothing was taken.
    ProductOutOfStock {
        /// The id to tell it under, which the row keeps.
        decision_event_id: Uuid,
        /// Every line that falls short.
        shortages: Vec<Shortage>,
    },
    /// Nothing is held, and nothing will be: an answer to a command.
    StockReleased {
        /// What had been taken; none when nothing was.
        lines: Option<Lines>,
    },
    /// The next version of a product.
    ProductChanged(Product),
}

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The row as it is to be, and what to tell; the products in it take the place of those on the shelf.
    Applied(Reservation, Vec<Event>),
    /// It was heard before.
    Duplicate,
    /// It follows from this service's own rejection.
    OwnOrigin,
    /// The customer and this service decided at the same time.
    Raced,
    /// Nothing had to be done, for this reason; the command is answered all the same.
    Answered(Outcome, Event),
}

/// A message in contradiction to the row: nothing may be done about it without a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// The causal path names a rejection that the row knows nothing of.
    #[error(
        "the cancellation claims to follow from ProductOutOfStock {claimed}, but the row is {state}"
    )]
    NeverRejected {
        /// The `ProductOutOfStock` on the path.
        claimed: Uuid,
        /// The row's state.
        state: &'static str,
    },
    /// Stock cannot come back to a product that is gone.
    #[error("the stock of {0} cannot come back: there is no such product")]
    ProductGone(String),
    /// A stock or version would not fit its number.
    #[error(transparent)]
    Stock(#[from] StockError),
}

impl Reservation {
    /// The row's state, by name.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Reserved { .. } => "RESERVED",
            Self::Released { .. } => "RELEASED",
            Self::Rejected { .. } => "REJECTED",
            Self::Tombstone => "TOMBSTONE",
        }
    }

    /// The event that told of the decision, where there was one.
    pub fn decision_event_id(&self) -> Option<Uuid> {
        match self {
            Self::Reserved { decision_event_id, .. }
            | Self::Released { decision_event_id, .. }
            | Self::Rejected { decision_event_id, .. } => Some(*decision_event_id),
            Self::Tombstone => None,
        }
    }

    /// What was taken, where something was.
    pub fn lines(&self) -> Option<&Lines> {
        match self {
            Self::Reserved { lines, .. } | Self::Released { lines, .. } => Some(lines),
            Self::Rejected { .. } | Self::Tombstone => None,
        }
    }

    /// What was short, where something was.
    pub fn shortages(&self) -> &[Shortage] {
        match self {
            Self::Rejected { shortages, .. } => shortages,
            Self::Reserved { .. } | Self::Released { .. } | Self::Tombstone => &[],
        }
    }
}

/// Decides one message on the row of its order and the products as they stand.
pub fn decide(
    row: Option<&Reservation>,
    message: &Message,
    shelf: &Shelf,
    now: DateTime<Utc>,
) -> Result<Decision, Contradiction> {
    use Message::{OrderCancelled, OrderPlaced, ReleaseStock, ReserveStock};
    use Reservation::{Rejected, Released, Reserved, Tombstone};

    match (row, message) {
        (
            None,
            OrderPlaced { lines, decision_event_id } | ReserveStock { lines, decision_event_id },
        ) => place(lines, *decision_event_id, shelf, now),
        (Some(Reserved { .. } | Released { .. } | Rejected { .. }), OrderPlaced { .. }) => {
            Ok(Decision::Duplicate)
        }
        (Some(Tombstone), OrderPlaced { .. }) => Ok(Decision::Raced),

        (
            Some(Rejected { decision_event_id, .. }),
            OrderCancelled { own_rejection: Some(claimed) },
        ) if claimed == decision_event_id => Ok(Decision::OwnOrigin),
        (
            None | Some(Reserved { .. } | Released { .. } | Rejected { .. } | Tombstone),
            OrderCancelled { own_rejection: Some(claimed) },
        ) => {
            let state = row.map_or("missing", Reservation::state);
            Err(Contradiction::NeverRejected { claimed: *claimed, state })
        }
        (None, OrderCancelled { own_rejection: None }) => {
            Ok(Decision::Applied(Tombstone, Vec::new()))
        }
        (Some(Reserved { decision_event_id, lines }), OrderCancelled { own_rejection: None }) => {
            release(lines, *decision_event_id, Vec::new(), shelf, now)
        }
        (Some(Rejected { .. }), OrderCancelled { own_rejection: None }) => Ok(Decision::Raced),
        (Some(Released { .. } | Tombstone), OrderCancelled { own_rejection: None }) => {
            Ok(Decision::Duplicate)
        }

        (Some(row), ReserveStock { decision_event_id, .. }) => {
            Ok(place_again(row, *decision_event_id))
        }

        (None, ReleaseStock) => {
            Ok(Decision::Applied(Tombstone, vec![Event::StockReleased { lines: None }]))
        }
        (Some(Reserved { decision_event_id, lines }), ReleaseStock) => {
            let told = vec![Event::StockReleased { lines: Some(lines.clone()) }];
            release(lines, *decision_event_id, told, shelf, now)
        }
        (Some(Rejected { .. }), ReleaseStock) => {
            Ok(Decision::Answered(Outcome::Ignored, Event::StockReleased { lines: None }))
        }
        (Some(row @ (Released { .. } | Tombstone)), ReleaseStock) => {
            let lines = row.lines().cloned();
            Ok(Decision::Answered(Outcome::Duplicate, Event::StockReleased { lines }))
        }
    }
}

/// The lines that the stock does not cover.
pub fn shortages(lines: &Lines, shelf: &Shelf) -> Vec<Shortage> {
    let short = lines.iter().filter_map(|line| {
        let available = shelf.get(line.product_id()).map_or(0, |product| product.stock);
        let falls_short = available < i64::from(line.quantity());
        falls_short.then(|| Shortage { wanted: line.clone(), available })
    });
    short.collect()
}

/// All lines or none.
fn place(
    lines: &Lines,
    decision_event_id: Uuid,
    shelf: &Shelf,
    now: DateTime<Utc>,
) -> Result<Decision, Contradiction> {
    let shortages = shortages(lines, shelf);
    if !shortages.is_empty() {
        let row = Reservation::Rejected { decision_event_id, shortages: shortages.clone() };
        let told = Event::ProductOutOfStock { decision_event_id, shortages };
        return Ok(Decision::Applied(row, vec![told]));
    }
    let mut events = vec![Event::StockReserved { decision_event_id, lines: lines.clone() }];
    for line in lines.iter() {
        events.push(change(line, -i64::from(line.quantity()), shelf, now)?);
    }
    Ok(Decision::Applied(Reservation::Reserved { decision_event_id, lines: lines.clone() }, events))
}

/// What stands, told under the id of the command that asks again.
fn place_again(row: &Reservation, decision_event_id: Uuid) -> Decision {
    match row {
        Reservation::Reserved { lines, .. } => Decision::Answered(
            Outcome::Duplicate,
            Event::StockReserved { decision_event_id, lines: lines.clone() },
        ),
        Reservation::Rejected { shortages, .. } => Decision::Answered(
            Outcome::Duplicate,
            Event::ProductOutOfStock { decision_event_id, shortages: shortages.clone() },
        ),
        Reservation::Released { lines, .. } => {
            let lines = Some(lines.clone());
            Decision::Answered(Outcome::Duplicate, Event::StockReleased { lines })
        }
        Reservation::Tombstone => {
            Decision::Answered(Outcome::Raced, Event::StockReleased { lines: None })
        }
    }
}

/// The only place where stock comes back, and only from a row that holds it. What is `told` comes before the products.
fn release(
    lines: &Lines,
    decision_event_id: Uuid,
    mut told: Vec<Event>,
    shelf: &Shelf,
    now: DateTime<Utc>,
) -> Result<Decision, Contradiction> {
    for line in lines.iter() {
        told.push(change(line, i64::from(line.quantity()), shelf, now)?);
    }
    Ok(Decision::Applied(Reservation::Released { decision_event_id, lines: lines.clone() }, told))
}

fn change(
    line: &Line,
    delta: i64,
    shelf: &Shelf,
    now: DateTime<Utc>,
) -> Result<Event, Contradiction> {
    let product = shelf
        .get(line.product_id())
        .ok_or_else(|| Contradiction::ProductGone(line.product_id().to_owned()))?;
    Ok(Event::ProductChanged(product.restocked(delta, now)?))
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
