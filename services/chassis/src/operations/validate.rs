//! From an operator's request to checked values, before anything is read or written.

use proto::operations::v1::{
    GetTrailRequest, ListParkedRequest, RetryParkedRequest, SkipParkedRequest,
};
use tonic::Status;
use uuid::Uuid;

use crate::{page_token, violations::Violations};

/// A page of what is parked.
#[derive(Clone, Debug)]
pub struct Page {
    /// What its page tokens belong to.
    pub question: ListParkedRequest,
    /// Only messages after this one.
    pub after: i64,
    /// At most this many.
    pub size: i64,
}

/// The order whose trail is asked for.
pub fn trail(request: &GetTrailRequest) -> Result<Uuid, Status> {
    let mut violations = Violations::default();
    let order_id = violations.uuid("order_id", &request.order_id).unwrap_or_default();
    violations.finish()?;
    Ok(order_id)
}

/// The parked messages to be listed.
pub fn page(request: &ListParkedRequest) -> Result<Page, Status> {
    let question = ListParkedRequest { key: request.key.clone(), ..Default::default() };
    let mut violations = Violations::default();
    check_key(&request.key, &mut violations);
    let size = violations.page_size(request.page_size);
    let after = page_token::read(&question, &request.page_token, &mut violations);
    violations.finish()?;
    Ok(Page { question, after: after.unwrap_or_default(), size })
}

/// The key to be taken up again.
pub fn retry(request: &RetryParkedRequest) -> Result<&str, Status> {
    let mut violations = Violations::default();
    check_key(&request.key, &mut violations);
    violations.finish()?;
    Ok(&request.key)
}

/// The key whose first message is given up.
pub fn skip(request: &SkipParkedRequest) -> Result<&str, Status> {
    let mut violations = Violations::default();
    check_key(&request.key, &mut violations);
    violations.text("reason", &request.reason, 1..=500);
    violations.finish()?;
    Ok(&request.key)
}

/// Any text, as Kafka's keys are, but no NUL: nothing is parked under one, and Postgres cannot even look.
fn check_key(key: &str, violations: &mut Violations) {
    if key.contains('\0') {
        violations.add("key", "must not have a NUL");
    }
}
