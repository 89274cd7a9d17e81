//! Which orders a list is to show: the request's conditions, checked.

use chassis::{page_token, violations::Violations, wire};
use chrono::{DateTime, Utc};
use proto::orders::v1::{ListOrdersRequest, OrderState};
use tonic::Status;

use crate::store::Filter;

/// The conditions and the page size. Errors: every violation at once.
pub fn check(request: &ListOrdersRequest, now: DateTime<Utc>) -> Result<(Filter, i64), Status> {
    let mut violations = Violations::default();
    let page_size = violations.page_size(request.page_size);
    let state = match OrderState::try_from(request.state) {
        Ok(OrderState::Unspecified) => None,
        Ok(state) => Some(state),
        Err(_) => {
            violations.add("state", "is not a known state");
            None
        }
    };
    let mut time = |field: &str, given: Option<&proto::Timestamp>| {
        let time = given.map(|timestamp| wire::time(timestamp).ok_or(()));
        time.transpose().unwrap_or_else(|()| {
            violations.add(field, "is not a time");
            None
        })
    };
    let created_from = time("create_time_from", request.create_time_from.as_ref());
    let created_before = time("create_time_before", request.create_time_before.as_ref());
    let pending_since = request.pending_for.as_ref().and_then(|pending_for| {
        let since = since(now, pending_for);
        if since.is_none() {
            violations.add("pending_for", "must be a duration that is not negative");
        }
        since
    });
    if !request.customer_id.is_empty() {
        violations.text("customer_id", &request.customer_id, 1..=128);
    }
    let after = page_token::read(&question(request), &request.page_token, &mut violations);
    violations.finish()?;
    let customer_id = (!request.customer_id.is_empty()).then(|| request.customer_id.clone());
    Ok((
        Filter { state, customer_id, created_from, created_before, pending_since, after },
        page_size,
    ))
}

/// The question that a page token belongs to.
pub fn question(request: &ListOrdersRequest) -> ListOrdersRequest {
    ListOrdersRequest { page_size: 0, page_token: String::new(), ..request.clone() }
}

fn since(now: DateTime<Utc>, pending_for: &proto::Duration) -> Option<DateTime<Utc>> {
    let nanos = u32::try_from(pending_for.nanos).ok()?;
    let duration = chrono::Duration::new(u32::try_from(pending_for.seconds).ok()?.into(), nanos)?;
    now.checked_sub_signed(duration)
}
