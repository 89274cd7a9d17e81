//! Consistency or availability: the stock checked before an order is accepted, or not.

use anyhow::Context as _;
use local::Part;
use proto::orders::v1::OrderState;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    shop::{Shop, request},
    traces,
};

pub(crate) async fn live(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(3).await?;
    restart_with(&shop, "live").await?;
    let (trace_id, order) = shop.place_traced(request(&[(&product, 1)])).await?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    traces::shows_the_check(&shop, &trace_id, &order.order_id, None).await?;
    let short = shop.place(&product, 3).await.expect_err("only two are left");
    assert_eq!(short.get_details_error_info().context("error info")?.reason, "OUT_OF_STOCK");

    let accepted = request(&[(&product, 1)]);
    let before = shop.place_request(accepted.clone()).await?;
    shop.until_order(&before.order_id, OrderState::Confirmed).await?;
    shop.stack.sigterm(Part::Products).await?;
    let orders = order_rows(&shop).await?;
    let refused = shop.place(&product, 1).await.expect_err("products is down");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.get_details_retry_info().is_some(), "{refused:?}");
    let trace_id = traces::trace_id(refused.metadata())?;
    traces::shows_the_check(&shop, &trace_id, "", Some("UNAVAILABLE")).await?;
    traces::is_in_the_log(&shop, Part::Orders, "products could not be asked", &trace_id).await?;
    assert_eq!(order_rows(&shop).await?, orders, "an order row was written");
    // What was accepted before is still answered.
    assert_eq!(shop.place_request(accepted).await?.order_id, before.order_id);

    shop.stack.start(Part::Products).await?;
    let last = shop.place(&product, 1).await?;
    shop.until_order(&last.order_id, OrderState::Confirmed).await?;
    restart_with(&shop, "none").await
}

pub(crate) async fn replica(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(3).await?;
    restart_with(&shop, "replica").await?;
    let orders = order_rows(&shop).await?;
    let refused = shop.place(&product, 4).await.expect_err("only three are known of");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.get_details_error_info().context("error info")?.reason, "OUT_OF_STOCK");
    assert_eq!(order_rows(&shop).await?, orders, "an order row was written");
    let order = shop.place(&product, 3).await?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    restart_with(&shop, "none").await
}

async fn restart_with(shop: &Shop, check: &str) -> anyhow::Result<()> {
    shop.stack.set_env(Part::Orders, "ORDERS_STOCK_CHECK", check);
    shop.restart(Part::Orders).await
}

async fn order_rows(shop: &Shop) -> anyhow::Result<i64> {
    let pool = shop.database(Part::Orders).await?;
    Ok(sqlx::query_scalar("select count(*) from orders").fetch_one(&pool).await?)
}
