//! products and delivery, asked for their rows of some orders: read-only, within a deadline, and both or neither.

use std::{collections::HashMap, time::Duration};

use proto::{
    delivery::v1::{
        self as theirs, BatchGetDeliveriesRequest, DeliveryState,
        delivery_service_client::DeliveryServiceClient,
    },
    products::v1::{
        self as stock, BatchGetReservationsRequest, ReservationState,
        product_service_client::ProductServiceClient,
    },
};
use tonic::{Request, Status, transport::Channel};
use uuid::Uuid;

use crate::comparison::{Delivery, Reservation, Rows};

/// So many orders can be asked about at once.
pub const AT_ONCE: usize = 100;

/// Who takes longer is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks both.
#[derive(Clone, Debug)]
pub struct Participants {
    products: ProductServiceClient<Channel>,
    delivery: DeliveryServiceClient<Channel>,
}

/// Why the rows are not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of them is away, or refuses.
    #[error("{who} did not answer")]
    Away {
        /// The service.
        who: &'static str,
        /// What came instead of an answer.
        #[source]
        status: Box<Status>,
    },
    /// One of them is newer than this program, or is somebody else.
    #[error("{who} answered what makes no sense here: {what}")]
    Nonsense {
        /// The service.
        who: &'static str,
        /// The row that it answered.
        what: String,
    },
}

impl Participants {
    /// Over these connections.
    pub fn new(products: Channel, delivery: Channel) -> Self {
        Self {
            products: ProductServiceClient::new(products),
            delivery: DeliveryServiceClient::new(delivery),
        }
    }

    /// Their rows of up to [`AT_ONCE`] orders; an order that is not in it has none. Errors: one of them could not be asked, so
    /// that nothing can be said.
    pub async fn rows(&self, order_ids: &[Uuid]) -> Result<HashMap<Uuid, Rows>, Error> {
        let (reservations, deliveries) =
            tokio::try_join!(self.reservations(order_ids), self.deliveries(order_ids))?;
        let mut rows: HashMap<Uuid, Rows> = HashMap::new();
        for (order_id, reservation) in reservations {
            rows.entry(order_id).or_default().reservation = Some(reservation);
        }
        for (order_id, delivery) in deliveries {
            rows.entry(order_id).or_default().delivery = Some(delivery);
        }
        Ok(rows)
    }

    async fn reservations(&self, order_ids: &[Uuid]) -> Result<Vec<(Uuid, Reservation)>, Error> {
        let order_ids = order_ids.iter().map(Uuid::to_string).collect();
        let request = soon(BatchGetReservationsRequest { order_ids });
        let mut products = self.products.clone();
        let answer = in_time("products", products.batch_get_reservations(request)).await?;
        answer.reservations.iter().map(reservation).collect()
    }

    async fn deliveries(&self, order_ids: &[Uuid]) -> Result<Vec<(Uuid, Delivery)>, Error> {
        let order_ids = order_ids.iter().map(Uuid::to_string).collect();
        let request = soon(BatchGetDeliveriesRequest { order_ids });
        let mut deliveries = self.delivery.clone();
        let answer = in_time("delivery", deliveries.batch_get_deliveries(request)).await?;
        answer.deliveries.iter().map(delivery).collect()
    }
}

fn soon<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// The deadline goes along with the call; whoever is frozen does not keep it.
async fn in_time<T>(
    who: &'static str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Error> {
    let answer = tokio::time::timeout(PATIENCE, call)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| Error::Away { who, status: Box::new(status) })
}

fn reservation(row: &stock::Reservation) -> Result<(Uuid, Reservation), Error> {
    let state = match row.state() {
        ReservationState::Reserved => Some(Reservation::Reserved),
        ReservationState::Released => Some(Reservation::Released),
        ReservationState::Rejected => Some(Reservation::Rejected),
        ReservationState::Tombstone => Some(Reservation::Tombstone),
        // A state that is not known here reads as this.
        ReservationState::Unspecified => None,
    };
    known(&row.order_id, state).ok_or_else(|| Error::Nonsense {
        who: "products",
        what: format!("{:?} in state {}", row.order_id, row.state),
    })
}

fn delivery(row: &theirs::Delivery) -> Result<(Uuid, Delivery), Error> {
    let state = match row.state() {
        DeliveryState::Started => Some(Delivery::Started),
        DeliveryState::Ready => Some(Delivery::Ready),
        DeliveryState::Dispatched => {
            Some(Delivery::Dispatched { cancel_refused: row.cancel_refused })
        }
        DeliveryState::Completed => Some(Delivery::Completed),
        DeliveryState::Cancelled => Some(Delivery::Cancelled),
        DeliveryState::Failed => Some(Delivery::Failed),
        DeliveryState::Unspecified => None,
    };
    known(&row.order_id, state).ok_or_else(|| Error::Nonsense {
        who: "delivery",
        what: format!("{:?} in state {}", row.order_id, row.state),
    })
}

fn known<T>(order_id: &str, state: Option<T>) -> Option<(Uuid, T)> {
    Uuid::try_parse(order_id).ok().zip(state)
}
