//! Watches: the state as it is, then every transition in order, none left out; a good end only when nothing can follow.

use proto::orders::v1::{
    OrderState, WatchOrderRequest, WatchOrderResponse, order_service_server::OrderService as _,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::{
    commands::{Orchestrator, orchestrated},
    shop::{Shop, in_time, reason},
};

use OrderState::{Cancelled, Cancelling, Completed, Confirmed, Pending};

type Watch = std::pin::Pin<Box<dyn Stream<Item = Result<WatchOrderResponse, Status>> + Send>>;

async fn watch(shop: &Shop, order_id: Uuid, after_revision: i64) -> Watch {
    let request = WatchOrderRequest { order_id: order_id.to_string(), after_revision };
    shop.api.watch_order(Request::new(request)).await.unwrap().into_inner()
}

async fn next(watch: &mut Watch) -> Result<WatchOrderResponse, Status> {
    in_time(watch.next()).await.expect("the stream goes on")
}

/// The states and revisions until the stream ends well.
async fn rest(mut watch: Watch) -> Vec<(OrderState, i64)> {
    let mut seen = Vec::new();
    while let Some(answer) = in_time(watch.next()).await {
        let answer = answer.unwrap();
        let order = answer.order.unwrap();
        if let Some(transition) = answer.transition {
            assert_eq!((transition.state(), transition.revision), (order.state(), order.revision));
        }
        seen.push((order.state(), order.revision));
    }
    seen
}

#[tokio::test]
async fn a_watch_shows_what_commands_decide() {
    let mut orchestrator = Orchestrator::new();
    let shop = Shop::open().await;
    let order_id = orchestrated(&shop).await;
    let stream = watch(&shop, order_id, 0).await;
    for command in ["ConfirmOrder", "CompleteOrder"] {
        let command = orchestrator.command(order_id, command);
        // A repetition is no news.
        shop.hear(&[command.clone(), command]).await;
    }
    assert_eq!(rest(stream).await, [(Pending, 1), (Confirmed, 2), (Completed, 3)]);
}

#[tokio::test]
async fn a_watch_shows_the_state_first_then_every_transition_and_ends() {
    let mut shop = Shop::open().await;
    let order_id = shop.placed().await;
    let mut stream = watch(&shop, order_id, 0).await;
    let first = next(&mut stream).await.unwrap();
    assert_eq!(first.order.unwrap().state(), Pending);
    assert!(first.transition.is_none());
    // A fact that no caller can see is no news.
    shop.hears(order_id, "StockReserved").await;
    shop.hears(order_id, "DeliveryStarted").await;
    let second = next(&mut stream).await.unwrap();
    let (order, transition) = (second.order.unwrap(), second.transition.unwrap());
    assert_eq!((order.state(), order.revision, order.etag.as_str()), (Confirmed, 2, "r2"));
    assert_eq!(transition.cause, "DeliveryStarted");
    assert_eq!(order.settle_time, transition.create_time);
    shop.cancel(order_id).await.unwrap();
    shop.hears(order_id, "DeliveryCancelled").await;
    assert_eq!(rest(stream).await, [(Cancelling, 3), (Cancelled, 4)]);
    let full = shop.order(order_id).await;
    assert_eq!(full.settle_time, order.settle_time);
}

#[tokio::test]
async fn transitions_of_one_commit_are_all_shown() {
    let mut shop = Shop::open().await;
    let order_id = shop.placed().await;
    let stream = watch(&shop, order_id, 0).await;
    let facts = ["StockReserved", "DeliveryStarted", "DeliveryCompleted"]
        .map(|it| shop.others.tell(order_id, it));
    shop.hear(&facts).await;
    assert_eq!(rest(stream).await, [(Pending, 1), (Confirmed, 2), (Completed, 3)]);
}

#[tokio::test]
async fn a_watch_is_resumed_after_any_revision() {
    let mut shop = Shop::open().await;
    let order_id = shop.confirmed().await;
    shop.cancel(order_id).await.unwrap();
    shop.hears(order_id, "DeliveryCancelRefused").await;
    let pending = watch(&shop, order_id, 2).await;
    shop.hears(order_id, "DeliveryCompleted").await;
    let all = [(Pending, 1), (Confirmed, 2), (Cancelling, 3), (Confirmed, 4), (Completed, 5)];
    assert_eq!(rest(pending).await, all[2..]);
    for after in 1..=5 {
        let seen = rest(watch(&shop, order_id, after as i64).await).await;
        assert_eq!(seen, all[after..], "after {after}");
    }
    // Without a revision: what it is, and that is all.
    assert_eq!(rest(watch(&shop, order_id, 0).await).await, [(Completed, 5)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_watchers_of_one_order_all_see_everything() {
    let mut shop = Shop::open().await;
    let order_id = shop.placed().await;
    let other = shop.placed().await;
    let mut watches = Vec::new();
    for _ in 0..200 {
        watches.push(watch(&shop, order_id, 0).await);
    }
    // Some go away.
    watches.truncate(190);
    let _unmoved = watch(&shop, other, 0).await;
    let steps = async {
        shop.hears(order_id, "StockReserved").await;
        shop.hears(order_id, "DeliveryStarted").await;
        shop.cancel(order_id).await.unwrap();
        shop.hears(order_id, "DeliveryCancelRefused").await;
        shop.hears(order_id, "DeliveryCompleted").await;
    };
    let all = [(Pending, 1), (Confirmed, 2), (Cancelling, 3), (Confirmed, 4), (Completed, 5)];
    let (seen, ()) = tokio::join!(futures::future::join_all(watches.into_iter().map(rest)), steps);
    assert_eq!(seen.len(), 190);
    for seen in seen {
        assert_eq!(seen, all);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_watch_that_begins_while_the_order_moves_misses_nothing() {
    let mut shop = Shop::open().await;
    for round in 0..30 {
        let order_id = shop.placed().await;
        shop.hears(order_id, "StockReserved").await;
        let started = [shop.others.tell(order_id, "DeliveryStarted")];
        let (stream, _) = tokio::join!(watch(&shop, order_id, 0), shop.hear(&started));
        shop.hears(order_id, "DeliveryCompleted").await;
        let seen = rest(stream).await;
        let whole = [(Pending, 1), (Confirmed, 2), (Completed, 3)];
        assert!(seen == whole || seen == whole[1..], "round {round}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stop_ends_every_watch_with_unavailable_also_one_that_came_just_now() {
    for _ in 0..20 {
        let mut shop = Shop::open().await;
        let order_id = shop.placed().await;
        let settled = watch(&shop, order_id, 0).await;
        // This one comes while the lookout does something else, or nothing.
        let late = watch(&shop, order_id, 0).await;
        shop.shutdown.cancel();
        for mut stream in [settled, late] {
            next(&mut stream).await.unwrap();
            let status = next(&mut stream).await.unwrap_err();
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STOPPING"));
            assert!(in_time(stream.next()).await.is_none());
        }
        // From now on nobody is left to watch.
        while shop.workers.try_join_next().is_none() {
            tokio::task::yield_now().await;
        }
        let request = WatchOrderRequest { order_id: order_id.to_string(), after_revision: 0 };
        let status = shop.api.watch_order(Request::new(request)).await.err().unwrap();
        assert_eq!(status.code(), Code::Unavailable);
    }
}

/// On one thread: on several the caller could read as fast as the lookout tells, and never be behind.
#[tokio::test]
async fn a_watcher_that_is_behind_when_the_service_stops_is_told_so() {
    let shop = Shop::open().await;
    let order_id = shop.placed().await;
    // More transitions than a watch holds ready.
    sqlx::query(
        "insert into order_transitions (order_id, revision, state, cancel_refused, cause, cause_id, created_at)
         select $1, revision, 'confirmed', false, 'Test', gen_random_uuid(), now()
         from generate_series(2, 60) as revision",
    )
    .bind(order_id)
    .execute(shop.pool())
    .await
    .unwrap();
    let mut stream = watch(&shop, order_id, 0).await;
    next(&mut stream).await.unwrap();
    next(&mut stream).await.unwrap();
    shop.shutdown.cancel();
    let mut last = 2;
    let end = loop {
        match in_time(stream.next()).await {
            Some(Ok(answer)) => {
                last += 1;
                assert_eq!(answer.order.unwrap().revision, last);
            }
            Some(Err(status)) => break Some(status.code()),
            None => break None,
        }
    };
    assert!(last < 60, "it was not behind");
    assert_eq!(end, Some(Code::Unavailable));
}
