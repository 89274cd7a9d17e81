//! From a request to checked values: every violation is named at once, before anything is read or written. Listing has a
//! file of its own, `filter`.

use chassis::{
    cause::{Cause, Coordination},
    violations::Violations,
};
use proto::orchestrator::v1::{Act, GetSagaRequest, SagaView, WatchSagaRequest};
use tonic::Status;
use uuid::Uuid;

use crate::row::Actor;

/// A verb as it was asked for.
#[derive(Clone, Debug)]
pub struct Verb {
    /// The saga.
    pub saga_id: Uuid,
    /// Who asks, and why.
    pub actor: Actor,
    /// The version of the saga that was seen.
    pub expected_version: i64,
    /// The call.
    pub cause: Cause,
}

impl Verb {
    /// Checks what all verbs have in common.
    pub fn check(saga_id: &str, act: Option<Act>, cause: Cause) -> Result<Self, Status> {
        let mut violations = Violations::default();
        let saga_id = violations.uuid("saga_id", saga_id).unwrap_or_default();
        let Act { actor, reason, expected_version } = act.unwrap_or_default();
        violations.text("act.actor", &actor, 1..=128);
        violations.text("act.reason", &reason, 1..=500);
        if expected_version < 1 {
            violations.add("act.expected_version", "must be the version that you have seen");
        }
        violations.finish()?;
        let cause = cause.of_order(saga_id, Coordination::Orchestration);
        Ok(Self { saga_id, actor: Actor { name: actor, reason }, expected_version, cause })
    }
}

/// The saga to be read, and how much of it.
pub fn get(request: &GetSagaRequest) -> Result<(Uuid, SagaView), Status> {
    let mut violations = Violations::default();
    let saga_id = violations.uuid("saga_id", &request.saga_id).unwrap_or_default();
    let view = SagaView::try_from(request.view).unwrap_or_else(|_| {
        violations.add("view", "is not a known view");
        SagaView::Unspecified
    });
    violations.finish()?;
    Ok((saga_id, view))
}

/// The saga to be watched.
pub fn watch(request: &WatchSagaRequest) -> Result<Uuid, Status> {
    let mut violations = Violations::default();
    let saga_id = violations.uuid("saga_id", &request.saga_id).unwrap_or_default();
    if request.after_version < 0 {
        violations.add("after_version", "must not be negative");
    }
    violations.finish()?;
    Ok(saga_id)
}
