use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use chassis::{cause::Cause, clock, telemetry::TraceContext};
use uuid::Uuid;

use super::*;
use crate::{
    row::{Due, Row},
    saga::{Change, Refusal, Saga, Standing, Step},
};

/// A saga, told step by step.
struct Story {
    saga: Saga,
    sent: Vec<&'static str>,
}

impl Story {
    fn begins() -> Self {
        let Change { saga, sends } = V1.begin();
        Self { saga, sent: sends }
    }

    /// One that has come to FULFILLING.
    fn fulfilling() -> Self {
        Self::begins()
            .answered(ReserveStock::NAME, StockReserved::NAME)
            .answered(StartDelivery::NAME, DeliveryStarted::NAME)
            .answered(ConfirmOrder::NAME, OrderConfirmed::NAME)
            .answered(ReadyDelivery::NAME, DeliveryReady::NAME)
    }

    fn answered(mut self, command: &'static str, event: &str) -> Self {
        self.hear(event, Some(command));
        self
    }

    fn learned(mut self, event: &str) -> Self {
        self.hear(event, None);
        self
    }

    fn hear(&mut self, event: &str, answered: Option<&'static str>) {
        self.sent.clear();
        if let Some(change) = V1.hear(&self.saga, event, answered) {
            (self.saga, self.sent) = (change.saga, change.sends);
        }
    }

    #[track_caller]
    fn is(self, state: &str, sent: &[&str]) -> Self {
        assert_eq!((self.saga.state, self.sent.as_slice()), (state, sent));
        self
    }
}

#[test]
fn an_order_that_goes_well() {
    Story::begins()
        .is("RESERVING", &["ReserveStock"])
        .answered("ReserveStock", "StockReserved")
        .is("STARTING_DELIVERY", &["StartDelivery"])
        .answered("StartDelivery", "DeliveryStarted")
        .is("CONFIRMING", &["ConfirmOrder"])
        .answered("ConfirmOrder", "OrderConfirmed")
        .is("READYING", &["ReadyDelivery"])
        .answered("ReadyDelivery", "DeliveryReady")
        .is("FULFILLING", &[])
        .learned("DeliveryCompleted")
        .is("COMPLETING", &["CompleteOrder"])
        .answered("CompleteOrder", "OrderCompleted")
        .is("DONE", &[]);
}

#[test]
fn a_shortage_cancels_the_order_and_undoes_what_was_sent() {
    let story = Story::begins()
        .answered("ReserveStock", "ProductOutOfStock")
        .is("CANCELLING_ORDER", &["CancelOrder"]);
    assert_eq!(story.saga.because, Some("OUT_OF_STOCK"));
    story
        .answered("CancelOrder", "OrderCancelled")
        .is("COMPENSATING", &["ReleaseStock"])
        .answered("ReleaseStock", "StockReleased")
        .is("CANCELLED", &[]);
}

#[test]
fn nothing_is_undone_before_orders_has_cancelled() {
    Story::begins()
        .answered("ReserveStock", "StockReserved")
        .answered("StartDelivery", "DeliveryFailed")
        .is("CANCELLING_ORDER", &["CancelOrder"])
        .learned("DeliveryFailed")
        .is("CANCELLING_ORDER", &[])
        .answered("CancelOrder", "OrderCancelled")
        .is("COMPENSATING", &["ReleaseStock", "CancelDelivery"]);
}

#[test]
fn what_was_sent_and_not_answered_is_undone_too() {
    Story::begins()
        .learned("OrderCancelled")
        .is("COMPENSATING", &["ReleaseStock"])
        .answered("ReserveStock", "StockReserved")
        .is("COMPENSATING", &[])
        .answered("ReleaseStock", "StockReleased")
        .is("CANCELLED", &[]);
}

#[test]
fn undos_run_side_by_side_and_all_are_waited_for() {
    Story::begins()
        .answered("ReserveStock", "StockReserved")
        .learned("OrderCancelled")
        .is("COMPENSATING", &["ReleaseStock", "CancelDelivery"])
        .answered("CancelDelivery", "DeliveryCancelled")
        .is("COMPENSATING", &[])
        .answered("ReleaseStock", "StockReleased")
        .is("CANCELLED", &[]);
}

