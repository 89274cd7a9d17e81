//! From event to command: the saga's row, its history and its commands commit together, and nothing happens twice.

use chassis::{cause::Coordination, trail::Outcome};
use proto::{
    delivery::v1::{DeliveryCompleted, StartDelivery},
    orders::v1::{CancelOrder, CancelReason, OrderCancelRequested},
    products::v1::ReserveStock,
};
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::shop::{PATIENT, Shop, envelope};

fn payload<T: serde::de::DeserializeOwned>(record: &chassis::inbox::Record) -> T {
    serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap()
}

#[tokio::test]
async fn an_order_is_driven_from_its_placement_to_its_completion() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = shop.fulfilling().await;
    let completed = DeliveryCompleted { order_id: order_id.to_string(), ..Default::default() };
    let completed = shop.told(order_id, Coordination::Orchestration, &completed);
    shop.hear(&[completed]).await;
    shop.answer(order_id, "OrderCompleted").await;
    let saga = shop.saga(order_id).await;
    assert_eq!((saga.state.as_str(), saga.finished, saga.version), ("DONE", true, 7));
    assert!(saga.finish_time.is_some());
    assert_eq!(
        shop.sent_names(order_id).await,
        ["ReserveStock", "StartDelivery", "ConfirmOrder", "ReadyDelivery", "CompleteOrder"]
    );
    let history: Vec<_> = saga
        .history
        .iter()
        .map(|it| (it.version, it.cause.as_str(), it.state.as_str(), it.commands.join(" ")))
        .collect();
    let history: Vec<_> =
        history.iter().map(|(v, cause, state, sent)| (*v, *cause, *state, sent.as_str())).collect();
    assert_eq!(
        history,
        [
            (1, "OrderPlaced", "RESERVING", "ReserveStock"),
            (2, "StockReserved", "STARTING_DELIVERY", "StartDelivery"),
            (3, "DeliveryStarted", "CONFIRMING", "ConfirmOrder"),
            (4, "OrderConfirmed", "READYING", "ReadyDelivery"),
            (5, "DeliveryReady", "FULFILLING", ""),
            (6, "DeliveryCompleted", "COMPLETING", "CompleteOrder"),
            (7, "OrderCompleted", "DONE", ""),
        ]
    );
    assert!(saga.history.iter().all(|change| change.trace_id.len() == 32));
}

#[tokio::test]
async fn commands_say_what_they_need_where_they_go_and_what_caused_them() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = Uuid::now_v7();
    let placed = shop.placed(order_id, Coordination::Orchestration);
    let placed_id = envelope(&placed).event_id;
    shop.hear(&[placed]).await;
    let reserve = shop.last_sent(order_id).await;
    assert_eq!(reserve.topic, "shop.products.commands");
    let header = envelope(&reserve);
    assert_eq!(header.event_id, Uuid::new_v5(&order_id, b"ReserveStock/do"));
    assert_eq!((header.causation_id, header.correlation_id), (Some(placed_id), Some(order_id)));
    assert_eq!(header.coordination, Some(Coordination::Orchestration));
    let command: ReserveStock = payload(&reserve);
    assert_eq!((command.lines[0].product_id.as_str(), command.lines[0].quantity), ("tv", 2));

    shop.answer(order_id, "StockReserved").await;
    let start = shop.last_sent(order_id).await;
    assert_eq!(start.topic, "shop.delivery.commands");
    let command: StartDelivery = payload(&start);
    assert_eq!(
        (command.customer_name.as_str(), command.delivery_address.as_str()),
        ("홍길동", "서울시")
    );
    assert_eq!(command.lines[0].product_name, "TV");

    shop.answer(order_id, "DeliveryFailed").await;
    let cancel = shop.last_sent(order_id).await;
    assert_eq!(cancel.topic, "shop.orders.commands");
    assert_eq!(payload::<CancelOrder>(&cancel).reason(), CancelReason::DeliveryFailed);
}

#[tokio::test]
async fn a_saga_that_has_begun_is_never_begun_again() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = shop.begun().await;
    shop.answer(order_id, "StockReserved").await;
    let before = shop.everything().await.len();
    // The same placement under another event id, as after a restored backup of orders.
    let again = shop.placed(order_id, Coordination::Orchestration);
    let report = shop.hear(&[again.clone(), again]).await;
    assert_eq!(report.count(Outcome::Duplicate), 2);
    assert_eq!(shop.saga(order_id).await.state, "STARTING_DELIVERY");
    assert_eq!(shop.everything().await.len(), before + 1, "only the trail tells of it");
}

