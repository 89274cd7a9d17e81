//! Whether the stock is checked first: not at all, with what orders knows, or with products itself.

use orders::config::StockCheck;
use proto::orders::v1::PlaceOrderRequest;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::shop::{Shop, reason, wants};

#[tokio::test]
async fn without_a_check_every_order_is_accepted() {
    let shop = Shop::open().await;
    shop.place(wants(&[("tv", 11)])).await.unwrap();
}

#[tokio::test]
async fn a_shortage_that_the_replica_knows_is_refused_and_nothing_is_written() {
    let mut shop = Shop::checking(StockCheck::Replica, "http://127.0.0.1:1").await;
    let before = shop.everything().await;
    let request =
        PlaceOrderRequest { request_id: "r-1".to_owned(), ..wants(&[("clock", 1), ("tv", 11)]) };
    let status = shop.place(request.clone()).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "OUT_OF_STOCK")
    );
    assert!(status.get_details_precondition_failure().is_some());
    assert_eq!(shop.everything().await, before);
    // It did not use its request_id up: when the stock is back, the same request is accepted.
    let change = shop.others.product("tv", 11, 2);
    shop.hear(&[change]).await;
    shop.place(request).await.unwrap();
    shop.place(wants(&[("tv", 11)])).await.unwrap();
}

#[tokio::test]
async fn a_live_check_without_products_is_unavailable_and_nothing_is_written() {
    // Nobody listens there.
    let shop = Shop::checking(StockCheck::Live, "http://127.0.0.1:1").await;
    let before = shop.everything().await;
    for request_id in ["", "r-1"] {
        let request =
            PlaceOrderRequest { request_id: request_id.to_owned(), ..wants(&[("tv", 1)]) };
        let status = shop.place(request).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unavailable, "PRODUCTS_UNAVAILABLE")
        );
        assert!(status.get_details_retry_info().is_some());
    }
    assert_eq!(shop.everything().await, before);
}