#[test]
fn a_cancel_after_confirmation_goes_through_delivery_and_is_not_sent_twice() {
    let story = Story::fulfilling()
        .learned("OrderCancelRequested")
        .is("CANCELLING_DELIVERY", &["CancelDelivery"])
        .answered("CancelDelivery", "DeliveryCancelled")
        .is("CANCELLING_ORDER", &["CancelOrder"]);
    assert_eq!(story.saga.because, Some("CUSTOMER"));
    story
        .answered("CancelOrder", "OrderCancelled")
        .is("COMPENSATING", &["ReleaseStock"])
        .answered("ReleaseStock", "StockReleased")
        .is("CANCELLED", &[]);
}

#[test]
fn a_refused_cancel_is_told_to_orders_and_the_order_goes_on() {
    let story = Story::fulfilling()
        .learned("OrderCancelRequested")
        .answered("CancelDelivery", "DeliveryCancelRefused")
        .is("REFUSING", &["RefuseCancel"])
        .answered("RefuseCancel", "OrderCancelRefused")
        .is("FULFILLING", &[]);
    assert_eq!(story.saga.because, None);
    story.learned("DeliveryCompleted").is("COMPLETING", &["CompleteOrder"]);
}

#[test]
fn facts_that_come_early_count_later() {
    Story::begins()
        .answered("ReserveStock", "StockReserved")
        .answered("StartDelivery", "DeliveryStarted")
        .learned("OrderCancelRequested")
        .is("CONFIRMING", &[])
        .answered("ConfirmOrder", "OrderConfirmed")
        .is("READYING", &["ReadyDelivery"])
        .answered("ReadyDelivery", "DeliveryReady")
        .is("CANCELLING_DELIVERY", &["CancelDelivery"]);
    Story::fulfilling()
        .learned("OrderCancelRequested")
        .learned("DeliveryCompleted")
        .is("CANCELLING_DELIVERY", &[])
        .answered("CancelDelivery", "DeliveryCancelRefused")
        .answered("RefuseCancel", "OrderCancelRefused")
        .is("COMPLETING", &["CompleteOrder"]);
}

#[test]
fn a_confirmation_that_was_on_its_way_does_not_stop_the_cancelling() {
    Story::begins()
        .answered("ReserveStock", "StockReserved")
        .answered("StartDelivery", "DeliveryStarted")
        .learned("DeliveryFailed")
        .is("CANCELLING_ORDER", &["CancelOrder"])
        .answered("ConfirmOrder", "OrderConfirmed")
        .is("CANCELLING_ORDER", &[])
        .answered("CancelOrder", "OrderCancelled")
        .is("COMPENSATING", &["ReleaseStock", "CancelDelivery"]);
}

#[test]
fn answers_count_once_and_only_for_their_own_command() {
    let story = Story::begins().answered("ReserveStock", "StockReserved");
    assert_eq!(V1.hear(&story.saga, "StockReserved", Some("ReserveStock")), None);
    assert_eq!(V1.hear(&story.saga, "DeliveryStarted", None), None);
    assert_eq!(V1.hear(&story.saga, "DeliveryReady", Some("ReadyDelivery")), None);
    story.is("STARTING_DELIVERY", &["StartDelivery"]);
}

#[test]
fn a_retry_has_the_id_of_the_first_sending_and_an_undo_another() {
    let saga_id = Uuid::now_v7();
    let ids: BTreeSet<_> = V1.commands().map(|it| V1.command_id(saga_id, it)).collect();
    assert_eq!(ids.len(), 9);
    for command in V1.commands() {
        let command_id = V1.command_id(saga_id, command);
        assert_eq!(V1.command_of(saga_id, command_id), Some(command));
        assert_eq!(V1.command_of(Uuid::now_v7(), command_id), None);
    }
}

