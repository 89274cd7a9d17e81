//! Whenever orders tells of an order: given the row, when the message comes, then what is in the tables and the outbox.

use chassis::{cause::Coordination, trail::Outcome};
use serde_json::json;
use uuid::Uuid;

use crate::shop::{self, Shop};

#[tokio::test]
async fn an_order_that_fits_is_reserved_under_the_id_that_its_event_carries() {
    let mut shop = Shop::open(&[("tv", 10), ("clock", 5)]).await;
    let order_id = Uuid::now_v7();
    let placed = shop.orders.placed(order_id, &[("tv", 3), ("clock", 5)]);
    let report = shop.hears(&[placed]).await;
    assert_eq!((report.count(Outcome::Applied), report.emitted), (1, 3));
    assert_eq!((shop.stock("tv").await, shop.stock("clock").await), (7, 0));
    assert_eq!(shop.state(order_id).await.as_deref(), Some("RESERVED"));

    let told = shop.told().await;
    let lines = json!([{"productId": "tv", "quantity": 3}, {"productId": "clock", "quantity": 5}]);
    assert_eq!(told[0].0, "shop.products.v1.StockReserved");
    assert_eq!(told[0].1, order_id.to_string());
    assert_eq!(told[0].2, json!({"orderId": order_id.to_string(), "lines": lines}));
    assert!(told[0].4, "the event's id is the one the row keeps");
    assert_eq!((told[1].0.as_str(), told[1].1.as_str()), ("shop.products.v1.ProductChanged", "tv"));
    let changed = json!({
        "productId": "tv", "productName": "TV", "productPrice": {"currencyCode": "KRW", "units": "10000"},
        "productStock": "7", "imageUrl": "/images/tv.png", "version": "2", "orderId": order_id.to_string(),
    });
    assert_eq!(told[1].2, changed);
    assert_eq!(told[2].1, "clock");
}

#[tokio::test]
async fn an_order_too_large_is_rejected_with_every_shortage_and_without_product_changed() {
    let mut shop = Shop::open(&[("tv", 10), ("clock", 5)]).await;
    let order_id = Uuid::now_v7();
    let placed = shop.orders.placed(order_id, &[("tv", 100), ("clock", 5), ("unheard-of", 1)]);
    shop.hears(&[placed]).await;
    assert_eq!((shop.stock("tv").await, shop.stock("clock").await), (10, 5));
    assert_eq!(shop.state(order_id).await.as_deref(), Some("REJECTED"));
    let told = shop.told().await;
    assert_eq!(told.len(), 1);
    assert!(told[0].0.ends_with(".ProductOutOfStock") && told[0].4);
    let shortages = json!([
        {"productId": "tv", "requested": 100, "available": "10"},
        {"productId": "unheard-of", "requested": 1},
    ]);
    assert_eq!(told[0].2["shortages"], shortages);
}

#[tokio::test]
async fn a_cancelled_reservation_is_released_once() {
    let mut shop = Shop::open(&[("tv", 10)]).await;
    let order_id = Uuid::now_v7();
    let placed = shop.orders.placed(order_id, &[("tv", 1)]);
    let cancelled = [shop.orders.cancelled(order_id), shop.orders.cancelled(order_id)];
    shop.hears(&[placed]).await;
    assert_eq!(shop.stock("tv").await, 9);
    shop.hears(&cancelled[..1]).await;
    assert_eq!(shop.stock("tv").await, 10);
    // The same message again, and another one that says the same.
    let report = shop.hears(&[cancelled[0].clone(), cancelled[1].clone()]).await;
    assert_eq!((report.count(Outcome::Duplicate), report.emitted), (2, 0));
    assert_eq!(shop.stock("tv").await, 10);
    assert_eq!(shop.state(order_id).await.as_deref(), Some("RELEASED"));
    assert_eq!(shop.outcomes(order_id).await, ["applied", "applied", "duplicate"]);
    let told = shop.database.emitted().await;
    assert_eq!(told, ["StockReserved", "ProductChanged", "ProductChanged"]);
}

