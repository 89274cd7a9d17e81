//! Whoever operates the shop: the warehouse and the demonstration switches.

use anyhow::ensure;
use local::Part;
use proto::delivery::v1::DeliveryState;

use super::STATE;
use crate::{
    browser::{AT_A_DESK, Browser, with},
    shop::Shop,
};

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
