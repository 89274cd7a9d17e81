//! The storefront in a real browser: what its visitors see, and when.

use std::time::{Duration, Instant};

use anyhow::ensure;
use local::Part;
use proto::{
    delivery::v1::DeliveryState,
    google::r#type::Money,
    orders::v1::{ListOrdersRequest, OrderState},
    products::v1::{AdjustStockRequest, CreateProductRequest},
};

use crate::{
    browser::{AT_A_DESK, Browser, Visitor, with},
    shop::{Shop, until},
};

const STATE: &str = "#card .standing .badge";

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
        browser.press("#coordination option[value=orchestration]").await?;
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
            browser.until_text("#customer-name", HOSTILE).await?;
            browser.until_text("#customer-address", HOSTILE).await?;
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

/// What a screen reader and a phone need.
pub(crate) async fn readable(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let phone = Visitor { size: (390, 844), ..AT_A_DESK };
    with(&shop, [phone], async |[browser]| {
        let order_id = browser.order(&product, 1).await?;
        browser.until_text("#chain", "OrderConfirmed").await?;
        for page in ["/", "/orders", "/operator", &format!("/orders/{order_id}")] {
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
    if (root.scrollWidth > window.innerWidth) faults.push('wider than the screen');
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

pub(crate) async fn warehouse(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK, AT_A_DESK], async |[customer, operator]| {
        let order_id = customer.order(&product, 1).await?;
        customer.until_text(STATE, "confirmed").await?;
        operator.go("/operator").await?;
        operator.press(&format!("#parcel-{order_id} form[action$=dispatch] button")).await?;
        shop.until_delivery(&order_id, DeliveryState::Dispatched).await?;
        // Too late to cancel; the page says so by itself.
        customer.press("#cancel").await?;
        customer.until_text("#card", "The cancellation was refused").await?;
        operator.press(&format!("#parcel-{order_id} form[action$=complete] button")).await?;
        customer.until_text(STATE, "delivered").await
    })
    .await
}

pub(crate) async fn switches(shop: Shop) -> anyhow::Result<()> {
    with(&shop, [AT_A_DESK], async |[operator]| {
        operator.go("/operator").await?;
        operator.until_text("#services", "products").await?;
        ensure!(operator.count("#switches button").await? == 0, "no switches without --demo");
        Ok(())
    })
    .await?;
    let demonstrating = [Part::Products, Part::Delivery];
    for part in demonstrating {
        shop.stack.set_env(part, "DEMO", "true");
        ensure!(shop.stack.sigterm(part).await?.success());
        shop.stack.start(part).await?;
    }
    let product = shop.product(5).await?;
    let shown = with(&shop, [AT_A_DESK, AT_A_DESK], async |[operator, customer]| {
        let (consume, refuse) = ("#switch-products-consume", "#switch-delivery-refuse");
        turn(operator, consume, "off").await?;
        let waiting = customer.order(&product, 1).await?;
        customer.until_text(STATE, "being processed").await?;
        operator.until_there(&format!("#unsettled a[href$='{waiting}']")).await?;
        turn(operator, consume, "on").await?;
        customer.until_text(STATE, "confirmed").await?;
        turn(operator, refuse, "on").await?;
        customer.order(&product, 1).await?;
        customer.until_text("#card .why", "It could not be delivered.").await?;
        turn(operator, refuse, "off").await
    })
    .await;
    for part in demonstrating {
        shop.stack.set_env(part, "DEMO", "false");
        ensure!(shop.stack.sigterm(part).await?.success());
        shop.stack.start(part).await?;
    }
    shown
}

async fn turn(operator: &Browser, switch: &str, wanted: &str) -> anyhow::Result<()> {
    operator.go("/operator").await?;
    operator.press(&format!("{switch} button")).await?;
    operator.until_text(&format!("{switch} b"), wanted).await
}

/// A page that is open while the storefront restarts goes on by itself.
pub(crate) async fn restarted(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK], async |[browser]| {
        let stock = format!("#product-{product} .stock");
        browser.go("/").await?;
        browser.until_text(&stock, "5 in stock").await?;
        browser.mark().await?;
        let asked = Instant::now();
        ensure!(shop.stack.sigterm(Part::Storefront).await?.success());
        ensure!(asked.elapsed() < Duration::from_secs(5), "open streams held it up");
        shop.stack.start(Part::Storefront).await?;
        let request =
            AdjustStockRequest { product_id: product.clone(), delta: 3, ..Default::default() };
        shop.products.clone().adjust_stock(request).await?;
        browser.until_text(&stock, "8 in stock").await?;
        ensure!(browser.is_still_the_same_page().await?, "the page was loaded again");
        Ok(())
    })
    .await
}
