//! Bad input gets the right code, hears of every violation, and changes nothing.

use anyhow::Context as _;
use local::Part;
use proto::{
    delivery::v1::{
        CompleteDeliveryRequest, DeliveryState, DispatchDeliveryRequest, GetDeliveryRequest,
    },
    google::r#type::Money,
    orders::v1::{
        CancelOrderRequest, Customer, GetOrderRequest, ListOrdersRequest, OrderState,
        PlaceOrderLine, PlaceOrderRequest,
    },
    products::v1::CreateProductRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    held::{Held, Hold},
    shop::{Shop, request},
};

pub(crate) async fn violations(shop: Shop) -> anyhow::Result<()> {
    let before = counts(&shop).await?;
    let line =
        |product_id: &str, quantity| PlaceOrderLine { product_id: product_id.to_owned(), quantity };
    let worst = PlaceOrderRequest {
        request_id: "not allowed: a space".to_owned(),
        customer: Some(Customer {
            customer_id: String::new(),
            name: "\u{0}".to_owned(),
            address: "x".repeat(501),
        }),
        lines: vec![line("tv", 0), line("tv", -1), line("TV!", 2_000_000)],
        coordination: 77,
    };
    let refused = shop.place_request(worst).await.expect_err("everything is wrong with it");
    let named = fields(&refused)?;
    let all = [
        "request_id",
        "customer.customer_id",
        "customer.name",
        "customer.address",
        "lines[0].quantity",
        "lines[1].product_id",
        "lines[1].quantity",
        "lines[2].product_id",
        "lines[2].quantity",
        "coordination",
    ];
    assert_eq!(named, all);

    let empty = shop.place_request(request(&[])).await.expect_err("no lines");
    assert_eq!(fields(&empty)?, ["lines"]);
    let unknown = shop.place("no-such-product", 1).await.expect_err("an unknown product");
    assert_eq!(fields(&unknown)?, ["lines[0].product_id"]);

    let mut orders = shop.orders.clone();
    let bad_id = GetOrderRequest { order_id: "7".to_owned(), ..Default::default() };
    assert_eq!(fields(&orders.get_order(bad_id).await.expect_err("a bad id"))?, ["order_id"]);
    let nobody =
        GetOrderRequest { order_id: uuid::Uuid::now_v7().to_string(), ..Default::default() };
    assert_eq!(orders.get_order(nobody).await.expect_err("an unknown id").code(), Code::NotFound);
    let token = ListOrdersRequest {
        page_token: "nonsense".to_owned(),
        page_size: -1,
        ..Default::default()
    };
    assert_eq!(
        fields(&orders.list_orders(token).await.expect_err("a bad token"))?,
        ["page_size", "page_token"]
    );

    let huge = request(&[("tv", 1)]);
    let huge = PlaceOrderRequest { request_id: "x".repeat(2 << 20), ..huge };
    assert_eq!(
        shop.place_request(huge).await.expect_err("two megabytes").code(),
        Code::ResourceExhausted
    );

    let product = CreateProductRequest {
        product_id: "No Good".to_owned(),
        price: Some(Money { currency_code: "won".to_owned(), units: -1, nanos: 0 }),
        stock: -1,
        ..Default::default()
    };
    let refused = shop
        .products
        .clone()
        .create_product(product)
        .await
        .expect_err("everything is wrong with it");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(fields(&refused)?.len() >= 4, "{refused:?}");
    assert_eq!(counts(&shop).await?, before, "something was written");
    Ok(())
}

pub(crate) async fn forbidden(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(3).await?;
    let order = shop.place(&product, 1).await?;
    let confirmed = shop.until_order(&order.order_id, OrderState::Confirmed).await?;

    let stale = CancelOrderRequest {
        order_id: order.order_id.clone(),
        etag: order.etag,
        ..Default::default()
    };
    let refused =
        shop.orders.clone().cancel_order(stale).await.expect_err("the order has moved on");
    assert_eq!((refused.code(), reason(&refused)?.as_str()), (Code::Aborted, "STALE_ETAG"));
    assert_eq!(shop.order(&order.order_id).await?.revision, confirmed.revision);

    let too_early =
        CompleteDeliveryRequest { order_id: order.order_id.clone(), ..Default::default() };
    let refused =
        shop.delivery.clone().complete_delivery(too_early).await.expect_err("not dispatched");
    assert_eq!(refused.code(), Code::FailedPrecondition);

    // An order that nobody confirmed cannot be dispatched.
    let orders = Held::new(&shop, Part::Orders, Hold::Deaf).await?;
    let unconfirmed = shop.place(&product, 1).await?;
    shop.until_delivery(&unconfirmed.order_id, DeliveryState::Started).await?;
    let dispatch =
        DispatchDeliveryRequest { order_id: unconfirmed.order_id.clone(), ..Default::default() };
    let refused =
        shop.delivery.clone().dispatch_delivery(dispatch).await.expect_err("not confirmed");
    assert_eq!(
        (refused.code(), reason(&refused)?.as_str()),
        (Code::FailedPrecondition, "DELIVERY_NOT_READY")
    );
    orders.let_go().await?;
    shop.until_order(&unconfirmed.order_id, OrderState::Confirmed).await?;

    let nobody = GetDeliveryRequest { order_id: uuid::Uuid::now_v7().to_string() };
    let refused = shop.delivery.clone().get_delivery(nobody).await.expect_err("no such delivery");
    assert_eq!(refused.code(), Code::NotFound);
    Ok(())
}

fn fields(status: &Status) -> anyhow::Result<Vec<String>> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_details_bad_request().context("no BadRequest in the error")?;
    Ok(details.field_violations.into_iter().map(|violation| violation.field).collect())
}

fn reason(status: &Status) -> anyhow::Result<String> {
    Ok(status.get_details_error_info().context("no ErrorInfo in the error")?.reason)
}

/// Rows of everything that calls write; stable while no scenario has anything under way.
async fn counts(shop: &Shop) -> anyhow::Result<[i64; 4]> {
    let count = async |part, table: &'static str| -> anyhow::Result<i64> {
        let pool = shop.database(part).await?;
        Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(&pool)
            .await?)
    };
    Ok([
        count(Part::Orders, "orders").await?,
        count(Part::Orders, "messaging.requests").await?,
        count(Part::Products, "products").await?,
        count(Part::Products, "messaging.requests").await?,
    ])
}
