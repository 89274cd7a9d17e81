//! From a request to checked values: every violation is named at once, before anything is read or written.

use chassis::{page_token, violations::Violations};
use chrono::{DateTime, Utc};
use proto::delivery::v1::{
    BatchGetDeliveriesRequest, DeliveryState, FailDeliveryRequest, GetDeliveryRequest,
    ListDeliveriesRequest,
};
use tonic::Status;
use uuid::Uuid;

use crate::wire;

const MOST_AT_ONCE: usize = 100;

/// A page of ListDeliveries, as it was asked for.
#[derive(Clone, Debug)]
pub struct Page {
    /// What its page tokens belong to.
    pub question: ListDeliveriesRequest,
    /// Only deliveries in this state.
    pub state: Option<&'static str>,
    /// Only deliveries before this one in the list.
    pub before: Option<(DateTime<Utc>, Uuid)>,
    /// At most this many.
    pub size: i64,
}

/// The order whose delivery is to be read.
pub fn get(request: &GetDeliveryRequest) -> Result<Uuid, Status> {
    let mut violations = Violations::default();
    let order_id = violations.uuid("order_id", &request.order_id).unwrap_or_default();
    violations.finish()?;
    Ok(order_id)
}

/// The orders whose deliveries are to be read.
pub fn batch(request: &BatchGetDeliveriesRequest) -> Result<Vec<Uuid>, Status> {
    let mut violations = Violations::default();
    let order_ids = violations.uuids("order_ids", &request.order_ids, 1..=MOST_AT_ONCE);
    violations.finish()?;
    Ok(order_ids)
}

/// The order whose delivery is to be moved on.
pub fn act(order_id: &str, request_id: &str) -> Result<Uuid, Status> {
    let mut violations = Violations::default();
    let order_id = violations.uuid("order_id", order_id).unwrap_or_default();
    violations.request_id(request_id);
    violations.finish()?;
    Ok(order_id)
}

/// The order whose delivery is given up.
pub fn fail(request: &FailDeliveryRequest) -> Result<Uuid, Status> {
    let mut violations = Violations::default();
    let order_id = violations.uuid("order_id", &request.order_id).unwrap_or_default();
    violations.request_id(&request.request_id);
    violations.text("reason", &request.reason, 0..=500);
    violations.finish()?;
    Ok(order_id)
}

/// The deliveries to be listed.
pub fn page(request: &ListDeliveriesRequest) -> Result<Page, Status> {
    let question =
        ListDeliveriesRequest { state: request.state, ..ListDeliveriesRequest::default() };
    let mut violations = Violations::default();
    let size = violations.page_size(request.page_size);
    let position: Option<(i64, Uuid)> =
        page_token::read(&question, &request.page_token, &mut violations);
    let before =
        position.and_then(|(micros, id)| Some((DateTime::from_timestamp_micros(micros)?, id)));
    let state = DeliveryState::try_from(request.state).map_err(|_| {
        violations.add("state", "is not a state of a delivery");
    });
    violations.finish()?;
    Ok(Page { question, state: state.ok().and_then(wire::filter), before, size })
}
