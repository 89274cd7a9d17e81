//! A product and its stock. Every change makes its next version; the stock never goes below zero.

use chrono::{DateTime, Utc};
use proto::money::Money;
use serde::{Deserialize, Serialize};

/// A choice a product comes with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductOption {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
}

/// A product, as it stands in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// Its id.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// The price of one piece.
    pub price: Money,
    /// Pieces that can still be reserved.
    pub stock: i64,
    /// Where its picture is.
    pub image_url: String,
    /// The choices it comes with.
    pub options: Vec<ProductOption>,
    /// Grows by one with every change.
    pub version: i64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// What of a product is to change; what is none stays.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// A new name.
    pub name: Option<String>,
    /// A new price of one piece.
    pub price: Option<Money>,
    /// A new picture.
    pub image_url: Option<String>,
    /// New options in place of all the old ones.
    pub options: Option<Vec<ProductOption>>,
}

/// Why the stock of a product cannot change so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StockError {
    /// More would be taken than there is.
    #[error("there are only {available} pieces of {product_id}")]
    Insufficient {
        /// The product.
        product_id: String,
        /// Pieces there are.
        available: i64,
    },
    /// The stock or the version would not fit its number.
    #[error("{product_id} cannot count that far")]
    TooLarge {
        /// The product.
        product_id: String,
    },
}

impl Product {
    /// The next version, with so many pieces more, or fewer.
    pub fn restocked(&self, delta: i64, now: DateTime<Utc>) -> Result<Self, StockError> {
        let stock = self.stock.checked_add(delta).ok_or_else(|| self.too_large())?;
        if stock < 0 {
            let product_id = self.product_id.clone();
            return Err(StockError::Insufficient { product_id, available: self.stock });
        }
        Ok(Self { stock, ..self.next(now)? })
    }

    /// The next version, with what is to change.
    pub fn updated(&self, update: Update, now: DateTime<Utc>) -> Result<Self, StockError> {
        let next = self.next(now)?;
        Ok(Self {
            name: update.name.unwrap_or(next.name),
            price: update.price.unwrap_or(next.price),
            image_url: update.image_url.unwrap_or(next.image_url),
            options: update.options.unwrap_or(next.options),
            ..next
        })
    }

    /// Names this version to callers.
    pub fn etag(&self) -> String {
        format!("v{}", self.version)
    }

    fn next(&self, now: DateTime<Utc>) -> Result<Self, StockError> {
        let version = self.version.checked_add(1).ok_or_else(|| self.too_large())?;
        Ok(Self { version, updated_at: now, ..self.clone() })
    }

    fn too_large(&self) -> StockError {
        StockError::TooLarge { product_id: self.product_id.clone() }
    }
}
