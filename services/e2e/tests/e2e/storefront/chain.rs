//! What caused what, as the page of an order draws it.

use anyhow::ensure;

use super::STATE;
use crate::{
    browser::{AT_A_DESK, with},
    shop::{Shop, until},
};

pub(crate) async fn causes(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        browser.order(&product, 1).await?;
        browser.until_text("#chain", "OrderConfirmed").await?;
        until("delivery has heard of it all", async || {
            let told = browser.ask(TREE).await?;
            let told = told.as_array().map(Vec::len).unwrap_or_default();
            ensure!(told >= 6, "{told} are told of");
            let unseen = browser.text("#chain").await?;
            ensure!(!unseen.contains("emitted, not seen"), "{unseen}");
            Ok(())
        })
        .await?;
        let told = browser.ask(TREE).await?;
        let mut hops: Vec<String> = serde_json::from_value(told)?;
        hops.sort();
        let confirmed_by = hops.iter().find(|hop| hop.ends_with("-> OrderConfirmed")).cloned();
        let confirmed_by = confirmed_by.unwrap_or_default();
        ensure!(
            ["StockReserved", "DeliveryStarted"].iter().any(|it| confirmed_by.starts_with(it)),
            "{hops:?}"
        );
        for hop in [
            "call PlaceOrder orders applied -> OrderPlaced",
            "OrderPlaced products applied -> StockReserved",
            "OrderPlaced products applied -> ProductChanged",
            "OrderPlaced delivery applied -> DeliveryStarted",
            "OrderConfirmed delivery applied",
        ] {
            ensure!(hops.iter().any(|it| it == hop), "{hop} is missing in {hops:?}");
        }
        // Every hop is drawn with what it waited for.
        let drawn =
            browser.ask("return document.querySelectorAll('#chain svg title')[0].textContent");
        let drawn = drawn.await?;
        ensure!(
            drawn.as_str().is_some_and(|it| it.contains("waited") && it.contains("ms")),
            "{drawn}"
        );
        Ok(())
    })
    .await
}

/// Each step of the picture as: the event above it, who handled it and how, the event below it.
const TREE: &str = r"
    const own = (item, css) => item.querySelector(':scope > .line ' + css)?.textContent.trim();
    const hops = [];
    for (const step of document.querySelectorAll('#chain .step')) {
        const above = step.parentElement.closest('.emitted');
        const name = above ? own(above, '.event') : own(step, '.event');
        const hop = [name, own(step, '.service'), own(step, '.outcome')].join(' ');
        const below = step.querySelectorAll(':scope > ul > .emitted');
        if (below.length === 0) hops.push(hop);
        for (const event of below) hops.push(hop + ' -> ' + own(event, '.event'));
    }
    return hops;
";

pub(crate) async fn orchestrated(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        browser.go("/").await?;
        browser.touch("#coordination option[value=orchestration]").await?;
        browser.fill(&format!("#quantity-{product}"), "1").await?;
        browser.fill("#name", "홍길동").await?;
        browser.fill("#address", "서울시").await?;
        browser.press("#place").await?;
        browser.ordered().await?;
        browser.until_text(STATE, "confirmed").await?;
        browser.until_text("#chain h3", "FULFILLING").await?;
        for step in ["ReserveStock", "StartDelivery", "ConfirmOrder", "ReadyDelivery"] {
            browser.until_text("#chain .saga", step).await?;
        }
        browser.until_text("#chain .saga", "answered by StockReserved").await
    })
    .await
}
