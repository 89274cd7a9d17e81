//! An operator's verbs: by version, with a name and a reason, and written into the history.

use chassis::cause::Coordination;
use proto::{
    orchestrator::v1::{
        Act, ForceCompensateRequest, GetSagaRequest, ListSagasRequest, MarkResolvedRequest,
        RetryStepRequest, SkipStepRequest, UnparkRequest, WatchSagaRequest,
        saga_service_server::SagaService as _,
    },
    orders::v1::OrderCancelled,
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::shop::{IMPATIENT, PATIENT, Shop, act};

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

/// A saga that undoes what it did, and that nobody answers any more.
async fn parked(shop: &mut Shop) -> Uuid {
    let order_id = shop.begun().await;
    shop.answer(order_id, "StockReserved").await;
    let event = OrderCancelled { order_id: order_id.to_string(), ..Default::default() };
    let event = shop.told(order_id, Coordination::Orchestration, &event);
    shop.hear(&[event]).await;
    while !shop.saga(order_id).await.parked {
        assert_eq!(shop.retry().await, 1);
    }
    order_id
}

#[tokio::test]
async fn a_parked_saga_goes_on_with_new_patience() {
    let mut shop = Shop::open(IMPATIENT).await;
    let order_id = parked(&mut shop).await;
    let (saga_id, version) = (order_id.to_string(), shop.saga(order_id).await.version);
    let request = UnparkRequest { saga_id: saga_id.clone(), act: act(version) };
    let saga = shop.api.unpark(Request::new(request)).await.unwrap().into_inner().saga.unwrap();
    assert!(!saga.parked);
    let sent = shop.sent_names(order_id).await;
    assert_eq!(sent[sent.len() - 2..], ["ReleaseStock", "CancelDelivery"]);
    assert_eq!(shop.retry().await, 1);
    let again = shop.saga(order_id).await;
    assert!(!again.parked, "patience begins anew");
    assert_eq!(again.steps.last().unwrap().attempts, 5, "every sending is counted");
    let history = shop.saga(order_id).await.history;
    let verb = history.iter().find(|it| it.cause == "Unpark").unwrap();
    assert_eq!((verb.actor.as_str(), verb.reason.as_str()), ("kim", "the test says so"));

    let refused = UnparkRequest { saga_id, act: act(saga.version) };
    let status = shop.api.unpark(Request::new(refused)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "NOT_PARKED"));
}

#[tokio::test]
async fn what_a_person_has_undone_is_skipped() {
    let mut shop = Shop::open(IMPATIENT).await;
    let order_id = parked(&mut shop).await;
    let saga_id = order_id.to_string();
    let skip = |step: &str, version| {
        Request::new(SkipStepRequest {
            saga_id: saga_id.clone(),
            act: act(version),
            step: step.to_owned(),
        })
    };
    let version = shop.saga(order_id).await.version;
    let saga = shop.api.skip_step(skip("ReleaseStock", version)).await.unwrap();
    let saga = saga.into_inner().saga.unwrap();
    assert_eq!((saga.state.as_str(), saga.parked), ("COMPENSATING", true));
    let status = shop.api.skip_step(skip("ReleaseStock", saga.version)).await.unwrap_err();
    assert_eq!(reason(&status), "STEP_NOT_WAITING");
    let saga = shop.api.skip_step(skip("CancelDelivery", saga.version)).await.unwrap();
    let saga = saga.into_inner().saga.unwrap();
    assert_eq!((saga.state.as_str(), saga.finished, saga.parked), ("CANCELLED", true, false));
}

#[tokio::test]
async fn a_parked_saga_is_resolved_and_hears_no_more() {
    let mut shop = Shop::open(IMPATIENT).await;
    let order_id = parked(&mut shop).await;
    let saga_id = order_id.to_string();
    let version = shop.saga(order_id).await.version;
    let request = MarkResolvedRequest { saga_id, act: act(version) };
    let saga = shop.api.mark_resolved(Request::new(request)).await.unwrap();
    let saga = saga.into_inner().saga.unwrap();
    assert_eq!((saga.state.as_str(), saga.finished, saga.parked), ("RESOLVED", true, false));
    let parked = ListSagasRequest { parked: true, ..Default::default() };
    let listed = shop.api.list_sagas(Request::new(parked)).await.unwrap().into_inner().sagas;
    assert_eq!(listed, []);
    shop.answer(order_id, "DeliveryCancelled").await;
    assert_eq!(shop.saga(order_id).await.version, version + 1);
    assert_eq!(shop.retry().await, 0);
}

