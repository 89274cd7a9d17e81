//! Two consumers of orders on the same messages, as a rebalance may have it: no row is overwritten, nothing is done twice.

use std::sync::Arc;

use chassis::{
    cause::Cause,
    clock,
    policy::{Book as _, SaveError},
    telemetry::TraceContext,
};
use orders::{
    book::{Book, Wants},
    domain::Message,
};
use sqlx::Connection as _;
use tokio::{sync::Barrier, task::JoinSet};
use uuid::Uuid;

use crate::shop::{Shop, in_time};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_inboxes_on_the_same_batch_do_everything_once() {
    let mut shop = Shop::open().await;
    let inbox = Arc::new(orders::inbox());
    for round in 0..30 {
        let mut orders = Vec::new();
        for _ in 0..8 {
            orders.push(shop.placed().await);
        }
        let mut batch = Vec::new();
        for order_id in &orders {
            batch.push(shop.others.tell(*order_id, "StockReserved"));
            batch.push(shop.others.tell(*order_id, "DeliveryStarted"));
        }
        batch.push(shop.others.tell(orders[0], "DeliveryFailed"));
        batch.push(shop.others.tell(orders[1], "DeliveryCompleted"));
        batch.push(shop.others.product("tv", round, round + 2));
        // The other consumer is a few messages behind, or has some more.
        let shifted = [&batch[3..], &batch[..3]].concat();
        let start = Arc::new(Barrier::new(2));
        let mut tasks = JoinSet::new();
        for batch in [batch, shifted] {
            let (inbox, start) = (inbox.clone(), start.clone());
            let mut conn = shop.db.connection().await;
            tasks.spawn(async move {
                start.wait().await;
                inbox.handle(&mut conn, &batch).await.unwrap()
            });
        }
        in_time(tasks.join_all()).await;
        for (index, order_id) in orders.iter().enumerate() {
            let told = shop.told(*order_id).await;
            let expected: &[&str] = match index {
                0 => match &told[..] {
                    // Whoever is a few messages ahead may hear of the failure first.
                    [_, second] if second == "OrderCancelled" => &["OrderPlaced", "OrderCancelled"],
                    _ => &["OrderPlaced", "OrderConfirmed", "OrderCancelled"],
                },
                _ => &["OrderPlaced", "OrderConfirmed"],
            };
            assert_eq!(told, expected, "round {round}, order {index}");
            let order = shop.order(*order_id).await;
            let revisions: Vec<_> = order.transitions.iter().map(|it| it.revision).collect();
            assert_eq!(revisions, (1..=order.revision).collect::<Vec<_>>());
        }
    }
    assert_eq!(shop.count("messaging.inbox_parked").await, 0);
}

/// An order that a slow transaction has loaded and decided on, but not yet written.
#[tokio::test]
async fn an_order_is_not_written_over_another_version() {
    let shop = Shop::open().await;
    let order_id = shop.placed().await;
    let mut conn = shop.db.connection().await;
    let mut slow = conn.begin().await.unwrap();
    let mut book = Book::load(&mut slow, &Wants::one(order_id)).await.unwrap();
    let (id, trace) = (Uuid::now_v7(), TraceContext::random());
    let cause = Cause::local("orders", "Test", id, trace, clock::now());
    book.decide(order_id, Message::CancelOrder, &cause).unwrap();
    // Only this transaction can: the row is locked.
    sqlx::query("update orders set version = version + 1").execute(&mut *slow).await.unwrap();
    let saved = book.save(&mut slow).await;
    assert!(matches!(saved, Err(SaveError::Conflict)), "{saved:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_and_messages_about_one_order_do_not_overwrite_each_other() {
    let mut shop = Shop::open().await;
    for round in 0..30 {
        let order_id = shop.placed().await;
        let reserved = [shop.others.tell(order_id, "StockReserved")];
        let started = [shop.others.tell(order_id, "DeliveryStarted")];
        let (cancelled, _, _) =
            tokio::join!(shop.cancel(order_id), shop.hear(&reserved), shop.hear(&started));
        cancelled.unwrap();
        let (reserved, started, version): (bool, bool, i64) = sqlx::query_as(
            "select stock_reserved, delivery_started, version from orders where order_id = $1",
        )
        .bind(order_id)
        .fetch_one(shop.pool())
        .await
        .unwrap();
        let told = shop.told(order_id).await;
        match told[1].as_str() {
            // The cancellation came first, or between the facts: what came later no longer counts.
            "OrderCancelled" => assert!(!(reserved && started), "round {round}"),
            "OrderConfirmed" => assert_eq!((told.len(), version), (3, 4), "round {round}"),
            other => panic!("round {round}: {other}"),
        }
    }
}