#[tokio::test]
async fn an_order_that_is_placed_again_takes_nothing_more() {
    let mut shop = Shop::open(&[("tv", 10)]).await;
    let order_id = Uuid::now_v7();
    let placed = shop.orders.placed(order_id, &[("tv", 4)]);
    let again = shop.orders.placed(order_id, &[("tv", 4)]);
    shop.hears(&[placed]).await;
    let report = shop.hears(&[again]).await;
    assert_eq!((report.count(Outcome::Duplicate), report.emitted), (1, 0));
    assert_eq!(shop.stock("tv").await, 6);
}

#[tokio::test]
async fn a_placement_that_comes_after_its_cancellation_takes_nothing() {
    let mut shop = Shop::open(&[("tv", 10)]).await;
    let order_id = Uuid::now_v7();
    let placed = shop.orders.placed(order_id, &[("tv", 1)]);
    let cancelled = shop.orders.cancelled(order_id);
    assert_eq!(shop.hears(&[cancelled]).await.count(Outcome::Applied), 1);
    assert_eq!(shop.state(order_id).await.as_deref(), Some("TOMBSTONE"));
    assert_eq!(shop.hears(&[placed]).await.count(Outcome::Raced), 1);
    assert_eq!(shop.stock("tv").await, 10);
    assert!(shop.database.emitted().await.is_empty());
}

#[tokio::test]
async fn a_cancellation_that_follows_from_our_own_rejection_is_recognised() {
    let mut shop = Shop::open(&[("tv", 10)]).await;
    let order_id = Uuid::now_v7();
    let placed = shop.orders.placed(order_id, &[("tv", 100)]);
    shop.hears(&[placed]).await;
    let out_of_stock = shop.event(order_id, "ProductOutOfStock").await;
    let cancelled = shop.orders.cancelled_because_of(order_id, &out_of_stock);
    assert_eq!(shop.hears(&[cancelled]).await.count(Outcome::OwnOrigin), 1);
    assert_eq!(shop.stock("tv").await, 10);
    assert_eq!(shop.database.emitted().await, ["ProductOutOfStock"]);
    assert_eq!(shop.outcomes(order_id).await, ["applied", "own_origin"]);
}

#[tokio::test]
async fn a_customer_who_cancels_while_we_reject_brings_no_phantom_stock() {
    let mut shop = Shop::open(&[("tv", 10)]).await;
    let order_id = Uuid::now_v7();
    let placed = shop.orders.placed(order_id, &[("tv", 100)]);
    let cancelled = shop.orders.cancelled(order_id);
    let report = shop.hears(&[placed, cancelled]).await;
    assert_eq!(report.count(Outcome::Raced), 1);
    assert_eq!(shop.stock("tv").await, 10);
    assert_eq!(shop.state(order_id).await.as_deref(), Some("REJECTED"));
    assert_eq!(shop.database.emitted().await, ["ProductOutOfStock"]);
}

#[tokio::test]
async fn a_cancellation_that_claims_a_rejection_the_row_knows_nothing_of_is_quarantined() {
    let mut shop = Shop::open(&[("tv", 10)]).await;
    let rejected = Uuid::now_v7();
    let placed = shop.orders.placed(rejected, &[("tv", 100)]);
    shop.hears(&[placed]).await;
    let out_of_stock = shop.event(rejected, "ProductOutOfStock").await;

    let (reserved, unseen, another_rejected) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let placed = shop.orders.placed(reserved, &[("tv", 3)]);
    let placed_too = shop.orders.placed(another_rejected, &[("tv", 100)]);
    shop.hears(&[placed, placed_too]).await;
    let told = shop.database.emitted().await;
    for order_id in [reserved, unseen, another_rejected] {
        // As a defect elsewhere would send it: the path of one order's rejection on another order.
        let heard =
            chassis::envelope::Envelope::parse(chassis::envelope::Headers(&out_of_stock.headers));
        let cause =
            chassis::cause::Cause::message("orders", &heard.unwrap(), chassis::clock::now())
                .of_order(order_id, Coordination::Choreography);
        let cancelled = shop.orders.0.caused(&cause, &shop::order_cancelled(order_id));
        assert_eq!(shop.hears(&[cancelled]).await.count(Outcome::Parked), 1);
    }
    assert_eq!(shop.stock("tv").await, 7);
    assert_eq!(shop.state(reserved).await.as_deref(), Some("RESERVED"));
    assert_eq!(shop.state(unseen).await, None);
    assert_eq!(shop.database.emitted().await, told);
    let reasons: Vec<String> =
        sqlx::query_scalar("select reason from messaging.inbox_parked order by parked_id")
            .fetch_all(shop.pool())
            .await
            .unwrap();
    assert!(reasons[0].contains("claims to follow from ProductOutOfStock"), "{reasons:?}");
    assert!(reasons[0].ends_with("the row is RESERVED"), "{reasons:?}");
    assert!(reasons[1].ends_with("the row is missing"), "{reasons:?}");
    assert!(reasons[2].ends_with("the row is REJECTED"), "{reasons:?}");
}

