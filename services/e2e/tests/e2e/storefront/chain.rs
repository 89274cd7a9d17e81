//! What caused what, as the page of an order draws it, and where it leads.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use local::{Part, SERVICES};
use proto::operations::v1::GetTrailRequest;
use serde_json::json;

use super::STATE;
use crate::{
    browser::{AT_A_DESK, with},
    shop::{Shop, until},
    traces::{CONFIRMED, check_attributes},
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

/// One link for every trace that an order has left, where somebody shows traces.
pub(crate) async fn links(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let led = with(&shop, [AT_A_DESK], async |[browser]| {
        let order_id = browser.order(&product, 1).await?;
        browser.until_text(STATE, "confirmed").await?;
        browser.press("#cancel").await?;
        browser.until_text(STATE, "cancelled").await?;
        browser.until_text("#chain", "CancelOrder").await?;
        ensure!(browser.ask(LINKS).await? == json!([]), "nobody shows traces here");
        shop.stack.set_env(Part::Storefront, "SETTLE_JAEGER_URL", "https://jaeger.example/");
        shop.restart(Part::Storefront).await?;
        browser.go(&format!("/orders/{order_id}")).await?;
        let traces = traces_of(&shop, &order_id).await?;
        ensure!(traces.len() == 2, "the order and its cancellation are not {traces:?}");
        let wanted = traces.iter().map(|id| format!("https://jaeger.example/trace/{id}"));
        let wanted = json!(wanted.collect::<Vec<_>>());
        until("every trace has its link", async || {
            let links = browser.ask(LINKS).await?;
            ensure!(links == wanted, "they are {links}");
            Ok(())
        })
        .await?;
        for trace_id in traces {
            shop.until_spans(&trace_id).await?;
        }
        Ok(())
    })
    .await;
    shop.stack.unset_env(Part::Storefront, "SETTLE_JAEGER_URL");
    shop.restart(Part::Storefront).await?;
    led
}

const LINKS: &str =
    "return [...document.querySelectorAll('#chain a[rel=noreferrer]')].map(it => it.href).sort()";

/// The traces that the services' trails name.
async fn traces_of(shop: &Shop, order_id: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut traces = BTreeSet::new();
    for part in SERVICES {
        let question = GetTrailRequest { order_id: order_id.to_owned() };
        let trail = shop.operations(part)?.get_trail(question).await?.into_inner().entries;
        traces.extend(trail.into_iter().map(|entry| entry.trace_id).filter(|id| !id.is_empty()));
    }
    Ok(traces)
}

/// The form that a browser sends is where it all begins.
pub(crate) async fn traced(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        let order_id = browser.order(&product, 1).await?;
        browser.until_text(STATE, "confirmed").await?;
        let traces = traces_of(&shop, &order_id).await?;
        let trace_id = traces.first().context("a trace")?;
        ensure!(traces.len() == 1, "one order, one trace: {traces:?}");
        let below_the_page = CONFIRMED.map(|text| {
            let call = text.lines().map(|line| format!("    {line}\n")).collect::<String>();
            format!(
                "storefront: POST /orders SERVER\n  \
                 storefront: shop.orders.v1.OrderService/PlaceOrder CLIENT\n{call}"
            )
        });
        let expected = below_the_page.each_ref().map(String::as_str);
        let spans = shop.until_trace(trace_id, &expected).await?;
        let (page, rest): (Vec<_>, Vec<_>) =
            spans.into_iter().partition(|span| span.service == "storefront");
        check_attributes(&rest, &order_id)?;
        for (name, value) in [
            ("http.route", "/orders"),
            ("http.response.status_code", "303"),
            ("rpc.response.status_code", "OK"),
        ] {
            ensure!(page.iter().any(|span| span.attribute(name) == value), "{name} of {page:#?}");
        }
        Ok(())
    })
    .await
}
