//! Where a rule is left out: around the production functions, never in them. With nothing left out, each function here only
//! hands on.

use std::sync::Arc;

use delivery::domain as parcels;
use orchestrator::{
    order::V1,
    saga::{Change, Saga, Standing},
};
use orders::domain::{self as fates, Command, Fate, Reason, State};
use products::domain::{self as stock, Contradiction, Reservation, Shelf};
use uuid::Uuid;

use crate::{checking::World, parcels::event_id, stock::as_if_reserved};

/// A rule that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Rule {
    /// Row decides, not the causal path.
    RowDecides,
    /// Cancel of a confirmed order goes through delivery.
    CancelThroughDelivery,
    /// Dispatch only after OrderConfirmed.
    DispatchAfterConfirmed,
    /// Compensate what was sent, not what was answered.
    CompensateSent,
    /// Unseen and cancelled leaves a tombstone.
    Tombstone,
    /// Rows are never deleted before topic retention.
    RowsKept,
    /// Replies are matched to their command.
    RepliesMatched,
    /// Forward-only compare-and-set on release.
    ReleaseForwardOnly,
    /// The replica is written by version.
    ReplicaByVersion,
    /// request_id is unique in the same transaction.
    RequestIdUnique,
    /// R1: facts are recorded in every state.
    FactsRecorded,
    /// R2: a command cancels a confirmed order for two reasons.
    CancelByReason,
    /// R3: completion decides the wish to cancel.
    CompletionRefusesWish,
    /// R4: CancelDelivery of a failed delivery is answered.
    FailedAnswersCancel,
    /// R5: a parked saga still hears.
    ParkedHears,
    /// A second start never resets a running saga.
    SagaBeginsOnce,
}

/// orders decides.
pub(crate) fn decide_order(
    world: &World,
    fate: Fate,
    message: fates::Message,
) -> Result<fates::Decision, fates::Refusal> {
    use fates::{Decision, Message};

    let confirmed = fate.state == State::Confirmed;
    match message {
        // As if it were pending still.
        Message::CancelOrder if confirmed && !world.keeps(Rule::CancelThroughDelivery) => {
            Fate { state: State::Pending, ..fate }.decide(message)
        }
        // As if it had a reason that cancels pending orders only.
        Message::Command(Command::CancelOrder(_))
            if confirmed && !world.keeps(Rule::CancelByReason) =>
        {
            fate.decide(Message::Command(Command::CancelOrder(Reason::OutOfStock)))
        }
        // The wish stays as it was.
        Message::Command(Command::CompleteOrder) if !world.keeps(Rule::CompletionRefusesWish) => {
            Ok(match fate.decide(message)? {
                Decision::Change(next, event) => {
                    Decision::Change(Fate { cancel: fate.cancel, ..next }, event)
                }
                other => other,
            })
        }
        message => fate.decide(message),
    }
}

/// products decides.
pub(crate) fn decide_reservation(
    world: &World,
    row: Option<&Reservation>,
    message: &stock::Message,
    shelf: &Shelf,
) -> Result<stock::Decision, Contradiction> {
    use stock::Message::{OrderCancelled, ReleaseStock};

    let gives_back = match (row, message) {
        // The path does not name our rejection: so we must have reserved.
        (Some(Reservation::Rejected { .. }), OrderCancelled { own_rejection: None }) => {
            !world.keeps(Rule::RowDecides)
        }
        // Whoever says release must know that something is held.
        (Some(Reservation::Released { .. }), OrderCancelled { .. } | ReleaseStock) => {
            !world.keeps(Rule::ReleaseForwardOnly)
        }
        _ => false,
    };
    if gives_back {
        return stock::decide(
            Some(&as_if_reserved(world)),
            message,
            shelf,
            chrono::DateTime::UNIX_EPOCH,
        );
    }
    stock::decide(row, message, shelf, chrono::DateTime::UNIX_EPOCH)
}

/// The row that products keeps.
pub(crate) fn kept_reservation(world: &World, row: Reservation) -> Option<Arc<Reservation>> {
    let kept = match row {
        Reservation::Tombstone => world.keeps(Rule::Tombstone),
        // Nothing is held for it any more: why keep it?
        Reservation::Released { .. } => world.keeps(Rule::RowsKept),
        Reservation::Reserved { .. } | Reservation::Rejected { .. } => true,
    };
    kept.then(|| Arc::new(row))
}

/// delivery decides about what it hears.
pub(crate) fn decide_delivery(
    world: &World,
    row: Option<&parcels::State>,
    heard: parcels::Heard<'_>,
) -> Result<parcels::Decision, parcels::Contradiction> {
    let decision = parcels::react(row, heard, event_id())?;
    let failed = matches!(row, Some(parcels::State::Failed { .. }));
    if failed && heard == parcels::Heard::CancelDelivery && !world.keeps(Rule::FailedAnswersCancel)
    {
        return Ok(parcels::Decision::Nothing(chassis::trail::Outcome::Raced));
    }
    Ok(decision)
}

/// delivery decides about what the warehouse calls.
pub(crate) fn act_on_delivery(
    world: &World,
    row: &parcels::State,
    call: &parcels::Call,
    event_id: Uuid,
) -> Result<(parcels::State, parcels::Told), parcels::Refusal> {
    let started = *row == parcels::State::Started && *call == parcels::Call::Dispatch;
    if started && !world.keeps(Rule::DispatchAfterConfirmed) {
        return parcels::act(&parcels::State::Ready, call, event_id);
    }
    parcels::act(row, call, event_id)
}

/// The row that delivery keeps.
pub(crate) fn kept_delivery(world: &World, row: parcels::State) -> Option<Arc<parcels::State>> {
    let kept = row != parcels::State::Tombstone || world.keeps(Rule::Tombstone);
    kept.then(|| Arc::new(row))
}

/// A saga weighs an event; `answers` is the command that caused it.
pub(crate) fn hear_saga(
    world: &World,
    saga: &Saga,
    event: &str,
    answers: Option<&'static str>,
) -> Option<Change> {
    if saga.parked.is_some() && !world.keeps(Rule::ParkedHears) {
        return None;
    }
    let answered = if world.keeps(Rule::RepliesMatched) {
        answers
    } else {
        // It is an answer: so it must be the one that is waited for.
        answers.and_then(|_| V1.awaited(saga).first().copied())
    };
    let mut change = V1.hear(saga, event, answered)?;
    if change.saga.state == saga.state && !world.keeps(Rule::FactsRecorded) {
        // A fact that leads nowhere now is not worth keeping.
        change.saga.facts = saga.facts.clone();
    }
    if change.saga.state != saga.state && !world.keeps(Rule::CompensateSent) {
        return Some(undoing_only_what_was_answered(change));
    }
    Some(change)
}

fn undoing_only_what_was_answered(mut change: Change) -> Change {
    for undo in V1.undoes {
        let unanswered = change
            .saga
            .steps
            .iter()
            .any(|step| step.command == undo.command && step.standing == Standing::Sent);
        if unanswered && let Ok(skipped) = V1.skip(&change.saga, undo.by) {
            change.saga = skipped.saga;
            change.sends.retain(|command| *command != undo.by);
        }
    }
    change
}
