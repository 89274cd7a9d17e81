//! The errors a caller sees: `google.rpc.Status` with ErrorInfo and what else belongs to the code. Internal text is logged,
//! never answered.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// The ErrorInfo domain of every error here.
pub const DOMAIN: &str = "settle.shop";

/// How long a caller should wait before it tries again, where nothing better is known.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);

/// INVALID_ARGUMENT, naming every violation.
pub fn invalid(violations: Vec<FieldViolation>) -> Status {
    let summary: Vec<_> =
        violations.iter().map(|it| format!("{}: {}", it.field, it.description)).collect();
    let mut details = with_reason("INVALID_ARGUMENT");
    details.set_bad_request(violations);
    Status::with_error_details(Code::InvalidArgument, summary.join("; "), details)
}

/// NOT_FOUND, naming what was looked for, such as `Order`.
pub fn not_found(resource_type: &str, name: &str) -> Status {
    let mut details = with_reason(&format!("{}_NOT_FOUND", resource_type.to_uppercase()));
    details.set_resource_info(resource_type, name, "", "it does not exist");
    Status::with_error_details(
        Code::NotFound,
        format!("there is no {resource_type} {name:?}"),
        details,
    )
}

/// FAILED_PRECONDITION: the resource is in a state that forbids the call.
pub fn precondition(reason: &str, subject: &str, description: &str) -> Status {
    let mut details = with_reason(reason);
    details.add_precondition_failure_violation(reason, subject, description);
    Status::with_error_details(Code::FailedPrecondition, description, details)
}

/// ALREADY_EXISTS.
pub fn already_exists(reason: &str, message: &str) -> Status {
    Status::with_error_details(Code::AlreadyExists, message, with_reason(reason))
}

/// ALREADY_EXISTS: the request_id came before, with other content.
pub fn request_id_reused() -> Status {
    already_exists(
        "REQUEST_ID_REUSED",
        "this request_id was used before, for a request with other content",
    )
}

/// ABORTED: the caller acted on an older version; read again and decide again.
pub fn stale_etag(subject: &str) -> Status {
    let message = format!("{subject} has changed since the etag was read; read it again");
    Status::with_error_details(Code::Aborted, message, with_reason("STALE_ETAG"))
}

/// ABORTED: the caller acted on an older version; read again and decide again.
pub fn stale_version(subject: &str) -> Status {
    let message = format!("{subject} has changed since that version; read it again");
    Status::with_error_details(Code::Aborted, message, with_reason("STALE_VERSION"))
}

/// UNAVAILABLE, with the time after which to try again. The only code clients retry.
pub fn unavailable(reason: &str, message: &str) -> Status {
    let mut details = with_reason(reason);
    details.set_retry_info(Some(RETRY_AFTER));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// DEADLINE_EXCEEDED: the caller's deadline passed first.
pub fn deadline_exceeded() -> Status {
    let message = "the deadline passed before the call was done; it may have taken effect";
    Status::with_error_details(Code::DeadlineExceeded, message, with_reason("DEADLINE_EXCEEDED"))
}

/// INTERNAL: a defect of ours, logged here with everything known about it.
pub fn internal(error: &(dyn std::error::Error + 'static)) -> Status {
    tracing::error!(error, "a call failed for an internal reason");
    Status::with_error_details(Code::Internal, "internal error", with_reason("INTERNAL"))
}

/// A database error as the caller sees it: UNAVAILABLE when the database is away or busy, else INTERNAL.
pub fn database(error: &sqlx::Error) -> Status {
    if is_passing(error) {
        tracing::warn!(%error, "the database is not available");
        return unavailable("DATABASE_UNAVAILABLE", "the database is not available; try again");
    }
    if is_unkeepable(error) {
        let why = "has a character or a number that cannot be looked for";
        return invalid(vec![FieldViolation::new("request", why)]);
    }
    internal(error)
}

/// Whether the caller asked for a value that no column can hold: a text with a NUL, a time out of range.
fn is_unkeepable(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("22021" | "22008"))
}

/// Whether trying again may help: the connection broke, or the database is overloaded, starting, stopping, or chose this
/// transaction as a victim.
pub fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("08")
                || code.starts_with("40")
                || code.starts_with("53")
                || code.starts_with("57P")
                // The database takes no connections for now.
                || code == "55000"
        }),
        _ => false,
    }
}

fn with_reason(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, [])
}
