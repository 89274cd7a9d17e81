//! Whoever operates the shop: the warehouse, the demonstration switches, and what waits for a person.

use anyhow::ensure;
use e2e::sender::Sender;
use local::Part;
use proto::{delivery::v1::DeliveryState, operations::v1::ParkedMessage};
use uuid::Uuid;

use super::{NOTICE, STATE};
use crate::{
    browser::{AT_A_DESK, Browser, with},
    injected::parked,
    shop::{Shop, until},
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

/// How many messages delivery has parked, as the panel has it.
const PARKED: &str = "#service-delivery td:last-child";

/// A message that nobody can read holds its order up until somebody gives it up, and says why.
pub(crate) async fn skips(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    with(&shop, [AT_A_DESK, AT_A_DESK, AT_A_DESK], async |[customer, operator, watcher]| {
        shop.stack.pause(Part::Relay)?;
        let order_id = customer.order(&product, 1).await?;
        send_unreadable(&shop, &order_id).await?;
        until_parked(&shop, &order_id, 1).await?;
        shop.stack.resume(Part::Relay)?;
        // Where the delivery is to begin, it waits behind.
        let both = until_parked(&shop, &order_id, 2).await?;
        customer.until_text(STATE, "being processed").await?;
        watcher.go("/operator").await?;
        watcher.until_text(PARKED, "2").await?;
        watcher.mark().await?;

        let first = Row::of(&both[0]);
        operator.go("/operator").await?;
        operator.until_text(&first.line, "ce_specversion").await?;
        first.is_not_skipped_without_reason(operator).await?;
        operator.press(&first.retry).await?;
        operator.until_text(NOTICE, "That was refused").await?;
        // Nor is one skipped past those in front of it.
        Row::of(&both[1]).skip(operator, "it is not its turn").await?;
        operator.until_text(NOTICE, "That was refused").await?;
        let still = until_parked(&shop, &order_id, 2).await?;
        ensure!(still == both, "{still:?}");

        // What is written stays when the list grows.
        operator.fill(&first.reason, "a scenario sent it").await?;
        let other = Uuid::now_v7().to_string();
        send_unreadable(&shop, &other).await?;
        operator.until_text("#parked", &other).await?;
        operator.press(&first.skip).await?;
        operator.until_text(NOTICE, "Done.").await?;
        customer.until_text(STATE, "confirmed").await?;
        let other = until_parked(&shop, &other, 1).await?;
        Row::of(&other[0]).skip(operator, "a scenario sent it").await?;
        watcher.until_text("#parked", "Nothing is parked.").await?;
        watcher.until_text(PARKED, "0").await?;
        ensure!(watcher.is_still_the_same_page().await?, "the page was loaded again");
        Ok(())
    })
    .await
}

/// What stood in the way is gone, and the operator has it tried again.
pub(crate) async fn retries(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let database = shop.database(Part::Delivery).await?;
    let broken = "alter table deliveries add constraint takes_nothing check (false) not valid";
    sqlx::raw_sql(broken).execute(&database).await?;
    let mend = async || {
        let mended = "alter table deliveries drop constraint if exists takes_nothing";
        sqlx::raw_sql(mended).execute(&database).await
    };
    let retried = with(&shop, [AT_A_DESK, AT_A_DESK], async |[customer, operator]| {
        let order_id = customer.order(&product, 1).await?;
        let parked = until_parked(&shop, &order_id, 1).await?;
        let row = Row::of(&parked[0]);
        operator.go("/operator").await?;
        operator.until_text(&row.line, "takes_nothing").await?;
        operator.press(&row.retry).await?;
        operator.until_text(NOTICE, "That was refused").await?;
        ensure!(until_parked(&shop, &order_id, 1).await? == parked);
        customer.until_text(STATE, "being processed").await?;
        mend().await?;
        operator.press(&row.retry).await?;
        operator.until_text(NOTICE, "Done.").await?;
        customer.until_text(STATE, "confirmed").await?;
        operator.until_text("#parked", "Nothing is parked.").await?;
        operator.until_text(PARKED, "0").await
    })
    .await;
    mend().await?;
    retried
}

/// One that delivery alone reacts to, and cannot read.
async fn send_unreadable(shop: &Shop, key: &str) -> anyhow::Result<()> {
    let headers = [
        ("ce_type", "shop.orders.v1.OrderConfirmed".to_owned()),
        ("ce_coordination", "choreography".to_owned()),
    ];
    let sender = Sender::new(shop.stack.kafka_bootstrap())?;
    sender.send("shop.orders.events", key, &headers, b"{ this is not JSON").await.map(|_| ())
}

async fn until_parked(shop: &Shop, key: &str, count: usize) -> anyhow::Result<Vec<ParkedMessage>> {
    until(&format!("delivery has parked {count} of {key}"), async || {
        let parked = parked(shop, Part::Delivery, key).await?;
        ensure!(parked.len() == count, "it has parked {parked:?}");
        Ok(parked)
    })
    .await
}

/// A message of delivery's, on the operator's page.
struct Row {
    line: String,
    retry: String,
    reason: String,
    skip: String,
}

impl Row {
    fn of(message: &ParkedMessage) -> Self {
        let part = |name| format!("#{name}-delivery-{}", message.parked_id);
        Self {
            line: part("parked"),
            retry: part("retry"),
            reason: part("reason"),
            skip: part("skip"),
        }
    }

    async fn skip(&self, operator: &Browser, reason: &str) -> anyhow::Result<()> {
        operator.fill(&self.reason, reason).await?;
        operator.press(&self.skip).await
    }

    async fn is_not_skipped_without_reason(&self, operator: &Browser) -> anyhow::Result<()> {
        operator.mark().await?;
        operator.touch(&self.skip).await?;
        until("the browser asks for a reason", async || {
            let asked = operator.ask("return '#' + document.activeElement.id").await?;
            ensure!(asked == self.reason.as_str(), "{asked} has the focus");
            Ok(())
        })
        .await?;
        ensure!(operator.is_still_the_same_page().await?, "a form without a reason was sent");
        self.skip(operator, "   ").await?;
        operator.until_text(NOTICE, "say why").await
    }
}
