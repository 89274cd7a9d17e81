//! Why a call cannot be answered as asked, and what its caller is told.

use chassis::{cause::EncodeError, policy::SaveError, status};
use tonic::Status;

use crate::product::StockError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request itself is wrong; every violation is named in the status.
    #[error("the request is not valid")]
    Invalid(#[source] Box<Status>),
    /// There is no such product.
    #[error("there is no product {0}")]
    NotFound(String),
    /// There is such a product already.
    #[error("there is a product {0} already")]
    Exists(String),
    /// The request_id belongs to another request.
    #[error("the request_id was used for another request")]
    RequestIdReused,
    /// The caller saw an older version.
    #[error("{0} has changed since its etag was read")]
    StaleEtag(String),
    /// The stock cannot change so.
    #[error("change the stock")]
    Stock(#[from] StockError),
    /// The event could not be written.
    #[error("write the event")]
    Encode(#[from] EncodeError),
    /// A page token could not be written.
    #[error("write a page token")]
    PageToken(#[from] serde_json::Error),
    /// A row could not be saved.
    #[error("save the product")]
    Save(#[from] SaveError),
    /// The database failed.
    #[error("use the database")]
    Database(#[from] sqlx::Error),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Invalid(Box::new(status))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match &error {
            Error::Invalid(status) => Self::clone(status),
            Error::NotFound(product_id) => status::not_found("Product", product_id),
            Error::Exists(product_id) => {
                let message = format!("there is a product {product_id:?} already");
                status::already_exists("PRODUCT_EXISTS", &message)
            }
            Error::RequestIdReused => status::request_id_reused(),
            Error::StaleEtag(product_id) => status::stale_etag(product_id),
            Error::Stock(refused @ StockError::Insufficient { product_id, .. }) => {
                status::precondition("INSUFFICIENT_STOCK", product_id, &refused.to_string())
            }
            Error::Stock(refused @ StockError::TooLarge { product_id }) => {
                status::precondition("STOCK_TOO_LARGE", product_id, &refused.to_string())
            }
            Error::Encode(_) | Error::PageToken(_) => status::internal(&error),
            // The row was locked: nobody else can have written it.
            Error::Save(SaveError::Conflict) => status::internal(&error),
            Error::Save(SaveError::Sql(error)) | Error::Database(error) => status::database(error),
        }
    }
}
