//! Somebody who orders: what he sees of his order and of the stock, and when.

use anyhow::ensure;
use local::Part;
use proto::{
    google::r#type::Money,
    orders::v1::{ListOrdersRequest, OrderState},
    products::v1::CreateProductRequest,
};

use super::STATE;
use crate::{
    browser::{AT_A_DESK, with},
    shop::{Shop, until},
};

pub(crate) async fn pending_then_confirmed(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        browser.go("/").await?;
        // Nothing moves on from here.
        shop.stack.pause(Part::Relay)?;
        let order_id = browser.order(&product, 2).await?;
        browser.until_text(STATE, "being processed").await?;
        browser.mark().await?;
        shop.stack.resume(Part::Relay)?;
        browser.until_text(STATE, "confirmed").await?;
        ensure!(browser.is_still_the_same_page().await?, "the page was loaded again");
        ensure!(shop.order(&order_id).await?.state() == OrderState::Confirmed);
        browser.go("/orders").await?;
        browser.until_text(&format!("#order-{order_id} .badge"), "confirmed").await?;
        browser.until_text(&format!("#order-{order_id} .goods"), "Thing × 2").await
    })
    .await
}

pub(crate) async fn list_moves(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        shop.stack.pause(Part::Relay)?;
        let order_id = browser.order(&product, 1).await?;
        browser.go("/orders").await?;
        let state = format!("#order-{order_id} .badge");
        browser.until_text(&state, "being processed").await?;
        browser.mark().await?;
        shop.stack.resume(Part::Relay)?;
        browser.until_text(&state, "confirmed").await?;
        ensure!(browser.is_still_the_same_page().await?, "the page was loaded again");
        Ok(())
    })
    .await
}

pub(crate) async fn cancel(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK, AT_A_DESK], async |[customer, other]| {
        let stock = format!("#product-{product} .stock");
        other.go("/").await?;
        other.until_text(&stock, "5 in stock").await?;
        customer.order(&product, 2).await?;
        customer.until_text(STATE, "confirmed").await?;
        other.until_text(&stock, "3 in stock").await?;
        customer.press("#cancel").await?;
        customer.until_text(STATE, "cancelled").await?;
        customer.until_text("#card .why", "You cancelled it.").await?;
        ensure!(customer.count("#cancel").await? == 0, "what is cancelled cannot be cancelled");
        other.until_text(&stock, "5 in stock").await
    })
    .await
}

pub(crate) async fn too_much(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        browser.order(&product, 6).await?;
        browser.until_text(STATE, "cancelled").await?;
        browser.until_text("#card .why", "There was not enough stock.").await?;
        browser.until_text("#chain", "ProductOutOfStock").await?;
        ensure!(shop.stock(&product).await? == 5);
        Ok(())
    })
    .await
}

pub(crate) async fn two_browsers(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(9).await?;
    with(&shop, [AT_A_DESK, AT_A_DESK], async |[one, other]| {
        let stock = format!("#product-{product} .stock");
        one.go("/").await?;
        one.mark().await?;
        other.order(&product, 2).await?;
        one.until_text(&stock, "7 in stock").await?;
        ensure!(one.is_still_the_same_page().await?, "the page was loaded again");
        other.go("/").await?;
        other.mark().await?;
        one.order(&product, 7).await?;
        other.until_text(&stock, "sold out").await?;
        ensure!(other.is_still_the_same_page().await?, "the page was loaded again");
        // Each has his own orders, and nobody sees another's.
        let order_id = one.ordered().await?;
        other.go(&format!("/orders/{order_id}")).await?;
        other.until_text("h1", "There is no such page.").await
    })
    .await
}

const HOSTILE: &str = "<img src=x onerror=\"window.hurt=1\"><script>window.hurt=1</script>'\"&amp;";

pub(crate) async fn hostile(shop: Shop) -> anyhow::Result<()> {
    let product_id = format!("p-{}", uuid::Uuid::now_v7().simple());
    let request = CreateProductRequest {
        product_id: product_id.clone(),
        name: HOSTILE.to_owned(),
        price: Some(Money { currency_code: "KRW".to_owned(), units: 1, nanos: 0 }),
        stock: 5,
        ..Default::default()
    };
    shop.products.clone().create_product(request).await?;
    shop.until_replica(&product_id, 5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        let order_id = browser.order_for(&product_id, 1, HOSTILE, HOSTILE).await?;
        // As it was rendered first, and as it came live.
        for _ in 0..2 {
            for css in ["#customer-name", "#customer-address"] {
                until(&format!("{css} is what was written"), async || {
                    let text = browser.text(css).await?;
                    ensure!(text == HOSTILE, "it says {text:?}");
                    Ok(())
                })
                .await?;
            }
            browser.until_text("#card tbody", HOSTILE).await?;
            browser.until_text(STATE, "confirmed").await?;
        }
        browser.go("/operator").await?;
        browser.until_text(&format!("#parcel-{order_id}"), HOSTILE).await?;
        browser.go("/").await?;
        browser.until_text(&format!("#name-{product_id}"), HOSTILE).await?;
        for page in ["/", "/orders", "/operator", &format!("/orders/{order_id}")] {
            browser.go(page).await?;
            let hurt = browser.ask(
                "return [!!window.hurt, document.querySelectorAll('main script, img').length]",
            );
            ensure!(hurt.await? == serde_json::json!([false, 0]), "{page}");
        }
        // And if it had got in: no eval, no script of another place.
        let run = "const it = document.createElement('script'); it.textContent = 'window.hurt = 1';
                   document.body.append(it); return !!window.hurt";
        ensure!(browser.ask(run).await? == false, "an inline script was run");
        Ok(())
    })
    .await
}

pub(crate) async fn double_click(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        browser.go("/").await?;
        browser.fill(&format!("#quantity-{product}"), "1").await?;
        browser.fill("#name", "홍길동").await?;
        browser.fill("#address", "서울시").await?;
        let twice = "const form = document.querySelector('form.order');
            const send = () => fetch('/orders', {method: 'POST', body: new URLSearchParams(new FormData(form))});
            window.sent = Promise.all([send(), send()]).then(() => { window.done = true; });";
        browser.ask(twice).await?;
        until("both are answered", async || {
            ensure!(browser.ask("return window.done === true").await? == true);
            Ok(())
        })
        .await?;
        let question =
            ListOrdersRequest { customer_id: browser.customer().await?, ..Default::default() };
        let orders = shop.orders.clone().list_orders(question).await?.into_inner().orders;
        ensure!(orders.len() == 1, "{orders:?}");
        Ok(())
    })
    .await
}
