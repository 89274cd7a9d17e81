//! What an order wants of the stock. A line is checked when it is made: nothing further in has to ask again.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// An order has at most this many lines.
pub const MOST_LINES: usize = 100;

/// A line asks for at most this many pieces.
pub const MOST_PIECES: i32 = 1_000_000;

/// Pieces of one product.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Line {
    product_id: String,
    quantity: i32,
}

/// 1 to [`MOST_LINES`] lines, each product once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lines(Vec<Line>);

/// What is wrong with lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinesError {
    /// None, or more than [`MOST_LINES`].
    #[error("there must be 1 to {MOST_LINES} lines")]
    Count,
    /// A line does not name a product.
    #[error("a line must name its product")]
    NoProduct,
    /// A line asks for nothing, or less, or too much.
    #[error("the quantity must be between 1 and {MOST_PIECES}")]
    Quantity,
    /// Two lines ask for the same product.
    #[error("each product may be asked for once")]
    Twice,
}

impl Line {
    /// A checked line. Errors: what is wrong with it.
    pub fn new(product_id: impl Into<String>, quantity: i32) -> Result<Self, LinesError> {
        let product_id = product_id.into();
        if product_id.is_empty() {
            return Err(LinesError::NoProduct);
        }
        if !(1..=MOST_PIECES).contains(&quantity) {
            return Err(LinesError::Quantity);
        }
        Ok(Self { product_id, quantity })
    }

    /// The product.
    pub fn product_id(&self) -> &str {
        &self.product_id
    }

    /// Pieces; more than none.
    pub fn quantity(&self) -> i32 {
        self.quantity
    }
}

impl Lines {
    /// Checked lines, in the order given. Errors: the first thing wrong with them.
    pub fn new(
        lines: impl IntoIterator<Item = Result<Line, LinesError>>,
    ) -> Result<Self, LinesError> {
        let lines = lines.into_iter().collect::<Result<Vec<_>, _>>()?;
        if lines.is_empty() || lines.len() > MOST_LINES {
            return Err(LinesError::Count);
        }
        let products: HashSet<&str> = lines.iter().map(Line::product_id).collect();
        if products.len() < lines.len() {
            return Err(LinesError::Twice);
        }
        Ok(Self(lines))
    }

    /// The lines, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Line> {
        self.0.iter()
    }
}
