//! A parcel, which is taken from the placed order and never changes, and its delivery, which does.

use chassis::cause::{Cause, Coordination};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::State;

/// Pieces of one product in a parcel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The product.
    pub product_id: String,
    /// Its name when the order was placed.
    pub product_name: String,
    /// Pieces.
    pub quantity: i32,
}

/// What is sent, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The delivery's id.
    pub delivery_id: Uuid,
    /// Who ordered.
    pub customer_id: String,
    /// The name on the parcel.
    pub customer_name: String,
    /// Where it goes.
    pub address: String,
    /// What is in it.
    pub lines: Vec<Line>,
}

/// The delivery of an order: one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The order.
    pub order_id: Uuid,
    /// What is sent; none on a tombstone.
    pub parcel: Option<Parcel>,
    /// Where it stands.
    pub state: State,
    /// How its order is coordinated.
    pub coordination: Coordination,
    /// Grows by one with every change; the first is 1.
    pub version: i64,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Delivery {
    /// The first row of an order.
    pub fn new(order_id: Uuid, parcel: Option<Parcel>, state: State, cause: &Cause) -> Self {
        Self {
            order_id,
            parcel,
            state,
            coordination: cause.coordination.unwrap_or(Coordination::Choreography),
            version: 1,
            created_at: cause.now,
            updated_at: cause.now,
        }
    }

    /// Moves on to the next state.
    pub fn advance(&mut self, state: State, now: DateTime<Utc>) {
        self.state = state;
        self.version += 1;
        // A cause that waited for the row may be older than the change it waited for.
        self.updated_at = self.updated_at.max(now);
    }
}
