//! Pages while something is away, and after it has come back.

use std::time::{Duration, Instant};

use anyhow::ensure;
use local::Part;
use proto::{orders::v1::OrderState, products::v1::AdjustStockRequest};

use super::{NOTICE, STATE};
use crate::{
    browser::{AT_A_DESK, with},
    shop::{Shop, until},
};

pub(crate) async fn products_down(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        browser.go("/").await?;
        ensure!(shop.stack.sigterm(Part::Products).await?.success());
        browser.until_text("#away", "products does not answer").await?;
        // The catalogue is orders' own by now.
        let order_id = browser.order(&product, 1).await?;
        browser.until_text(STATE, "being processed").await?;
        browser.until_text("#away", "products does not answer").await?;
        browser.until_text("#chain .banner", "products did not answer").await?;
        browser.until_text("#chain", "DeliveryStarted").await?;
        ensure!(shop.order(&order_id).await?.state() == OrderState::Pending);
        browser.mark().await?;
        shop.stack.start(Part::Products).await?;
        browser.until_text(STATE, "confirmed").await?;
        until("nobody is away", async || {
            let away = browser.text("#away").await?;
            ensure!(away.is_empty(), "{away}");
            Ok(())
        })
        .await?;
        ensure!(browser.is_still_the_same_page().await?, "the page was loaded again");
        Ok(())
    })
    .await
}

/// Everything is away but the page; then orders comes back.
pub(crate) async fn orders_down(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        browser.go("/").await?;
        ensure!(shop.stack.sigterm(Part::Orders).await?.success());
        browser.fill(&format!("#quantity-{product}"), "1").await?;
        browser.fill("#name", "홍길동").await?;
        browser.fill("#address", "서울시").await?;
        browser.press("#place").await?;
        browser.until_text(".problems", "orders does not answer").await?;
        shop.stack.start(Part::Orders).await?;
        // The form is as it was.
        browser.press("#place").await?;
        browser.ordered().await?;
        browser.until_text(STATE, "confirmed").await
    })
    .await
}

/// The page of an order is not lost on whoever asks for it too early.
pub(crate) async fn page_comes_back(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        let order_id = browser.order(&product, 1).await?;
        browser.until_text(STATE, "confirmed").await?;
        ensure!(shop.stack.sigterm(Part::Orders).await?.success());
        // Nothing is called off without orders; then its page is shown, as soon as it can be.
        browser.press("#cancel").await?;
        browser.until_text("h1", "does not answer").await?;
        ensure!(browser.path().await? == format!("/orders/{order_id}"));
        shop.stack.start(Part::Orders).await?;
        browser.until_text(STATE, "confirmed").await?;
        browser.until_text(NOTICE, "The service did not answer").await
    })
    .await
}

/// So long may open requests hold the storefront up; streams may not.
const LONGEST_DRAIN: Duration = Duration::from_secs(90);

/// A page that is open while the storefront restarts goes on by itself.
pub(crate) async fn restarted(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let limit = format!("{}s", LONGEST_DRAIN.as_secs());
    shop.stack.set_env(Part::Storefront, "DRAIN_LIMIT", limit);
    shop.restart(Part::Storefront).await?;
    let gone_on = with(&shop, [AT_A_DESK], async |[browser]| {
        let stock = format!("#product-{product} .stock");
        browser.go("/").await?;
        browser.until_text(&stock, "5 in stock").await?;
        browser.mark().await?;
        let asked = Instant::now();
        shop.restart(Part::Storefront).await?;
        ensure!(asked.elapsed() < LONGEST_DRAIN, "open streams held it up");
        let request =
            AdjustStockRequest { product_id: product.clone(), delta: 3, ..Default::default() };
        shop.products.clone().adjust_stock(request).await?;
        browser.until_text(&stock, "8 in stock").await?;
        ensure!(browser.is_still_the_same_page().await?, "the page was loaded again");
        Ok(())
    })
    .await;
    shop.stack.unset_env(Part::Storefront, "DRAIN_LIMIT");
    shop.restart(Part::Storefront).await?;
    gone_on
}