#[tokio::test]
async fn orders_that_the_services_coordinate_themselves_are_passed_over() {
    let mut shop = Shop::open(PATIENT).await;
    let placed = shop.placed(Uuid::now_v7(), Coordination::Choreography);
    let report = shop.hear(&[placed]).await;
    assert_eq!((report.unknown, report.emitted), (1, 0));
    assert_eq!(shop.everything().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_told_of_an_order_without_a_saga_changes_nothing() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = Uuid::now_v7();
    let wish = OrderCancelRequested { order_id: order_id.to_string(), ..Default::default() };
    let wish = shop.told(order_id, Coordination::Orchestration, &wish);
    let report = shop.hear(&[wish]).await;
    assert_eq!((report.count(Outcome::Ignored), report.emitted), (1, 0));
}

#[tokio::test]
async fn an_answer_counts_once_and_only_to_the_command_that_it_names() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = shop.begun().await;
    let other = shop.begun().await;
    let reserve = shop.last_sent(order_id).await;
    let reserved = shop.answer_to(&reserve, "StockReserved");
    // The answer to another order's command, under this order's key.
    let mut stray = shop.answer_to(&shop.last_sent(other).await, "StockReserved");
    stray.key = order_id.to_string();
    stray.payload = reserved.payload.clone();
    for (name, value) in &mut stray.headers {
        if name == "ce_correlationid" {
            *value = Some(order_id.to_string().into_bytes());
        }
    }
    let report = shop.hear(&[stray]).await;
    assert_eq!(report.emitted, 0);
    assert_eq!(shop.saga(order_id).await.state, "RESERVING");

    let report = shop.hear(&[reserved.clone(), reserved.clone()]).await;
    assert_eq!(report.emitted, 1);
    let report = shop.hear(&[reserved]).await;
    assert_eq!((report.emitted, report.count(Outcome::Duplicate)), (0, 1));
    assert_eq!(shop.sent_names(order_id).await, ["ReserveStock", "StartDelivery"]);
}

#[tokio::test]
async fn a_whole_shortage_in_one_batch_is_undone() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = shop.begun().await;
    shop.answer(order_id, "ProductOutOfStock").await;
    shop.answer(order_id, "OrderCancelled").await;
    shop.answer(order_id, "StockReleased").await;
    let saga = shop.saga(order_id).await;
    assert_eq!((saga.state.as_str(), saga.cancel_reason.as_str()), ("CANCELLED", "OUT_OF_STOCK"));
    assert_eq!(shop.sent_names(order_id).await, ["ReserveStock", "CancelOrder", "ReleaseStock"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_that_hear_the_same_at_once_do_nothing_twice() {
    let mut shop = Shop::open(PATIENT).await;
    for _ in 0..20 {
        let new = Uuid::now_v7();
        let running = shop.begun().await;
        let reserve = shop.last_sent(running).await;
        let batch = [
            shop.placed(new, Coordination::Orchestration),
            shop.answer_to(&reserve, "StockReserved"),
        ];
        let barrier = Barrier::new(2);
        let replica = async || {
            let mut conn = shop.db.pool.acquire().await.unwrap();
            barrier.wait().await;
            shop.inbox.handle(&mut conn, &batch).await.unwrap()
        };
        let (one, other) = tokio::join!(replica(), replica());
        assert_eq!(one.emitted + other.emitted, 2);
        assert_eq!(shop.sent_names(new).await, ["ReserveStock"]);
        assert_eq!(shop.sent_names(running).await, ["ReserveStock", "StartDelivery"]);
    }
}

#[tokio::test]
async fn headers_and_payload_about_different_orders_are_put_aside() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = shop.begun().await;
    let other = Uuid::now_v7();
    let wish = OrderCancelRequested { order_id: order_id.to_string(), ..Default::default() };
    let wish = shop.told(other, Coordination::Orchestration, &wish);
    let report = shop.hear(&[wish]).await;
    assert_eq!(report.count(Outcome::Parked), 1);
    assert_eq!(shop.saga(order_id).await.version, 1);
}
