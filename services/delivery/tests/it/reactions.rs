//! What delivery does when orders speaks, one message at a time.

use chassis::trail::Outcome;
use uuid::Uuid;

use crate::shop::{Shop, cancelled, envelope, fail, placed_to};

#[tokio::test]
async fn a_placed_order_opens_a_delivery_and_says_what_caused_it() {
    let mut shop = Shop::open().await;
    let order_id = Uuid::now_v7();
    let placed = shop.orders.placed(order_id);
    let report = shop.hear(std::slice::from_ref(&placed)).await;
    assert_eq!((report.count(Outcome::Applied), report.emitted), (1, 1));
    assert_eq!(shop.state(order_id).await, "started");

    let told = shop.last_told().await;
    let (cause, effect) = (envelope(&placed), envelope(&told));
    assert_eq!(effect.event_type, "shop.delivery.v1.DeliveryStarted");
    assert_eq!(effect.causation_id, Some(cause.event_id));
    assert_eq!(effect.correlation_id, Some(order_id));
    assert_eq!(effect.coordination, cause.coordination);
    assert_eq!(effect.trace.trace_id(), cause.trace.trace_id());
    let payload: serde_json::Value = serde_json::from_slice(&told.payload.unwrap()).unwrap();
    assert_eq!(payload["orderId"], order_id.to_string());
    assert_eq!(payload["deliveryState"], "DELIVERY_STATE_STARTED");
    assert_eq!(payload["customerName"], "홍길동");
    assert_eq!(payload["deliveryAddress"], "서울시");
    assert_eq!(payload["lines"][0]["productId"], "tv");
    assert_eq!(payload["lines"][0]["quantity"], 1);
}

#[tokio::test]
async fn an_address_without_a_carrier_fails_and_the_cancellation_that_follows_is_our_own_doing() {
    let mut shop = Shop::open().await;
    let order_id = Uuid::now_v7();
    let placed = shop.orders.0.event(order_id, &placed_to(order_id, "Atlantis 1"));
    shop.hear(&[placed]).await;
    assert_eq!(shop.state(order_id).await, "failed");
    let failed = shop.last_told().await;
    let payload: serde_json::Value =
        serde_json::from_slice(failed.payload.as_deref().unwrap()).unwrap();
    assert_eq!(payload["reason"], "no carrier delivers to this address");

    let consequence = shop.orders.cancelled_because(order_id, &failed);
    let foreign = shop.orders.cancelled(order_id);
    assert_eq!(shop.hear(&[consequence]).await.count(Outcome::OwnOrigin), 1);
    assert_eq!(shop.hear(&[foreign]).await.count(Outcome::Raced), 1);
    assert_eq!(shop.told(order_id).await, ["DeliveryFailed"]);
}

#[tokio::test]
async fn while_deliveries_are_refused_every_order_fails_and_later_ones_do_not() {
    let mut shop = Shop::open().await;
    shop.refuse.turn(true);
    let refused = shop.started().await;
    assert_eq!(shop.told(refused).await, ["DeliveryFailed"]);
    shop.refuse.turn(false);
    let taken = shop.started().await;
    assert_eq!(shop.told(taken).await, ["DeliveryStarted"]);
}

#[tokio::test]
async fn a_confirmed_order_is_ready_silently() {
    let mut shop = Shop::open().await;
    let order_id = shop.ready().await;
    assert_eq!(shop.state(order_id).await, "ready");
    assert_eq!(shop.told(order_id).await, ["DeliveryStarted"]);
}

#[tokio::test]
async fn a_cancel_request_before_dispatch_cancels_and_its_consequence_is_recognised() {
    let mut shop = Shop::open().await;
    let order_id = shop.ready().await;
    let request = shop.orders.cancel_requested(order_id);
    shop.hear(&[request]).await;
    assert_eq!(shop.state(order_id).await, "cancelled");
    let told = shop.last_told().await;
    let consequence = shop.orders.cancelled_because(order_id, &told);
    assert_eq!(shop.hear(&[consequence]).await.count(Outcome::OwnOrigin), 1);
    assert_eq!(shop.told(order_id).await, ["DeliveryStarted", "DeliveryCancelled"]);
}

#[tokio::test]
async fn a_cancel_request_after_dispatch_is_refused_once_even_when_it_comes_under_new_ids() {
    let mut shop = Shop::open().await;
    let order_id = shop.dispatched().await;
    let (one, other) =
        (shop.orders.cancel_requested(order_id), shop.orders.cancel_requested(order_id));
    assert_eq!(shop.hear(&[one]).await.count(Outcome::Applied), 1);
    assert_eq!(shop.hear(&[other]).await.count(Outcome::Duplicate), 1);
    assert_eq!(
        shop.told(order_id).await,
        ["DeliveryStarted", "DeliveryDispatched", "DeliveryCancelRefused"]
    );
    assert_eq!(shop.state(order_id).await, "dispatched");
}

#[tokio::test]
async fn a_cancelled_order_cancels_its_delivery() {
    let mut shop = Shop::open().await;
    for order_id in [shop.started().await, shop.ready().await] {
        let cancelled = shop.orders.cancelled(order_id);
        shop.hear(&[cancelled]).await;
        assert_eq!(shop.state(order_id).await, "cancelled");
        assert_eq!(shop.told(order_id).await, ["DeliveryStarted", "DeliveryCancelled"]);
    }
}

#[tokio::test]
async fn a_placement_that_comes_after_its_cancellation_opens_nothing() {
    let mut shop = Shop::open().await;
    let order_id = Uuid::now_v7();
    let (placed, cancelled) = (shop.orders.placed(order_id), shop.orders.cancelled(order_id));
    shop.hear(&[cancelled]).await;
    assert_eq!(shop.state(order_id).await, "tombstone");
    assert_eq!(shop.hear(&[placed]).await.count(Outcome::Raced), 1);
    assert_eq!(shop.state(order_id).await, "tombstone");
    assert!(shop.told(order_id).await.is_empty());
}

#[tokio::test]
async fn a_confirmation_that_crosses_a_failure_changes_nothing() {
    let mut shop = Shop::open().await;
    let order_id = shop.started().await;
    fail(&shop.api(), order_id, "").await.unwrap();
    let confirmed = shop.orders.confirmed(order_id);
    assert_eq!(shop.hear(&[confirmed]).await.count(Outcome::Raced), 1);
    assert_eq!(shop.state(order_id).await, "failed");
}

#[tokio::test]
async fn orders_that_are_orchestrated_are_left_alone() {
    let mut shop = Shop::open().await;
    let order_id = Uuid::now_v7();
    let placed = shop.orders.orchestrated(order_id, &placed_to(order_id, "서울시"));
    let cancelled = shop.orders.orchestrated(order_id, &cancelled(order_id));
    assert_eq!(shop.hear(&[placed, cancelled]).await.count(Outcome::Ignored), 2);
    assert_eq!(shop.state(order_id).await, "");
    assert!(shop.db.emitted().await.is_empty());
}
