//! What becomes of an order, step by step, as the saga has it: the state, what a caller is answered, what is told.

use chassis::trail::Outcome;
use proto::orders::v1::{CancelReason, Coordination, OrderState, PlaceOrderRequest};
use tonic::Code;
use uuid::Uuid;

use crate::shop::{Shop, deadline_passes, id, reason, wants};

use CancelReason::{Customer, DeliveryFailed, OutOfStock, TimedOut, Unspecified as Nothing};
use OrderState::{Cancelled, Cancelling, Completed, Confirmed, Pending};

/// Steps; then the state, the reason, whether a cancellation was refused, the revision, and what was told after OrderPlaced.
pub(crate) type History = (&'static str, OrderState, CancelReason, bool, i64, &'static str);

const HISTORIES: [History; 28] = [
    ("", Pending, Nothing, false, 1, ""),
    ("StockReserved", Pending, Nothing, false, 1, ""),
    ("DeliveryStarted", Pending, Nothing, false, 1, ""),
    ("StockReserved DeliveryStarted", Confirmed, Nothing, false, 2, "OrderConfirmed"),
    ("DeliveryStarted StockReserved", Confirmed, Nothing, false, 2, "OrderConfirmed"),
    ("StockReserved StockReserved", Pending, Nothing, false, 1, ""),
    ("ProductOutOfStock", Cancelled, OutOfStock, false, 2, "OrderCancelled"),
    (
        "DeliveryStarted ProductOutOfStock DeliveryCancelled",
        Cancelled,
        OutOfStock,
        false,
        2,
        "OrderCancelled",
    ),
    (
        "ProductOutOfStock DeliveryStarted StockReserved",
        Cancelled,
        OutOfStock,
        false,
        2,
        "OrderCancelled",
    ),
    ("cancel", Cancelled, Customer, false, 2, "OrderCancelled"),
    ("cancel cancel", Cancelled, Customer, false, 2, "OrderCancelled"),
    (
        "cancel StockReserved DeliveryStarted DeliveryCancelled",
        Cancelled,
        Customer,
        false,
        2,
        "OrderCancelled",
    ),
    ("cancel ProductOutOfStock", Cancelled, Customer, false, 2, "OrderCancelled"),
    ("deadline", Cancelled, TimedOut, false, 2, "OrderCancelled"),
    ("deadline cancel StockReserved", Cancelled, TimedOut, false, 2, "OrderCancelled"),
    ("DeliveryFailed", Cancelled, DeliveryFailed, false, 2, "OrderCancelled"),
    (
        "DeliveryFailed DeliveryFailed StockReserved",
        Cancelled,
        DeliveryFailed,
        false,
        2,
        "OrderCancelled",
    ),
    ("confirm deadline!", Confirmed, Nothing, false, 2, "OrderConfirmed"),
    ("confirm DeliveryCancelled", Confirmed, Nothing, false, 2, "OrderConfirmed"),
    (
        "confirm DeliveryFailed",
        Cancelled,
        DeliveryFailed,
        false,
        3,
        "OrderConfirmed OrderCancelled",
    ),
    ("confirm cancel", Cancelling, Nothing, false, 3, "OrderConfirmed OrderCancelRequested"),
    ("confirm cancel cancel", Cancelling, Nothing, false, 3, "OrderConfirmed OrderCancelRequested"),
    (
        "confirm cancel DeliveryCancelled cancel",
        Cancelled,
        Customer,
        false,
        4,
        "OrderConfirmed OrderCancelRequested OrderCancelled",
    ),
    (
        "confirm cancel DeliveryFailed DeliveryCancelled",
        Cancelled,
        DeliveryFailed,
        false,
        4,
        "OrderConfirmed OrderCancelRequested OrderCancelled",
    ),
    (
        "confirm cancel DeliveryCancelRefused CANCEL_REFUSED DeliveryCancelRefused",
        Confirmed,
        Nothing,
        true,
        4,
        "OrderConfirmed OrderCancelRequested",
    ),
    (
        "confirm cancel DeliveryCancelRefused DeliveryCompleted ORDER_COMPLETED",
        Completed,
        Nothing,
        true,
        5,
        "OrderConfirmed OrderCancelRequested",
    ),
    (
        "confirm cancel DeliveryCompleted DeliveryCancelRefused ORDER_COMPLETED",
        Completed,
        Nothing,
        true,
        4,
        "OrderConfirmed OrderCancelRequested",
    ),
    (
        "confirm DeliveryCompleted ORDER_COMPLETED DeliveryCompleted",
        Completed,
        Nothing,
        false,
        3,
        "OrderConfirmed",
    ),
];

/// A step in capitals is a cancellation that is refused for this reason.
pub(crate) async fn take(shop: &mut Shop, order_id: Uuid, step: &str) {
    match step {
        "cancel" => {
            shop.cancel(order_id).await.unwrap();
        }
        "deadline" => assert_eq!(deadline_passes(shop, order_id).await, 1),
        "deadline!" => assert_eq!(deadline_passes(shop, order_id).await, 0),
        "confirm" => {
            shop.hears(order_id, "StockReserved").await;
            shop.hears(order_id, "DeliveryStarted").await;
        }
        refused if refused.contains('_') => {
            let before = shop.everything().await;
            let status = shop.cancel(order_id).await.unwrap_err();
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::FailedPrecondition, refused)
            );
            assert_eq!(shop.everything().await, before);
        }
        event => {
            let report = shop.hears(order_id, event).await;
            assert_eq!(report.count(Outcome::Parked), 0, "{event}");
        }
    }
}

