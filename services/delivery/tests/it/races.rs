//! Two at once on the same row: exactly one wins, and what was told agrees with the row.

use std::sync::Arc;

use tokio::{sync::Barrier, task::JoinSet};
use tonic::Code;
use uuid::Uuid;

use crate::shop::{Shop, dispatch, fail};

const ROUNDS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_consumers_of_the_same_batch_do_nothing_twice() {
    let mut shop = Shop::open().await;
    for _ in 0..20 {
        let (new, ready, dispatched) =
            (Uuid::now_v7(), shop.ready().await, shop.dispatched().await);
        let before = shop.db.emitted().await.len();
        let batch = Arc::new([
            shop.orders.placed(new),
            shop.orders.cancel_requested(ready),
            shop.orders.cancel_requested(dispatched),
        ]);
        let shop_ref = &shop;
        let barrier = Barrier::new(2);
        let consumer = async || {
            let mut conn = shop_ref.db.pool.acquire().await.unwrap();
            barrier.wait().await;
            shop_ref.inbox.handle(&mut conn, batch.as_slice()).await.unwrap()
        };
        let (one, other) = tokio::join!(consumer(), consumer());
        assert_eq!(one.emitted + other.emitted, 3);
        assert_eq!(shop.db.emitted().await.len(), before + 3);
        assert_eq!(shop.told(new).await, ["DeliveryStarted"]);
        assert_eq!(shop.told(ready).await, ["DeliveryStarted", "DeliveryCancelled"]);
        assert_eq!(
            shop.told(dispatched).await,
            ["DeliveryStarted", "DeliveryDispatched", "DeliveryCancelRefused"]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_cancel_and_dispatch_exactly_one_wins() {
    let mut shop = Shop::open().await;
    for _ in 0..ROUNDS {
        let order_id = shop.ready().await;
        let request = shop.orders.cancel_requested(order_id);
        let (api, shop_ref, barrier) = (shop.api(), &shop, Barrier::new(2));
        let ship = async {
            barrier.wait().await;
            dispatch(&api, order_id, "").await
        };
        let cancel = async {
            let mut conn = shop_ref.db.pool.acquire().await.unwrap();
            barrier.wait().await;
            shop_ref.inbox.handle(&mut conn, &[request]).await.unwrap()
        };
        let (shipped, _) = tokio::join!(ship, cancel);
        let told = shop.told(order_id).await;
        match (shipped, shop.state(order_id).await.as_str()) {
            (Ok(_), "dispatched") => {
                assert_eq!(
                    told,
                    ["DeliveryStarted", "DeliveryDispatched", "DeliveryCancelRefused"]
                );
            }
            (Err(status), "cancelled") => {
                assert_eq!(status.code(), Code::FailedPrecondition);
                assert_eq!(told, ["DeliveryStarted", "DeliveryCancelled"]);
            }
            (shipped, state) => panic!("dispatching gave {shipped:?}, and the row is {state}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_dispatch_and_fail_exactly_one_wins() {
    let mut shop = Shop::open().await;
    for _ in 0..ROUNDS {
        let order_id = shop.ready().await;
        let (api, barrier) = (shop.api(), Barrier::new(2));
        let ship = async {
            barrier.wait().await;
            dispatch(&api, order_id, "").await
        };
        let lose = async {
            barrier.wait().await;
            fail(&api, order_id, "").await
        };
        let (shipped, lost) = tokio::join!(ship, lose);
        let told = shop.told(order_id).await;
        match (shipped, lost) {
            (Ok(_), Err(_)) => assert_eq!(told, ["DeliveryStarted", "DeliveryDispatched"]),
            (Err(_), Ok(_)) => assert_eq!(told, ["DeliveryStarted", "DeliveryFailed"]),
            (shipped, lost) => panic!("dispatching gave {shipped:?}, failing gave {lost:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_equal_calls_at_once_ship_once() {
    let mut shop = Shop::open().await;
    for request_id in ["", "click-1"] {
        let order_id = shop.ready().await;
        let barrier = Arc::new(Barrier::new(6));
        let mut calls = JoinSet::new();
        for _ in 0..6 {
            let (api, barrier) = (shop.api(), Arc::clone(&barrier));
            calls.spawn(async move {
                barrier.wait().await;
                dispatch(&api, order_id, request_id).await
            });
        }
        let answers = calls.join_all().await;
        let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
        // With a request_id they are one call that was retried; without, they are six calls.
        assert_eq!(accepted, if request_id.is_empty() { 1 } else { 6 });
        assert_eq!(shop.told(order_id).await, ["DeliveryStarted", "DeliveryDispatched"]);
    }
}