#[test]
fn an_operator_gives_up_what_has_not_left_and_asks_delivery_otherwise() {
    let early = Story::begins();
    let Change { saga, sends } = V1.force(&early.saga).unwrap();
    assert_eq!((saga.state, sends), ("CANCELLING_ORDER", vec!["CancelOrder"]));
    assert_eq!(V1.force(&saga), Err(Refusal::TooLate));

    let late = Story::fulfilling();
    let Change { saga, sends } = V1.force(&late.saga).unwrap();
    assert_eq!((saga.state, sends), ("CANCELLING_DELIVERY", vec!["CancelDelivery"]));
    // orders cancels a confirmed order for this reason alone, unless its customer has asked for it.
    assert_eq!(saga.because, Some("DELIVERY_FAILED"));
    Story { saga: saga.clone(), sent: Vec::new() }
        .answered("CancelDelivery", "DeliveryCancelled")
        .is("CANCELLING_ORDER", &["CancelOrder"]);
    let refused = Story { saga, sent: Vec::new() }
        .answered("CancelDelivery", "DeliveryCancelRefused")
        .is("FULFILLING", &[]);
    assert_eq!(V1.force(&refused.saga), Err(Refusal::TooLate));
    // A customer who asks afterwards is refused without asking delivery again.
    refused.learned("OrderCancelRequested").is("REFUSING", &["RefuseCancel"]);
}

#[test]
fn only_an_undo_of_an_order_that_is_given_up_can_be_skipped() {
    let story = Story::begins();
    assert_eq!(V1.skip(&story.saga, "ReserveStock"), Err(Refusal::NotSkippable));
    assert_eq!(V1.skip(&story.saga, "CancelOrder"), Err(Refusal::NotWaiting));
    let asked = Story::fulfilling().learned("OrderCancelRequested");
    assert_eq!(V1.skip(&asked.saga, "CancelDelivery"), Err(Refusal::NotSkippable));
    let undoing = story.learned("OrderCancelled");
    let Change { saga, .. } = V1.skip(&undoing.saga, "ReleaseStock").unwrap();
    assert_eq!(saga.state, "CANCELLED");
}

#[test]
fn a_parked_saga_still_hears_and_goes_on_when_told_to() {
    let undoing =
        Story::begins().answered("ReserveStock", "StockReserved").learned("OrderCancelled");
    let Change { saga: parked, sends } = V1.park(&undoing.saga, "nobody answers");
    assert!(sends.is_empty());
    let Change { saga, sends } = V1.unpark(&parked).unwrap();
    assert_eq!((saga.parked.as_deref(), sends), (None, vec!["ReleaseStock", "CancelDelivery"]));
    assert_eq!(V1.resolve(&parked).unwrap().saga.state, "RESOLVED");
    assert_eq!(V1.resolve(&undoing.saga), Err(Refusal::NotParked));
    assert_eq!(V1.unpark(&undoing.saga), Err(Refusal::NotParked));
    let heard = Story { saga: parked, sent: Vec::new() }.answered("ReleaseStock", "StockReleased");
    assert!(heard.saga.parked.is_some());
    let done = heard.answered("CancelDelivery", "DeliveryCancelled").is("CANCELLED", &[]);
    assert_eq!(done.saga.parked, None);
}

#[test]
fn an_answer_that_leads_nowhere_parks_the_saga_until_it_is_asked_anew() {
    let asked = Story::begins().answered("ReserveStock", "ProductOutOfStock");
    let stuck = asked.answered("CancelOrder", "OrderConfirmed");
    assert_eq!(stuck.saga.parked.as_deref(), Some("CancelOrder was answered by OrderConfirmed"));
    let Change { saga, sends } = V1.retry(&stuck.saga, None).unwrap();
    assert_eq!(sends, ["CancelOrder"]);
    let done = Story { saga, sent: Vec::new() }.answered("CancelOrder", "OrderCancelled");
    assert_eq!((done.saga.state, done.saga.parked), ("COMPENSATING", None));
}