#[tokio::test]
async fn a_step_is_sent_again_at_once() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = shop.begun().await;
    let retry = |step: &str, version| {
        let (saga_id, step) = (order_id.to_string(), step.to_owned());
        Request::new(RetryStepRequest { saga_id, act: act(version), step })
    };
    let saga = shop.api.retry_step(retry("", 1)).await.unwrap().into_inner().saga.unwrap();
    assert_eq!((saga.version, saga.steps[0].attempts), (2, 2));
    assert_eq!(shop.sent_names(order_id).await, ["ReserveStock", "ReserveStock"]);
    let status = shop.api.retry_step(retry("CancelOrder", 2)).await.unwrap_err();
    assert_eq!(reason(&status), "STEP_NOT_WAITING");
    let fulfilling = shop.fulfilling().await;
    let version = shop.saga(fulfilling).await.version;
    let request = RetryStepRequest {
        saga_id: fulfilling.to_string(),
        act: act(version),
        step: String::new(),
    };
    let status = shop.api.retry_step(Request::new(request)).await.unwrap_err();
    assert_eq!(reason(&status), "NOTHING_TO_RETRY");
}

#[tokio::test]
async fn compensation_is_forced_until_it_is_too_late() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = shop.fulfilling().await;
    let force = |order_id: Uuid, version| {
        let saga_id = order_id.to_string();
        Request::new(ForceCompensateRequest { saga_id, act: act(version) })
    };
    let saga = shop.api.force_compensate(force(order_id, 5)).await.unwrap();
    let saga = saga.into_inner().saga.unwrap();
    assert_eq!(saga.state, "CANCELLING_DELIVERY");
    let before = shop.everything().await;
    let status = shop.api.force_compensate(force(order_id, 6)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "TOO_LATE"));
    assert_eq!(shop.everything().await, before);
    for answer in ["DeliveryCancelled", "OrderCancelled", "StockReleased"] {
        shop.answer(order_id, answer).await;
    }
    assert_eq!(shop.saga(order_id).await.state, "CANCELLED");
}

#[tokio::test]
async fn a_step_that_moves_the_order_on_cannot_be_skipped() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = shop.begun().await;
    let before = shop.everything().await;
    let (saga_id, step) = (order_id.to_string(), "ReserveStock".to_owned());
    let request = SkipStepRequest { saga_id, act: act(1), step };
    let status = shop.api.skip_step(Request::new(request)).await.unwrap_err();
    assert_eq!(reason(&status), "STEP_NOT_SKIPPABLE");
    assert_eq!(shop.everything().await, before);
}

#[tokio::test]
async fn bad_requests_name_every_violation_and_change_nothing() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = shop.begun().await;
    let before = shop.everything().await;
    let nameless = Act { actor: String::new(), reason: "a\nb".to_owned(), expected_version: 0 };
    let request = UnparkRequest { saga_id: "7".to_owned(), act: Some(nameless) };
    let status = shop.api.unpark(Request::new(request)).await.unwrap_err();
    let named = status.get_details_bad_request().unwrap().field_violations;
    let named: Vec<_> = named.into_iter().map(|it| it.field).collect();
    assert_eq!(named, ["saga_id", "act.actor", "act.reason", "act.expected_version"]);

    let stale = UnparkRequest { saga_id: order_id.to_string(), act: act(9) };
    let status = shop.api.unpark(Request::new(stale)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "STALE_VERSION"));

    let nobody = Uuid::now_v7().to_string();
    let unknown = UnparkRequest { saga_id: nobody.clone(), act: act(1) };
    let status = shop.api.unpark(Request::new(unknown)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let unknown = GetSagaRequest { saga_id: nobody.clone(), view: 7 };
    let status = shop.api.get_saga(Request::new(unknown)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let unknown = WatchSagaRequest { saga_id: nobody, after_version: 0 };
    let status = shop.api.watch_saga(Request::new(unknown)).await.err().unwrap();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(shop.everything().await, before);
}
