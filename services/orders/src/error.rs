//! Why a call was not done, and the one place that says how a caller hears of it.

use std::sync::Arc;

use chassis::{policy::SaveError, status};
use tonic::Status;
use tonic_types::FieldViolation;

use crate::{domain::Refusal, order};

/// Why a call was not done. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong in these places.
    #[error("the request is invalid")]
    Invalid(Vec<FieldViolation>),
    /// The request_id came before, with other content.
    #[error("the request_id was used for another request")]
    RequestIdReused,
    /// There is no such order.
    #[error("there is no order {0}")]
    NotFound(String),
    /// The order has changed since the caller read it.
    #[error("the etag of order {0} is stale")]
    StaleEtag(String),
    /// The order's state forbids the call.
    #[error("order {0} refuses")]
    Refused(String, #[source] Refusal),
    /// The stock was checked first, and does not do.
    #[error("out of stock: {0}")]
    OutOfStock(String),
    /// The stock had to be checked with products, and products did not answer.
    #[error("products could not be asked")]
    ProductsUnavailable(#[source] Box<Status>),
    /// An event or token could not be written.
    #[error("write an answer or an event")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database.
    #[error("use the database")]
    Database(#[from] sqlx::Error),
    /// The database is away, for all orders that were to share a commit.
    #[error("use the database")]
    Away(#[source] Arc<sqlx::Error>),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

impl Error {
    /// Why deciding a message on an order failed.
    pub fn deciding(order_id: uuid::Uuid, error: order::Error) -> Self {
        match error {
            order::Error::Refused(refusal) => Self::Refused(order_id.to_string(), refusal),
            order::Error::Encode(error) => Self::Encode(Box::new(error)),
        }
    }
}

impl From<SaveError> for Error {
    fn from(error: SaveError) -> Self {
        match error {
            // The row was locked, so this cannot be; the caller may try again.
            SaveError::Conflict => Self::Database(sqlx::Error::WorkerCrashed),
            SaveError::Sql(error) => Self::Database(error),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(violations) => status::invalid(violations),
            Error::RequestIdReused => status::request_id_reused(),
            Error::NotFound(order_id) => status::not_found("Order", &order_id),
            Error::StaleEtag(order_id) => status::stale_etag(&order_id),
            Error::Refused(order_id, refusal) => {
                status::precondition(refusal_reason(refusal), &order_id, &refusal.to_string())
            }
            Error::OutOfStock(what) => status::precondition("OUT_OF_STOCK", "stock", &what),
            Error::ProductsUnavailable(cause) => {
                tracing::warn!(%cause, "products could not be asked");
                status::unavailable(
                    "PRODUCTS_UNAVAILABLE",
                    "products could not be asked for the stock; try again",
                )
            }
            Error::Encode(error) => status::internal(error.as_ref()),
            Error::Database(error) => status::database(&error),
            Error::Away(error) => status::database(&error),
            Error::Stopping => {
                status::unavailable("STOPPING", "the service is stopping; try again")
            }
        }
    }
}

fn refusal_reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::CancelRefused => "CANCEL_REFUSED",
        Refusal::Completed => "ORDER_COMPLETED",
        Refusal::ShippedAndCancelled => "SHIPPED_AND_CANCELLED",
        Refusal::NotConfirmed => "NOT_CONFIRMED",
    }
}
