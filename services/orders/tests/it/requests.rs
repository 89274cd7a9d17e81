//! A request_id makes a call safe to repeat: one order, however often and however many at once.

use proto::orders::v1::{CancelOrderRequest, OrderState, PlaceOrderRequest};
use tonic::Code;

use crate::shop::{Shop, id, in_time, named, reason, wants};

fn once(request_id: &str, lines: &[(&str, i32)]) -> PlaceOrderRequest {
    PlaceOrderRequest { request_id: request_id.to_owned(), ..wants(lines) }
}

#[tokio::test]
async fn the_same_request_twice_is_one_order_as_it_is_now() {
    let mut shop = Shop::open().await;
    let first = shop.place(once("r-1", &[("tv", 1)])).await.unwrap();
    shop.hears(id(&first), "ProductOutOfStock").await;
    let again = shop.place(once("r-1", &[("tv", 1)])).await.unwrap();
    assert_eq!((again.state(), again.order_id), (OrderState::Cancelled, first.order_id));
    assert_eq!(shop.count("orders").await, 1);
}

#[tokio::test]
async fn the_same_id_for_something_else_is_refused_and_writes_nothing() {
    let shop = Shop::open().await;
    let order = shop.place(once("r-1", &[("tv", 1)])).await.unwrap();
    let before = shop.everything().await;
    let other_address = {
        let mut request = once("r-1", &[("tv", 1)]);
        request.customer.as_mut().unwrap().address = "부산시".to_owned();
        request
    };
    for request in [once("r-1", &[("tv", 2)]), other_address] {
        let status = shop.place(request).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::AlreadyExists, "REQUEST_ID_REUSED")
        );
    }
    // Nor may a cancellation use the id of a placement.
    let cancel = CancelOrderRequest {
        order_id: order.order_id,
        request_id: "r-1".to_owned(),
        ..Default::default()
    };
    let status = shop.cancel_with(cancel).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(shop.everything().await, before);
}

#[tokio::test]
async fn each_customer_has_ids_of_his_own() {
    let shop = Shop::open().await;
    let mut other = once("r-1", &[("tv", 1)]);
    other.customer.as_mut().unwrap().customer_id = "2@uengine.org".to_owned();
    let one = shop.place(once("r-1", &[("tv", 1)])).await.unwrap();
    assert_ne!(shop.place(other).await.unwrap().order_id, one.order_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_callers_with_the_same_request_make_one_order() {
    let shop = Shop::open().await;
    for round in 0..10 {
        let request = once(&format!("r-{round}"), &[("tv", 1)]);
        let calls = (0..20).map(|_| shop.place(request.clone()));
        let answers = in_time(futures::future::join_all(calls)).await;
        let mut orders: Vec<_> = answers.into_iter().map(|it| it.unwrap().order_id).collect();
        orders.dedup();
        assert_eq!(orders.len(), 1);
        assert_eq!(shop.count("orders").await, round + 1);
        assert_eq!(shop.count("messaging.outbox").await, round + 1);
    }
}

#[tokio::test]
async fn a_refused_request_does_not_use_its_id_up() {
    let mut shop = Shop::open().await;
    let before = shop.everything().await;
    let request = once("r-1", &[("radio", 1)]);
    let status = shop.place(request.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(named(&status), ["lines[0].product_id"]);
    assert_eq!(shop.everything().await, before);
    let radio = shop.others.product("radio", 1, 1);
    shop.hear(&[radio]).await;
    shop.place(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refused_request_that_came_many_times_at_once_is_refused_alike_each_time() {
    let shop = Shop::open().await;
    for round in 0..10 {
        let bad = once(&format!("r-{round}"), &[("radio", 1)]);
        let calls = (0..20).map(|_| shop.place(bad.clone()));
        for answer in in_time(futures::future::join_all(calls)).await {
            assert_eq!(named(&answer.unwrap_err()), ["lines[0].product_id"]);
        }
        // Nor does it take the id from a good one beside it.
        let good = once(&format!("r-{round}"), &[("tv", 1)]);
        let (refused, placed) = tokio::join!(shop.place(bad), shop.place(good));
        assert!(matches!(refused.unwrap_err().code(), Code::InvalidArgument | Code::AlreadyExists));
        placed.unwrap();
    }
}

#[tokio::test]
async fn a_repeated_cancellation_is_answered_with_the_order_as_it_is() {
    let mut shop = Shop::open().await;
    let order_id = shop.confirmed().await;
    let cancel = CancelOrderRequest {
        order_id: order_id.to_string(),
        request_id: "c-1".to_owned(),
        ..Default::default()
    };
    assert_eq!(shop.cancel_with(cancel.clone()).await.unwrap().state(), OrderState::Cancelling);
    shop.hears(order_id, "DeliveryCancelRefused").await;
    let before = shop.everything().await;
    // The same call again: not a new cancellation, which would be refused.
    let again = shop.cancel_with(cancel.clone()).await.unwrap();
    assert!(again.cancel_refused);
    let other = CancelOrderRequest { etag: "r1".to_owned(), ..cancel };
    assert_eq!(shop.cancel_with(other).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(shop.everything().await, before);
}
