//! From a request to checked values: every violation is named at once, before anything is read or written. Placing an
//! order and listing orders have files of their own, `placement` and `filter`.

use chassis::{page_token, violations::Violations};
use proto::orders::v1::{
    CancelOrderRequest, GetOrderRequest, ListProductReplicasRequest, OrderView, WatchOrderRequest,
};
use tonic::Status;
use uuid::Uuid;

/// A page of the replica that is asked for.
#[derive(Clone, Debug)]
pub struct Page {
    /// At most this many products.
    pub size: i64,
    /// Only products after this one; empty for the first page.
    pub after: String,
}

/// The order to be cancelled.
pub fn cancel(request: &CancelOrderRequest) -> Result<Uuid, Status> {
    let mut violations = Violations::default();
    let order_id = violations.uuid("order_id", &request.order_id).unwrap_or_default();
    violations.request_id(&request.request_id);
    violations.finish()?;
    Ok(order_id)
}

/// The order to be read, and how much of it.
pub fn get(request: &GetOrderRequest) -> Result<(Uuid, OrderView), Status> {
    let mut violations = Violations::default();
    let order_id = violations.uuid("order_id", &request.order_id).unwrap_or_default();
    let view = OrderView::try_from(request.view).unwrap_or_else(|_| {
        violations.add("view", "is not a known view");
        OrderView::Unspecified
    });
    violations.finish()?;
    Ok((order_id, view))
}

/// The order to be watched.
pub fn watch(request: &WatchOrderRequest) -> Result<Uuid, Status> {
    let mut violations = Violations::default();
    let order_id = violations.uuid("order_id", &request.order_id).unwrap_or_default();
    if request.after_revision < 0 {
        violations.add("after_revision", "must not be negative");
    }
    violations.finish()?;
    Ok(order_id)
}

/// A page of the replica to be read.
pub fn replicas(request: &ListProductReplicasRequest) -> Result<Page, Status> {
    let mut violations = Violations::default();
    let size = violations.page_size(request.page_size);
    let after = page_token::read(&question(), &request.page_token, &mut violations);
    violations.finish()?;
    Ok(Page { size, after: after.unwrap_or_default() })
}

/// What a page token of the replica belongs to: there is one list, so one question.
pub fn question() -> ListProductReplicasRequest {
    ListProductReplicasRequest::default()
}