#[tokio::test]
async fn an_order_of_the_orchestrator_is_left_to_its_commands() {
    let mut shop = Shop::open(&[("tv", 10)]).await;
    let order_id = Uuid::now_v7();
    let cause = shop::act_of_orders(order_id, Coordination::Orchestration);
    let placed = shop.orders.0.caused(&cause, &shop::order_placed(order_id, &[("tv", 1)]));
    let cancelled = shop.orders.0.caused(&cause, &shop::order_cancelled(order_id));
    let report = shop.hears(&[placed, cancelled]).await;
    assert_eq!((report.count(Outcome::Ignored), report.emitted), (2, 0));
    assert_eq!(shop.stock("tv").await, 10);
    assert_eq!(shop.state(order_id).await, None);
}

#[tokio::test]
async fn a_malformed_order_parks_with_what_follows_it_and_the_other_orders_flow_on() {
    let mut shop = Shop::open(&[("tv", 10)]).await;
    let bad: [&[(&str, i32)]; 6] = [
        &[],
        &[("tv", 0)],
        &[("tv", -1)],
        &[("tv", 1_000_001)],
        &[("tv", 1), ("tv", 2)],
        &[("", 1)],
    ];
    let mut batch = Vec::new();
    let mut parked = Vec::new();
    for wanted in bad {
        let order_id = Uuid::now_v7();
        batch.push(shop.orders.placed(order_id, wanted));
        batch.push(shop.orders.cancelled(order_id));
        parked.push(order_id);
    }
    let (undecodable, other, good) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let mut garbage = shop.orders.placed(undecodable, &[("tv", 1)]);
    garbage.payload = Some(b"{not json".to_vec());
    batch.push(garbage);
    parked.push(undecodable);
    let mut crossed = shop.orders.0.event(other, &shop::order_placed(good, &[("tv", 1)]));
    crossed.key = other.to_string();
    batch.push(crossed);
    batch.push(shop.orders.placed(good, &[("tv", 2)]));

    let report = shop.hears(&batch).await;
    assert_eq!(report.count(Outcome::Parked), batch.len() - 1);
    assert_eq!(report.count(Outcome::Applied), 1);
    assert_eq!(shop.stock("tv").await, 8);
    assert_eq!(shop.state(good).await.as_deref(), Some("RESERVED"));
    for order_id in parked {
        assert_eq!(shop.state(order_id).await, None);
    }
    assert_eq!(shop.database.emitted().await, ["StockReserved", "ProductChanged"]);
}

#[tokio::test]
async fn types_that_do_not_concern_products_are_skipped() {
    let mut shop = Shop::open(&[("tv", 10)]).await;
    let order_id = Uuid::now_v7();
    let confirmed =
        proto::orders::v1::OrderConfirmed { order_id: order_id.to_string(), ..Default::default() };
    let confirmed = shop.orders.0.event(order_id, &confirmed);
    assert_eq!(shop.hears(&[confirmed]).await.unknown, 1);
    assert_eq!(shop.state(order_id).await, None);
}