/// What may answer each command: its participant's table.
fn answers(command: &str) -> &'static [&'static str] {
    match command {
        "ReserveStock" => &["StockReserved", "ProductOutOfStock", "StockReleased"],
        "ReleaseStock" => &["StockReleased"],
        "StartDelivery" => &["DeliveryStarted", "DeliveryFailed", "DeliveryCancelled"],
        "ReadyDelivery" => &["DeliveryReady", "DeliveryFailed", "DeliveryCancelled"],
        "CancelDelivery" => &["DeliveryCancelled", "DeliveryCancelRefused", "DeliveryFailed"],
        "ConfirmOrder" => &["OrderConfirmed", "OrderCancelled"],
        "CancelOrder" => &["OrderCancelled"],
        "RefuseCancel" => &["OrderCancelRefused"],
        "CompleteOrder" => &["OrderCompleted"],
        other => panic!("{other} is not a command"),
    }
}

/// Everything that may happen to a saga next, with what becomes of it.
fn possibilities(saga: &Saga) -> Vec<(String, Change)> {
    let asked = saga
        .steps
        .iter()
        .flat_map(|step| answers(step.command).iter().map(|event| (*event, Some(step.command))));
    let told = ["OrderCancelRequested", "OrderCancelled", "DeliveryFailed", "DeliveryCompleted"];
    let heard = asked.chain(told.map(|event| (event, None))).filter_map(|(event, answered)| {
        let change = V1.hear(saga, event, answered)?;
        Some((answered.map_or(event.to_owned(), |it| format!("{event} to {it}")), change))
    });
    let forced = V1.force(saga).ok();
    heard.chain(forced.map(|change| (FORCE_COMPENSATE.to_owned(), change))).collect()
}

/// Every saga that can be reached, whatever the participants say and in whichever order.
fn reachable() -> HashMap<Saga, Vec<(String, Change)>> {
    let mut all = HashMap::new();
    let mut next = VecDeque::from([V1.begin().saga]);
    while let Some(saga) = next.pop_front() {
        if all.contains_key(&saga) {
            continue;
        }
        let follows = if V1.is_finished(&saga) { Vec::new() } else { possibilities(&saga) };
        next.extend(follows.iter().map(|(_, change)| change.saga.clone()));
        all.insert(saga, follows);
    }
    all
}

fn standing(saga: &Saga, command: &str) -> Option<Standing> {
    saga.steps.iter().find(|step| step.command == command).map(|step| step.standing)
}

#[test]
fn the_whole_table_is_as_it_was_decided() {
    let mut table: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (saga, follows) in reachable() {
        for (input, change) in follows.into_iter().filter(|(_, it)| it.saga.state != saga.state) {
            let line = format!("{} [{}]", change.saga.state, change.sends.join(" "));
            table.entry((saga.state.to_owned(), input)).or_default().insert(line);
        }
    }
    let lines = table.iter().map(|((state, input), nexts)| {
        let nexts: Vec<_> = nexts.iter().map(String::as_str).collect();
        format!("{state:<20} {input:<40} {}\n", nexts.join(" | "))
    });
    let table: String = lines.collect();
    assert!(table == include_str!("table.txt"), "the table is now:\n{table}");
}

#[test]
fn no_saga_whatever_happens_breaks_a_rule() {
    let all = reachable();
    assert!(all.len() > 1000, "only {} sagas are reached", all.len());
    for saga in all.keys() {
        let sent = |command| standing(saga, command).is_some();
        let knows = |fact| saga.facts.contains(fact);
        assert!(!sent("ReleaseStock") || knows("OrderCancelled"), "released too early: {saga:?}");
        assert!(
            !sent("CancelDelivery")
                || ["OrderCancelled", "OrderCancelRequested", FORCE_COMPENSATE]
                    .into_iter()
                    .any(knows),
            "the delivery is cancelled though nobody asked: {saga:?}"
        );
        assert!(
            !sent("ReadyDelivery")
                || standing(saga, "ConfirmOrder") == Some(Standing::Answered("OrderConfirmed")),
            "ready before it is confirmed: {saga:?}"
        );
        let undone = V1.undoes.iter().filter(|undo| sent(undo.command));
        for undo in undone.filter(|_| saga.state == "CANCELLED") {
            let done = matches!(standing(saga, undo.by), Some(Standing::Answered(answer)) if undo.done.contains(&answer));
            assert!(done, "{} was not undone: {saga:?}", undo.command);
        }
        let twice: HashSet<_> = saga.steps.iter().map(|step: &Step| step.command).collect();
        assert_eq!(twice.len(), saga.steps.len(), "a command has two steps: {saga:?}");
    }
}

