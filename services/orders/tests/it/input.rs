//! Bad input: the right code, every violation named, nothing written.

use chassis::cause::Coordination;
use proto::{
    Duration, Timestamp,
    orders::v1::{
        CancelOrderRequest, Customer, GetOrderRequest, ListOrdersRequest,
        ListProductReplicasRequest, PlaceOrderRequest, WatchOrderRequest,
        order_service_server::OrderService as _,
    },
};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::shop::{Shop, id, named, reason, wants};

fn refused(status: &Status, fields: &[&str]) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(named(status), fields);
}

#[tokio::test]
async fn every_violation_of_an_order_is_named_at_once_and_nothing_is_written() {
    let shop = Shop::open().await;
    let before = shop.everything().await;
    let everything_wrong = PlaceOrderRequest {
        request_id: "with a space".to_owned(),
        customer: Some(Customer {
            customer_id: String::new(),
            name: "a\0b".to_owned(),
            address: "x".repeat(501),
        }),
        coordination: 7,
        ..wants(&[("TV", 1), ("tv", 0), ("tv", -1), ("clock", i32::MAX), ("clock", i32::MIN)])
    };
    let status = shop.place(everything_wrong).await.unwrap_err();
    refused(
        &status,
        &[
            "request_id",
            "customer.customer_id",
            "customer.name",
            "customer.address",
            "lines[0].product_id",
            "lines[1].quantity",
            "lines[2].product_id",
            "lines[2].quantity",
            "lines[3].quantity",
            "lines[4].product_id",
            "lines[4].quantity",
            "coordination",
        ],
    );
    let status = shop.place(PlaceOrderRequest::default()).await.unwrap_err();
    refused(&status, &["customer.customer_id", "customer.name", "customer.address", "lines"]);
    let many: Vec<String> = (0..101).map(|index| format!("p-{index}")).collect();
    let many: Vec<_> = many.iter().map(|product_id| (product_id.as_str(), 1)).collect();
    refused(&shop.place(wants(&many)).await.unwrap_err(), &["lines"]);
    let unknown = shop.place(wants(&[("radio", 1), ("tv", 1), ("phone", 1)])).await.unwrap_err();
    refused(&unknown, &["lines[0].product_id", "lines[2].product_id"]);
    assert_eq!(shop.everything().await, before);
}

#[tokio::test]
async fn a_total_that_cannot_be_formed_is_refused() {
    let mut shop = Shop::open().await;
    sqlx::query(
        "update product_replicas
         set price = jsonb_build_object('currency', 'KRW', 'units', 9223372036854775807, 'nanos', 999999999)
         where product_id = 'tv'",
    )
    .execute(shop.pool())
    .await
    .unwrap();
    let before = shop.everything().await;
    refused(&shop.place(wants(&[("tv", 1_000_000)])).await.unwrap_err(), &["lines"]);
    refused(&shop.place(wants(&[("tv", 1), ("clock", 1)])).await.unwrap_err(), &["lines"]);
    assert_eq!(shop.everything().await, before);
    // One alone is just the largest amount there is.
    let order = shop.place(wants(&[("tv", 1)])).await.unwrap();
    assert_eq!(shop.order(id(&order)).await.total.unwrap().units, i64::MAX);
    shop.hears(id(&order), "ProductOutOfStock").await;
}

#[tokio::test]
async fn an_order_id_that_is_none_is_refused_and_an_unknown_one_is_not_found() {
    let shop = Shop::open().await;
    for bad in ["", "7", "a\0b", "0198c0de-7a3f-7000-8000-00000000000g"] {
        let order_id = bad.to_owned();
        let cancel = CancelOrderRequest {
            order_id: order_id.clone(),
            request_id: "\0".to_owned(),
            etag: "\0".to_owned(),
        };
        refused(&shop.cancel_with(cancel).await.unwrap_err(), &["order_id", "request_id"]);
        let get = GetOrderRequest { order_id: order_id.clone(), view: 9 };
        let status = shop.api.get_order(Request::new(get)).await.unwrap_err();
        refused(&status, &["order_id", "view"]);
        let watch = WatchOrderRequest { order_id, after_revision: -1 };
        let status = shop.api.watch_order(Request::new(watch)).await.err().unwrap();
        refused(&status, &["order_id", "after_revision"]);
    }
    let nobody = Uuid::now_v7();
    let status = shop.cancel(nobody).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "ORDER_NOT_FOUND"));
    let watch = WatchOrderRequest { order_id: nobody.to_string(), after_revision: 0 };
    let status = shop.api.watch_order(Request::new(watch)).await.err().unwrap();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn a_watch_beyond_what_there_is_is_refused_instead_of_silent() {
    let shop = Shop::open().await;
    let order_id = shop.placed().await.to_string();
    for after_revision in [2, i64::MAX] {
        let watch = WatchOrderRequest { order_id: order_id.clone(), after_revision };
        let status = shop.api.watch_order(Request::new(watch)).await.err().unwrap();
        refused(&status, &["after_revision"]);
    }
}

