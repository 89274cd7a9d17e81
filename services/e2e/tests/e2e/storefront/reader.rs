//! Whoever reads the pages in his own way: without JavaScript, by keyboard, in Korean, on a phone, in the dark.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use proto::{orders::v1::OrderState, products::v1::AdjustStockRequest};

use super::STATE;
use crate::{
    browser::{AT_A_DESK, Visitor, with},
    shop::{Shop, until},
};

pub(crate) async fn without_javascript(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let plain = Visitor { javascript: false, ..AT_A_DESK };
    with(&shop, [plain], async |[browser]| {
        let order_id = browser.order(&product, 1).await?;
        shop.until_order(&order_id, OrderState::Confirmed).await?;
        browser.reload().await?;
        browser.until_text(STATE, "confirmed").await?;
        browser.press("#cancel").await?;
        shop.until_order(&order_id, OrderState::Cancelled).await?;
        browser.reload().await?;
        browser.until_text(STATE, "cancelled").await
    })
    .await
}

pub(crate) async fn korean_by_keyboard(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let korean = Visitor { language: "ko", ..AT_A_DESK };
    with(&shop, [korean], async |[browser]| {
        browser.go("/").await?;
        browser.until_text("h1", "상품").await?;
        browser.ask(&format!("document.querySelector('#quantity-{product}').focus()")).await?;
        let (tab, enter) = ("\u{e004}", "\u{e007}");
        // In place of what is there.
        let (control, released) = ("\u{e009}", "\u{e000}");
        browser.keys(&format!("{control}a{released}1")).await?;
        // On to the form's end, past the other products.
        until("the name has the focus", async || {
            browser.keys(tab).await?;
            let focused = browser.ask("return document.activeElement.id").await?;
            ensure!(focused == "name", "{focused}");
            Ok(())
        })
        .await?;
        browser.keys(&format!("홍길동{tab}")).await?;
        browser.keys(&format!("서울시{tab}")).await?;
        browser.keys(tab).await?;
        let seen = "const it = getComputedStyle(document.activeElement);
                    return [document.activeElement.id, it.outlineStyle !== 'none']";
        ensure!(browser.ask(seen).await? == serde_json::json!(["place", true]), "no focus is seen");
        browser.keys(enter).await?;
        browser.ordered().await?;
        browser.until_text(STATE, "확정됨").await?;
        browser.until_text("#chain", "주문이 발생함").await?;
        browser.until_text("#chain", "배송이 시작됨").await?;
        browser.press(".language").await?;
        browser.until_text(STATE, "confirmed").await?;
        browser.go("/orders").await?;
        browser.until_text("h1", "My orders").await
    })
    .await
}

/// Browsers open six connections to a site; what was left must not hold one.
pub(crate) async fn wanderer(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        let order_id = browser.order(&product, 1).await?;
        for page in pages(&order_id).iter().cycle().take(13) {
            let shown = tokio::time::timeout(KEPT_WAITING, browser.go(page)).await;
            shown.with_context(|| format!("{page} waits for the pages before"))??;
        }
        let stock = format!("#product-{product} .stock");
        browser.until_text(&stock, "4 in stock").await?;
        // Whoever comes back finds the page alive.
        browser.go("/orders").await?;
        browser.back().await?;
        let more = AdjustStockRequest { product_id: product, delta: 3, ..Default::default() };
        shop.products.clone().adjust_stock(more).await?;
        browser.until_text(&stock, "7 in stock").await
    })
    .await
}

/// A browser gives up a page that it keeps, and its connection, after a minute or so.
const KEPT_WAITING: Duration = Duration::from_secs(40);

/// What a screen reader and a phone need.
pub(crate) async fn readable(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let phone = Visitor { size: (390, 844), ..AT_A_DESK };
    with(&shop, [phone], async |[browser]| {
        let order_id = browser.order(&product, 1).await?;
        browser.until_text("#chain", "OrderConfirmed").await?;
        for page in pages(&order_id) {
            let page = page.as_str();
            browser.go(page).await?;
            let found = browser.ask(FAULTS).await?;
            ensure!(found == serde_json::json!([]), "{page}: {found}");
        }
        browser.go(&format!("/orders/{order_id}")).await?;
        ensure!(browser.count("#card[aria-live=polite]").await? == 1, "changes are announced");
        Ok(())
    })
    .await
}

const FAULTS: &str = r"
    const faults = [];
    const root = document.documentElement;
    // What a phone shows grows with what is too wide; the width that it lays out does not.
    if (root.scrollWidth > root.clientWidth) faults.push('wider than the screen');
    if (!root.lang) faults.push('no language');
    if (document.querySelectorAll('h1').length !== 1) faults.push('not one h1');
    for (const field of document.querySelectorAll('input:not([type=hidden]), select, textarea'))
        if (field.labels.length === 0) faults.push('no label: ' + field.name);
    for (const element of document.querySelectorAll('a, button'))
        if (!element.textContent.trim()) faults.push('no name: ' + element.outerHTML);
    if (document.querySelector('[style], style, [onclick]')) faults.push('something inline');
    const ids = [...document.querySelectorAll('[id]')].map(it => it.id);
    if (new Set(ids).size !== ids.length) faults.push('an id twice');
    return faults;
";

fn pages(order_id: &str) -> [String; 4] {
    ["/".to_owned(), "/orders".to_owned(), "/operator".to_owned(), format!("/orders/{order_id}")]
}

/// Text stands out from what is behind it, by day and by night.
pub(crate) async fn dark(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        browser.order(&product, 9).await?;
        browser.until_text(STATE, "cancelled").await?;
        let order_id = browser.order(&product, 1).await?;
        browser.until_text(STATE, "confirmed").await?;
        for is_dark in [false, true] {
            if is_dark {
                browser.darken().await?;
            }
            let scheme = "return matchMedia('(prefers-color-scheme: dark)').matches";
            ensure!(browser.ask(scheme).await? == is_dark, "the scheme is not as it was set");
            for page in pages(&order_id) {
                browser.go(&page).await?;
                let faint = browser.ask(FAINT).await?;
                ensure!(faint == serde_json::json!([]), "{page}: {faint}");
            }
        }
        Ok(())
    })
    .await
}

/// Texts whose contrast is below 4.5:1.
const FAINT: &str = r"
    const channels = colour => colour.match(/[\d.]+/g).map(Number);
    const light = it => it <= .04045 ? it / 12.92 : ((it + .055) / 1.055) ** 2.4;
    const luminance = colour => {
        const [red, green, blue] = channels(colour).map(it => light(it / 255));
        return .2126 * red + .7152 * green + .0722 * blue;
    };
    const ground = element => {
        for (let it = element; it; it = it.parentElement) {
            const colour = getComputedStyle(it).backgroundColor;
            if (channels(colour)[3] !== 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    const faint = [];
    for (const element of document.querySelectorAll('body *')) {
        if (![...element.childNodes].some(it => it.nodeType === 3 && it.data.trim())) continue;
        const two = [getComputedStyle(element).color, ground(element)].map(luminance);
        const contrast = (Math.max(...two) + .05) / (Math.min(...two) + .05);
        if (contrast < 4.5) faint.push(contrast.toFixed(2) + ' ' + element.outerHTML);
    }
    return faint;
";
