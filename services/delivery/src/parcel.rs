//! What is delivered, and to whom; taken from the placed order, and never changed.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
