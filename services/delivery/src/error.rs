//! What a call can fail with, and the one place that says how a caller is told.

use chassis::{cause::EncodeError, policy::SaveError, status};
use tonic::Status;
use uuid::Uuid;

use crate::domain::Refusal;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no delivery for the order.
    #[error("there is no delivery for the order {0}")]
    NotFound(Uuid),
    /// The delivery is in a state that forbids the call.
    #[error("the delivery for the order {order_id} refuses the call")]
    Refused {
        /// The order.
        order_id: Uuid,
        /// Why.
        #[source]
        refusal: Refusal,
    },
    /// The request_id came before, with other content.
    #[error("the request_id was used before, for another request")]
    RequestIdReused,
    /// The database failed.
    #[error("read or write deliveries")]
    Database(#[from] sqlx::Error),
    /// A locked row was not written.
    #[error("save the delivery")]
    Save(#[source] SaveError),
    /// An event could not be written as JSON.
    #[error("tell of the delivery")]
    Encode(#[from] EncodeError),
    /// A page token could not be written.
    #[error("write a page token")]
    PageToken(#[from] serde_json::Error),
}

impl From<SaveError> for Error {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Sql(error) => Self::Database(error),
            SaveError::Conflict => Self::Save(error),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match &error {
            Error::NotFound(order_id) | Error::Refused { order_id, refusal: Refusal::NotFound } => {
                status::not_found("Delivery", &order_id.to_string())
            }
            Error::Refused { order_id, refusal } => {
                status::precondition(reason(*refusal), &order_id.to_string(), &refusal.to_string())
            }
            Error::RequestIdReused => status::request_id_reused(),
            Error::Database(error) => status::database(error),
            Error::Save(_) | Error::Encode(_) | Error::PageToken(_) => status::internal(&error),
        }
    }
}

fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotFound => "DELIVERY_NOT_FOUND",
        Refusal::NotReady => "DELIVERY_NOT_READY",
        Refusal::NotDispatched => "DELIVERY_NOT_DISPATCHED",
        Refusal::AlreadyDispatched => "DELIVERY_ALREADY_DISPATCHED",
        Refusal::AlreadyCompleted => "DELIVERY_ALREADY_COMPLETED",
        Refusal::Cancelled => "DELIVERY_CANCELLED",
        Refusal::Failed => "DELIVERY_FAILED",
    }
}
