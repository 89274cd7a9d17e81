//! The warehouse's calls: what they do, and every way in which they are refused. A refused call writes nothing.

use chassis::{clock, wire::time};
use proto::delivery::v1::{
    CompleteDeliveryRequest, Delivery, DeliveryState, DispatchDeliveryRequest, FailDeliveryRequest,
    GetDeliveryRequest, delivery_service_server::DeliveryService as _,
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::shop::{Shop, complete, dispatch, envelope, fail};

async fn get(shop: &Shop, order_id: &str) -> Result<Delivery, Status> {
    let request = GetDeliveryRequest { order_id: order_id.to_owned() };
    Ok(shop.api().get_delivery(Request::new(request)).await?.into_inner().delivery.unwrap())
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

pub(crate) fn violated(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument);
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn a_parcel_is_dispatched_and_completed() {
    let mut shop = Shop::open().await;
    let order_id = shop.ready().await;
    let sent = dispatch(&shop.api(), order_id, "").await.unwrap();
    assert_eq!(sent.state(), DeliveryState::Dispatched);
    let dispatched = envelope(&shop.last_told().await);
    let arrived = complete(&shop.api(), order_id, "").await.unwrap();
    assert_eq!(arrived.state(), DeliveryState::Completed);
    assert_eq!(
        shop.told(order_id).await,
        ["DeliveryStarted", "DeliveryDispatched", "DeliveryCompleted"]
    );
    assert_eq!(get(&shop, &order_id.to_string()).await.unwrap(), arrived);
    assert_ne!(sent.etag, arrived.etag);
    assert!(time(&arrived.update_time.unwrap()).unwrap() <= clock::now());

    let noted: Vec<(String, Uuid, String)> = sqlx::query_as(
        "select type, event_id, emitted -> 0 ->> 'id'
         from messaging.trail
         where kind = 'call' and outcome = 'applied' and correlation_id = $1
         order by event_id",
    )
    .bind(order_id)
    .fetch_all(&shop.db.pool)
    .await
    .unwrap();
    assert_eq!(noted.len(), 2);
    let (method, call_id, event_id) = &noted[0];
    assert_eq!(method, "DispatchDelivery");
    assert_eq!(
        (dispatched.causation_id, dispatched.event_id.to_string()),
        (Some(*call_id), event_id.clone())
    );
    assert_eq!(dispatched.correlation_id, Some(order_id));
    assert_eq!(dispatched.coordination.map(|it| it.as_str()), Some("choreography"));
}

#[tokio::test]
async fn goods_that_cannot_be_delivered_fail_with_a_reason() {
    let mut shop = Shop::open().await;
    for order_id in [shop.started().await, shop.ready().await] {
        let failed = fail(&shop.api(), order_id, "").await.unwrap();
        assert_eq!(failed.state(), DeliveryState::Failed);
        assert_eq!(failed.failure_reason, "the parcel fell into a river");
        let told = shop.last_told().await;
        let payload: serde_json::Value = serde_json::from_slice(&told.payload.unwrap()).unwrap();
        assert_eq!(payload["reason"], "the parcel fell into a river");
        assert_eq!(payload["deliveryId"], failed.delivery_id);
    }
}

#[tokio::test]
async fn a_forbidden_transition_says_why_and_writes_nothing() {
    let mut shop = Shop::open().await;
    let (started, ready, dispatched) =
        (shop.started().await, shop.ready().await, shop.dispatched().await);
    let (completed, failed, cancelled) =
        (shop.dispatched().await, shop.started().await, shop.started().await);
    complete(&shop.api(), completed, "").await.unwrap();
    fail(&shop.api(), failed, "").await.unwrap();
    let message = shop.orders.cancelled(cancelled);
    shop.hear(&[message]).await;

    let before = shop.everything().await;
    let api = shop.api();
    for (answer, expected) in [
        (dispatch(&api, started, "a").await, "DELIVERY_NOT_READY"),
        (dispatch(&api, dispatched, "a").await, "DELIVERY_ALREADY_DISPATCHED"),
        (dispatch(&api, completed, "a").await, "DELIVERY_ALREADY_COMPLETED"),
        (dispatch(&api, cancelled, "a").await, "DELIVERY_CANCELLED"),
        (dispatch(&api, failed, "a").await, "DELIVERY_FAILED"),
        (complete(&api, started, "a").await, "DELIVERY_NOT_DISPATCHED"),
        (complete(&api, ready, "a").await, "DELIVERY_NOT_DISPATCHED"),
        (complete(&api, completed, "a").await, "DELIVERY_ALREADY_COMPLETED"),
        (complete(&api, cancelled, "a").await, "DELIVERY_CANCELLED"),
        (complete(&api, failed, "a").await, "DELIVERY_FAILED"),
        (fail(&api, dispatched, "a").await, "DELIVERY_ALREADY_DISPATCHED"),
        (fail(&api, completed, "a").await, "DELIVERY_ALREADY_COMPLETED"),
        (fail(&api, cancelled, "a").await, "DELIVERY_CANCELLED"),
        (fail(&api, failed, "a").await, "DELIVERY_FAILED"),
    ] {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(reason(&status), expected);
        let violations = status.get_details_precondition_failure().unwrap().violations;
        assert_eq!(violations[0].r#type, expected);
    }
    assert_eq!(shop.everything().await, before);
}

#[tokio::test]
async fn an_unknown_order_and_a_tombstone_are_not_found() {
    let mut shop = Shop::open().await;
    let (unknown, tombstone) = (Uuid::now_v7(), Uuid::now_v7());
    let message = shop.orders.cancelled(tombstone);
    shop.hear(&[message]).await;
    let before = shop.everything().await;
    let api = shop.api();
    for order_id in [unknown, tombstone] {
        for answer in [
            get(&shop, &order_id.to_string()).await,
            dispatch(&api, order_id, "a").await,
            complete(&api, order_id, "a").await,
            fail(&api, order_id, "a").await,
        ] {
            let status = answer.unwrap_err();
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::NotFound, "DELIVERY_NOT_FOUND")
            );
        }
    }
    assert_eq!(shop.everything().await, before);
}

#[tokio::test]
async fn bad_input_is_told_all_at_once_and_writes_nothing() {
    let shop = Shop::open().await;
    let api = shop.api();
    let (order_id, request_id) = ("7".to_owned(), "with space".to_owned());
    assert_eq!(violated(&get(&shop, "7").await.unwrap_err()), ["order_id"]);
    let request =
        DispatchDeliveryRequest { order_id: order_id.clone(), request_id: request_id.clone() };
    let status = api.dispatch_delivery(Request::new(request)).await.unwrap_err();
    assert_eq!(violated(&status), ["order_id", "request_id"]);
    let request =
        CompleteDeliveryRequest { order_id: order_id.clone(), request_id: request_id.clone() };
    let status = api.complete_delivery(Request::new(request)).await.unwrap_err();
    assert_eq!(violated(&status), ["order_id", "request_id"]);
    for reason in ["x".repeat(501), "a\0b".to_owned()] {
        let request = FailDeliveryRequest {
            order_id: order_id.clone(),
            request_id: request_id.clone(),
            reason,
        };
        let status = api.fail_delivery(Request::new(request)).await.unwrap_err();
        assert_eq!(violated(&status), ["order_id", "request_id", "reason"]);
    }
    assert!(shop.everything().await.is_empty());
}

#[tokio::test]
async fn a_retried_call_answers_the_delivery_as_it_is_now() {
    let mut shop = Shop::open().await;
    let order_id = shop.ready().await;
    let api = shop.api();
    let first = dispatch(&api, order_id, "a").await.unwrap();
    assert_eq!(dispatch(&api, order_id, "a").await.unwrap(), first);
    let completed = complete(&api, order_id, "b").await.unwrap();
    assert_eq!(dispatch(&api, order_id, "a").await.unwrap(), completed);
    assert_eq!(
        shop.told(order_id).await,
        ["DeliveryStarted", "DeliveryDispatched", "DeliveryCompleted"]
    );
}

#[tokio::test]
async fn a_request_id_belongs_to_one_request() {
    let mut shop = Shop::open().await;
    let (order_id, other) = (shop.ready().await, shop.ready().await);
    let api = shop.api();
    dispatch(&api, order_id, "a").await.unwrap();
    let before = shop.everything().await;
    for answer in [dispatch(&api, other, "a").await, complete(&api, order_id, "a").await] {
        let status = answer.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::AlreadyExists, "REQUEST_ID_REUSED")
        );
    }
    assert_eq!(shop.everything().await, before);
}

#[tokio::test]
async fn a_refused_call_may_be_tried_again_under_its_id() {
    let mut shop = Shop::open().await;
    let order_id = shop.started().await;
    assert_eq!(
        reason(&dispatch(&shop.api(), order_id, "a").await.unwrap_err()),
        "DELIVERY_NOT_READY"
    );
    let confirmed = shop.orders.confirmed(order_id);
    shop.hear(&[confirmed]).await;
    dispatch(&shop.api(), order_id, "a").await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable() {
    let shop = Shop::open().await;
    shop.db.pool.close().await;
    let status = dispatch(&shop.api(), Uuid::now_v7(), "").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().is_some());
}