#[tokio::test]
async fn a_stale_etag_aborts_and_writes_nothing() {
    let mut shop = Shop::open().await;
    let order_id = shop.placed().await;
    let seen = shop.order(order_id).await;
    shop.hears(order_id, "StockReserved").await;
    // What no caller can see does not make it stale.
    assert_eq!(shop.order(order_id).await.etag, seen.etag);
    shop.hears(order_id, "DeliveryStarted").await;
    let before = shop.everything().await;
    let cancel = CancelOrderRequest {
        order_id: seen.order_id,
        request_id: "c-1".to_owned(),
        etag: seen.etag,
    };
    let status = shop.cancel_with(cancel.clone()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "STALE_ETAG"));
    assert_eq!(shop.everything().await, before);
    let etag = shop.order(order_id).await.etag;
    shop.cancel_with(CancelOrderRequest { etag, ..cancel }).await.unwrap();
}

#[tokio::test]
async fn bad_conditions_of_a_list_are_all_named() {
    let shop = Shop::open().await;
    let time = |seconds, nanos| Some(Timestamp { seconds, nanos });
    let bad = ListOrdersRequest {
        page_size: -1,
        page_token: "%%%".to_owned(),
        state: 77,
        customer_id: "a\0b".to_owned(),
        create_time_from: time(-8_000_000_000_000, 0),
        create_time_before: time(0, -1),
        pending_for: Some(Duration { seconds: -1, nanos: 0 }),
    };
    let status = shop.api.list_orders(Request::new(bad)).await.unwrap_err();
    let all = [
        "page_size",
        "state",
        "create_time_from",
        "create_time_before",
        "pending_for",
        "customer_id",
        "page_token",
    ];
    refused(&status, &all);
    for seconds in [i64::MIN, i64::MAX, 253_402_300_800, -62_135_596_801] {
        let bad = ListOrdersRequest { create_time_from: time(seconds, 0), ..Default::default() };
        let status = shop.api.list_orders(Request::new(bad)).await.unwrap_err();
        refused(&status, &["create_time_from"]);
    }
    // The first and the last of all times are fine.
    for seconds in [253_402_300_799, -62_135_596_800] {
        let good = ListOrdersRequest { create_time_from: time(seconds, 0), ..Default::default() };
        shop.api.list_orders(Request::new(good)).await.unwrap();
    }
    let bad = ListProductReplicasRequest { page_size: -1, page_token: "x".to_owned() };
    let status = shop.api.list_product_replicas(Request::new(bad)).await.unwrap_err();
    refused(&status, &["page_size", "page_token"]);
}

#[tokio::test]
async fn a_forged_page_token_is_the_callers_fault() {
    let shop = Shop::open().await;
    let question = ListProductReplicasRequest::default();
    let page_token = chassis::page_token::write(&question, "a\0b").unwrap();
    let forged = ListProductReplicasRequest { page_token, ..question };
    let status = shop.api.list_product_replicas(Request::new(forged)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_deadline_beyond_all_times_is_no_reason_to_fail() {
    let mut shop = Shop::open().await;
    for seconds in [u64::MAX, 36_000_000_000_000] {
        shop.api.deadline = std::time::Duration::from_secs(seconds);
        let order_id = shop.placed().await;
        shop.order(order_id).await;
    }
    assert_eq!(shop.api.coordination, Coordination::Choreography);
}