/// Also one whose participants contradict each other, by a person.
#[test]
fn every_saga_can_end() {
    let all = reachable();
    let mut before: HashMap<&Saga, Vec<&Saga>> = HashMap::new();
    for (saga, follows) in &all {
        for (_, change) in follows {
            before.entry(&change.saga).or_default().push(saga);
        }
    }
    let mut next: Vec<_> =
        all.keys().filter(|saga| V1.is_finished(saga) || saga.parked.is_some()).collect();
    let mut ends: HashSet<_> = next.iter().copied().collect();
    while let Some(saga) = next.pop() {
        for &earlier in before.get(saga).into_iter().flatten() {
            if ends.insert(earlier) {
                next.push(earlier);
            }
        }
    }
    let stuck: Vec<_> = all.keys().filter(|saga| !ends.contains(saga)).take(3).collect();
    assert!(stuck.is_empty(), "these never end: {stuck:#?}");
}

/// What a timer that gives up, or a person, may do to a saga.
fn interventions(saga: &Saga) -> Vec<Change> {
    let awaited = V1.awaited(saga);
    let waits = saga.parked.is_none() && !awaited.is_empty();
    let parked = waits.then(|| V1.park(saga, "nobody answers"));
    let skipped = awaited.iter().map(|command| V1.skip(saga, command));
    let told = [V1.retry(saga, None), V1.unpark(saga), V1.resolve(saga)];
    parked.into_iter().chain(skipped.chain(told).filter_map(Result::ok)).collect()
}

/// Else nobody would ever send again what was lost, and the saga would wait for ever.
#[test]
fn a_saga_sends_again_some_day_if_it_awaits_an_answer_and_is_not_parked() {
    let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
    let patience = Patience { first, longest, attempts: 20 };
    let (saga_id, trace) = (Uuid::now_v7(), TraceContext::random());
    let cause = Cause::local("orchestrator", "Test", saga_id, trace, clock::now());
    let placed = serde_json::to_value(OrderPlaced::default()).unwrap();
    let (begun, ..) = Row::begin(&V1, saga_id, placed, &cause, &patience).unwrap();
    let (mut seen, mut next) = (HashSet::new(), VecDeque::from([begun]));
    while let Some(row) = next.pop_front() {
        if !seen.insert(row.saga.clone()) {
            continue;
        }
        let heard = possibilities(&row.saga).into_iter().map(|(_, change)| change);
        let heard = heard.filter(|_| !V1.is_finished(&row.saga));
        for change in heard.chain(interventions(&row.saga)) {
            // As it is loaded for the next message.
            let mut after = Row { due: Due::AsBefore, ..row.clone() };
            after.take(change, &cause, None, &patience).unwrap();
            let (saga, due) = (&after.saga, after.due_at.is_some());
            let waits = saga.parked.is_none() && !V1.awaited(saga).is_empty();
            assert_eq!(due, waits, "from {:?} to {saga:?}", row.saga);
            next.push_back(after);
        }
    }
    assert!(seen.len() > 1000, "only {} sagas are reached", seen.len());
}

/// A field that a later version of orders adds must not stop the saga, nor any other reader of the event.
#[test]
fn what_a_later_version_adds_to_an_order_is_passed_over() {
    let later = serde_json::json!({ "orderId": "7", "giftWrap": true, "customer": { "name": "홍길동", "phone": "1" } });
    let placed: OrderPlaced = serde_json::from_value(later).unwrap();
    assert_eq!((placed.order_id.as_str(), placed.customer.unwrap().name.as_str()), ("7", "홍길동"));
}