#[tokio::test]
async fn every_history_ends_as_the_saga_has_it() {
    let mut shop = Shop::open().await;
    for (steps, state, why, refused, revision, told) in HISTORIES {
        let order_id = shop.placed().await;
        for step in steps.split_whitespace() {
            take(&mut shop, order_id, step).await;
        }
        let order = shop.order(order_id).await;
        let seen = (order.state(), order.cancel_reason(), order.cancel_refused, order.revision);
        assert_eq!(seen, (state, why, refused, revision), "{steps}");
        let expected: Vec<_> = ["OrderPlaced"].into_iter().chain(told.split_whitespace()).collect();
        assert_eq!(shop.told(order_id).await, expected, "{steps}");
        let revisions: Vec<_> = order.transitions.iter().map(|it| it.revision).collect();
        assert_eq!(revisions, (1..=revision).collect::<Vec<_>>(), "{steps}");
        assert_eq!(order.transitions.last().unwrap().state(), state, "{steps}");
        assert_eq!(order.settle_time.is_some(), state != Pending, "{steps}");
        // A deadline must not meet the orders of other histories.
        sqlx::query("delete from order_transitions").execute(shop.pool()).await.unwrap();
        sqlx::query("delete from orders").execute(shop.pool()).await.unwrap();
    }
    assert_eq!(shop.count("messaging.inbox_parked").await, 0);
}

#[tokio::test]
async fn goods_that_arrive_for_a_cancelled_order_wait_for_a_person() {
    let mut shop = Shop::open().await;
    let (cancelled, other) = (shop.placed().await, shop.placed().await);
    shop.cancel(cancelled).await.unwrap();
    let batch = [
        shop.others.tell(other, "StockReserved"),
        shop.others.tell(cancelled, "DeliveryCompleted"),
        shop.others.tell(other, "DeliveryStarted"),
    ];
    let report = shop.hear(&batch).await;
    assert_eq!((report.count(Outcome::Parked), report.count(Outcome::Applied)), (1, 2));
    assert_eq!(shop.order(cancelled).await.state(), Cancelled);
    assert_eq!(shop.order(other).await.state(), Confirmed);
}

#[tokio::test]
async fn facts_about_an_order_that_is_orchestrated_or_unheard_of_change_nothing() {
    let mut shop = Shop::open().await;
    let coordination = Coordination::Orchestration.into();
    let request = PlaceOrderRequest { coordination, ..wants(&[("tv", 1)]) };
    let orchestrated = shop.place(request).await.unwrap();
    assert_eq!(orchestrated.coordination(), Coordination::Orchestration);
    let order_id = id(&orchestrated);
    for order_id in [order_id, Uuid::now_v7()] {
        let facts = [
            "StockReserved",
            "DeliveryStarted",
            "ProductOutOfStock",
            "DeliveryCompleted",
            "DeliveryFailed",
            "DeliveryCancelled",
            "DeliveryCancelRefused",
        ];
        let batch = facts.map(|fact| shop.others.tell(order_id, fact));
        assert_eq!(shop.hear(&batch).await.count(Outcome::Ignored), facts.len());
    }
    let order = shop.order(order_id).await;
    assert_eq!((order.state(), order.revision), (Pending, 1));
    assert_eq!(shop.told(order_id).await, ["OrderPlaced"]);
    let headers: serde_json::Value = sqlx::query_scalar("select headers from messaging.outbox")
        .fetch_one(shop.pool())
        .await
        .unwrap();
    assert_eq!(headers["ce_coordination"], "orchestration");
    // The customer and the deadline cancel it all the same.
    assert_eq!(deadline_passes(&shop, order_id).await, 1);
    assert_eq!(shop.order(order_id).await.cancel_reason(), TimedOut);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancellation_and_a_deadline_and_the_last_fact_at_once_have_one_winner() {
    let mut shop = Shop::open().await;
    for round in 0..30 {
        let order_id = shop.placed().await;
        shop.hears(order_id, "StockReserved").await;
        let started = [shop.others.tell(order_id, "DeliveryStarted")];
        let (cancelled, _, _) = tokio::join!(
            shop.cancel(order_id),
            shop.hear(&started),
            deadline_passes(&shop, order_id)
        );
        cancelled.unwrap();
        let (order, told) = (shop.order(order_id).await, shop.told(order_id).await);
        match told[1..].iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["OrderCancelled"] => assert_eq!(order.state(), Cancelled, "{round}"),
            ["OrderConfirmed", "OrderCancelRequested"] => {
                assert_eq!(order.state(), Cancelling, "{round}");
            }
            _ => panic!("round {round}: {told:?}"),
        }
        assert_eq!(order.transitions.len() as i64, order.revision);
        assert_eq!(order.transitions.len(), told.len());
    }
}
