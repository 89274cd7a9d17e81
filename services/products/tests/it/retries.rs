//! A request_id makes a call safe to repeat, and calls at the same time do not lose each other's changes.

use std::sync::Arc;

use proto::products::v1::{AdjustStockRequest, CreateProductRequest, UpdateProductRequest};
use tokio::{sync::Barrier, task::JoinSet};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    calls::{adjust, create, delta, tv, update},
    shop::Shop,
};

fn once(product_id: &str, by: i64) -> AdjustStockRequest {
    AdjustStockRequest { request_id: "r-1".to_owned(), ..delta(product_id, by) }
}

#[tokio::test]
async fn a_repeated_creation_answers_the_product_as_it_is_now() {
    let shop = Shop::open(&[]).await;
    let anonymous =
        CreateProductRequest { request_id: "r-1".to_owned(), product_id: String::new(), ..tv() };
    let created = create(&shop.api, anonymous.clone()).await.unwrap();
    adjust(&shop.api, delta(&created.product_id, -4)).await.unwrap();
    let repeated = create(&shop.api, anonymous).await.unwrap();
    assert_eq!((repeated.product_id, repeated.stock), (created.product_id, 6));
    assert_eq!(shop.database.emitted().await, ["ProductChanged", "ProductChanged"]);
}

#[tokio::test]
async fn a_repeated_change_is_made_once() {
    let shop = Shop::open(&[("tv", 10)]).await;
    for _ in 0..3 {
        assert_eq!(adjust(&shop.api, once("tv", -4)).await.unwrap().stock, 6);
    }
    let change = UpdateProductRequest {
        request_id: "r-2".to_owned(),
        product_id: "tv".to_owned(),
        etag: "v2".to_owned(),
        name: Some("Television".to_owned()),
        ..UpdateProductRequest::default()
    };
    // The etag was right when the change was made; that it is stale now does not undo it.
    for _ in 0..3 {
        let changed = update(&shop.api, change.clone()).await.unwrap();
        assert_eq!((changed.name.as_str(), changed.version), ("Television", 3));
    }
    assert_eq!(shop.database.emitted().await, ["ProductChanged", "ProductChanged"]);
}

#[tokio::test]
async fn a_request_id_belongs_to_one_request() {
    let shop = Shop::open(&[("tv", 10), ("clock", 10)]).await;
    adjust(&shop.api, once("tv", -4)).await.unwrap();
    let before = shop.tables().await;
    let change = UpdateProductRequest {
        request_id: "r-1".to_owned(),
        product_id: "tv".to_owned(),
        name: Some("Television".to_owned()),
        ..UpdateProductRequest::default()
    };
    let refusals = [
        adjust(&shop.api, once("tv", -5)).await.unwrap_err(),
        adjust(&shop.api, once("clock", -4)).await.unwrap_err(),
        update(&shop.api, change).await.unwrap_err(),
    ];
    for status in refusals {
        assert_eq!(status.code(), Code::AlreadyExists);
        assert_eq!(status.get_details_error_info().unwrap().reason, "REQUEST_ID_REUSED");
    }
    assert_eq!(shop.tables().await, before);
    assert_eq!(shop.database.emitted().await, ["ProductChanged"]);
}

#[tokio::test]
async fn a_refused_request_may_be_repeated_when_it_can_succeed() {
    let shop = Shop::open(&[("tv", 3)]).await;
    let refused = adjust(&shop.api, once("tv", -4)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    adjust(&shop.api, delta("tv", 1)).await.unwrap();
    assert_eq!(adjust(&shop.api, once("tv", -4)).await.unwrap().stock, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_request_many_times_at_once_is_made_once() {
    let shop = Shop::open(&[("tv", 100)]).await;
    let answers = at_once(&shop, 8, |_| once("tv", -4)).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap() == 96));
    assert_eq!(shop.database.emitted().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_at_the_same_time_all_count_and_never_take_what_is_not_there() {
    let shop = Shop::open(&[("tv", 20)]).await;
    let answers = at_once(&shop, 32, |_| delta("tv", -1)).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((taken.len(), refused.len()), (20, 12));
    assert!(refused.into_iter().all(|it| it.unwrap_err() == Code::FailedPrecondition));
    assert_eq!(shop.stock("tv").await, 0);
    // Every version was told once, in order.
    let versions: Vec<String> = shop
        .told()
        .await
        .iter()
        .map(|(_, _, payload, ..)| payload["version"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(versions, (2..=21).map(|version| version.to_string()).collect::<Vec<_>>());
}

/// The stock that each of so many calls at the same time answers.
async fn at_once(
    shop: &Shop,
    count: usize,
    request: impl Fn(usize) -> AdjustStockRequest,
) -> Vec<Result<i64, Code>> {
    let start = Arc::new(Barrier::new(count));
    let mut calls = JoinSet::new();
    for index in 0..count {
        let (api, start, request) = (shop.api.clone(), start.clone(), request(index));
        calls.spawn(async move {
            start.wait().await;
            adjust(&api, request).await.map(|it| it.stock).map_err(|status| status.code())
        });
    }
    calls.join_all().await
}
