//! Which sagas a list is to show: the request's conditions, checked.

use chassis::{page_token, violations::Violations};
use chrono::{DateTime, Utc};
use proto::orchestrator::v1::ListSagasRequest;
use tonic::Status;

use crate::{definitions, store::Filter};

/// The conditions and the page size. Errors: every violation at once.
pub fn check(request: &ListSagasRequest, now: DateTime<Utc>) -> Result<(Filter, i64), Status> {
    let mut violations = Violations::default();
    let page_size = violations.page_size(request.page_size);
    let state = Some(request.state.clone()).filter(|state| !state.is_empty());
    if state
        .as_ref()
        .is_some_and(|state| !definitions::ALL.iter().any(|it| it.state(state).is_some()))
    {
        violations.add("state", "is not a state of any saga");
    }
    let begun_before = request.older_than.as_ref().and_then(|age| {
        let before = before(now, age);
        if before.is_none() {
            violations.add(
                "older_than",
                "must be a duration that is not negative and reaches back to a time that there was",
            );
        }
        before
    });
    let saga_id = Some(request.order_id.as_str()).filter(|id| !id.is_empty());
    let saga_id = saga_id.and_then(|id| violations.uuid("order_id", id));
    let after = page_token::read(&question(request), &request.page_token, &mut violations);
    violations.finish()?;
    let (unfinished, parked) = (request.unfinished, request.parked);
    Ok((Filter { state, unfinished, parked, begun_before, saga_id, after }, page_size))
}

/// The question that a page token belongs to.
pub fn question(request: &ListSagasRequest) -> ListSagasRequest {
    ListSagasRequest { page_size: 0, page_token: String::new(), ..request.clone() }
}

fn before(now: DateTime<Utc>, age: &proto::Duration) -> Option<DateTime<Utc>> {
    let nanos = u32::try_from(age.nanos).ok()?;
    let age = chrono::Duration::new(u32::try_from(age.seconds).ok()?.into(), nanos)?;
    now.checked_sub_signed(age)
}
