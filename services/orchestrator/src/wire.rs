//! Sagas as callers see them.

use chassis::wire::timestamp;
use proto::orchestrator::v1::{Saga as View, SagaChange, SagaStep, StepState};

use crate::{
    row::{Recorded, Row},
    saga::{Standing, Step},
};

/// A saga, without its history.
pub fn saga(row: &Row) -> View {
    View {
        saga_id: row.saga_id.to_string(),
        definition: row.definition.name.to_owned(),
        definition_version: row.definition.version,
        state: row.saga.state.to_owned(),
        finished: row.finished_at.is_some(),
        parked: row.saga.parked.is_some() && row.finished_at.is_none(),
        parked_reason: row.saga.parked.clone().unwrap_or_default(),
        cancel_reason: row.saga.because.unwrap_or_default().to_owned(),
        facts: row.saga.facts.iter().copied().map(str::to_owned).collect(),
        steps: row.saga.steps.iter().map(|it| step(row, it)).collect(),
        version: row.version,
        create_time: Some(timestamp(row.created_at)),
        update_time: Some(timestamp(row.updated_at)),
        finish_time: row.finished_at.map(timestamp),
        history: Vec::new(),
    }
}

fn step(row: &Row, step: &Step) -> SagaStep {
    let sendings = row.sendings.get(step.command);
    let awaited = row.definition.awaited(&row.saga).contains(&step.command);
    let (state, answer) = match step.standing {
        Standing::Sent => (StepState::Sent, ""),
        Standing::Answered(answer) => (StepState::Answered, answer),
        Standing::Skipped => (StepState::Skipped, ""),
    };
    SagaStep {
        name: step.command.to_owned(),
        state: state.into(),
        command_id: row.definition.command_id(row.saga_id, step.command).to_string(),
        attempts: sendings.map_or(0, |sendings| sendings.attempts),
        send_time: sendings.map(|sendings| timestamp(sendings.first_at)),
        retry_time: row.due_at.filter(|_| awaited).map(timestamp),
        answer: answer.to_owned(),
    }
}

/// One change.
pub fn change(recorded: &Recorded) -> SagaChange {
    SagaChange {
        version: recorded.version,
        state: recorded.state.clone(),
        parked: recorded.parked,
        cause: recorded.cause.clone(),
        cause_id: recorded.cause_id.to_string(),
        commands: recorded.commands.clone(),
        actor: recorded.actor.clone().unwrap_or_default(),
        reason: recorded.reason.clone().unwrap_or_default(),
        trace_id: recorded.trace_id.clone().unwrap_or_default(),
        create_time: Some(timestamp(recorded.created_at)),
    }
}
