//! Pictures of the storefront's main pages, for its documentation. They are kept where SETTLE_PICTURES names a directory
//! (`make pictures`), and always drawn, so that they can be.

use std::path::PathBuf;

use anyhow::ensure;
use local::Part;

use crate::{
    browser::{AT_A_DESK, Browser, Visitor, with},
    shop::Shop,
};

/// They are part of the repository.
const LARGEST: usize = 150_000;

pub(crate) async fn main_pages(shop: Shop) -> anyhow::Result<()> {
    let demonstrating = [Part::Products, Part::Delivery];
    for part in demonstrating {
        shop.stack.set_env(part, "DEMO", "true");
        ensure!(shop.stack.sigterm(part).await?.success());
        shop.stack.start(part).await?;
    }
    let desk = Visitor { size: (1000, 1300), ..AT_A_DESK };
    let phone = Visitor { size: (390, 844), ..AT_A_DESK };
    let korean = Visitor { language: "ko", size: (1000, 1300), ..AT_A_DESK };
    let drawn = with(&shop, [desk, phone, korean], async |[desk, phone, korean]| {
        desk.go("/").await?;
        desk.until_text("#product-tv .stock", "in stock").await?;
        keep(desk, "catalogue").await?;
        shop.stack.pause(Part::Relay)?;
        let order_id = desk.order("tv", 1).await?;
        desk.until_text("#chain", "emitted, not seen").await?;
        keep(desk, "order-pending").await?;
        shop.stack.resume(Part::Relay)?;
        confirmed(desk, "confirmed").await?;
        keep(desk, "order-confirmed").await?;
        desk.go("/operator").await?;
        desk.until_text("#parcels", "TV").await?;
        crate::shop::until("every service has said how far it is", async || {
            let services = desk.text("#services").await?;
            ensure!(!services.contains('–') && !services.contains("away"), "{services}");
            Ok(())
        })
        .await?;
        keep(desk, "operator").await?;
        desk.darken().await?;
        desk.go(&format!("/orders/{order_id}")).await?;
        confirmed(desk, "confirmed").await?;
        keep(desk, "order-dark").await?;
        korean.order("clock", 1000).await?;
        korean.until_text("#card .standing .badge", "취소됨").await?;
        korean.until_text("#chain", "배송이 취소됨").await?;
        keep(korean, "order-cancelled-korean").await?;
        phone.order("mask", 2).await?;
        confirmed(phone, "confirmed").await?;
        keep(phone, "order-phone").await
    })
    .await;
    for part in demonstrating {
        shop.stack.set_env(part, "DEMO", "false");
        ensure!(shop.stack.sigterm(part).await?.success());
        shop.stack.start(part).await?;
    }
    drawn
}

async fn confirmed(browser: &Browser, word: &str) -> anyhow::Result<()> {
    browser.until_text("#card .standing .badge", word).await?;
    crate::shop::until("everything is seen", async || {
        let chain = browser.text("#chain").await?;
        ensure!(chain.contains("OrderConfirmed") && !chain.contains("not seen"), "{chain}");
        Ok(())
    })
    .await
}

async fn keep(browser: &Browser, name: &str) -> anyhow::Result<()> {
    let picture = browser.picture().await?;
    ensure!(picture.len() < LARGEST, "{name} has {} bytes", picture.len());
    if let Some(directory) = std::env::var_os("SETTLE_PICTURES") {
        std::fs::write(PathBuf::from(directory).join(format!("{name}.png")), picture)?;
    }
    Ok(())
}
