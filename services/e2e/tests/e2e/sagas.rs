//! Orders that the orchestrator drives: whatever is late, lost, repeated or killed, the saga settles, and nothing leaks.

use anyhow::{Context as _, bail, ensure};
use e2e::sender::{Sender, headers_of};
use local::Part;
use proto::{
    delivery::v1::{DeliveryState, GetDeliveryRequest},
    operations::v1::GetTrailRequest,
    orchestrator::v1::{Act, SagaStep, SkipStepRequest, StepState},
    orders::v1::{CancelReason, Order, OrderState},
};
use tonic::Code;

use crate::{
    shop::{PATIENT_STEP, Shop, program, until},
    walkthrough::until_all_told,
};

/// orders has confirmed, and its word is late and told twice; meanwhile the customer cancels.
pub(crate) async fn late_confirmation(shop: Shop) -> anyhow::Result<()> {
    impatient(&shop, true).await?;
    let product = shop.product(3).await?;
    shop.stack.pause(Part::Products)?;
    let order = shop.place(&product, 1).await?;
    shop.stack.pause(Part::Orders)?;
    shop.stack.resume(Part::Products)?;
    until("ConfirmOrder is sent again", async || {
        let saga = shop.saga(&order.order_id).await?;
        let confirm = saga.steps.iter().find(|it| it.name == "ConfirmOrder");
        match confirm.context("it is not sent")?.attempts {
            attempts @ ..2 => bail!("it was sent {attempts} times"),
            _ => Ok(()),
        }
    })
    .await?;
    shop.stack.pause(Part::Orchestrator)?;
    shop.stack.resume(Part::Orders)?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    assert_eq!(shop.cancel(&order.order_id).await?.state(), OrderState::Cancelling);
    shop.stack.resume(Part::Orchestrator)?;
    cancelled(&shop, &order.order_id, CancelReason::Customer).await?;
    shop.until_stock(&product, 3).await?;
    impatient(&shop, false).await
}

/// The deadline cancels while products is about to reserve.
pub(crate) async fn deadline(shop: Shop) -> anyhow::Result<()> {
    shop.stack.set_env(Part::Orders, "ORDERS_DEADLINE", "300ms");
    shop.restart(Part::Orders).await?;
    let product = shop.product(3).await?;
    shop.stack.pause(Part::Products)?;
    let order = shop.place(&product, 1).await?;
    shop.until_order(&order.order_id, OrderState::Cancelled).await?;
    shop.stack.resume(Part::Products)?;
    cancelled(&shop, &order.order_id, CancelReason::TimedOut).await?;
    shop.until_stock(&product, 3).await?;
    shop.stack.set_env(Part::Orders, "ORDERS_DEADLINE", "24h");
    shop.restart(Part::Orders).await
}

/// Two replicas share the work: when either is killed, the other goes on.
pub(crate) async fn two_replicas(shop: Shop) -> anyhow::Result<()> {
    const ORDERS: i64 = 20;
    let product = shop.product(3 * ORDERS).await?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut second = tokio::process::Command::new(program("orchestrator")?)
        .env("DATABASE_URL", shop.stack.database_url(Part::Orchestrator))
        .env("KAFKA_BOOTSTRAP_SERVERS", shop.stack.kafka_bootstrap())
        .env("LISTEN", format!("127.0.0.1:{port}"))
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut placed = place(&shop, &product, ORDERS).await?;
    shop.stack.kill9(Part::Orchestrator).await?;
    placed.extend(place(&shop, &product, ORDERS).await?);
    for order in &placed {
        shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    }
    shop.stack.start(Part::Orchestrator).await?;
    let last = place(&shop, &product, ORDERS).await?;
    second.kill().await?;
    for order in placed.iter().chain(&last) {
        shop.until_saga(&order.order_id, "FULFILLING").await?;
        assert_eq!(shop.order(&order.order_id).await?.state(), OrderState::Confirmed);
    }
    shop.until_stock(&product, 0).await
}

async fn place(shop: &Shop, product: &str, count: i64) -> anyhow::Result<Vec<Order>> {
    let mut placed = Vec::new();
    for _ in 0..count {
        placed.push(shop.place(product, 1).await?);
    }
    Ok(placed)
}

/// Every event and command again, backwards and forwards.
pub(crate) async fn duplicates(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let order = shop.place(&product, 2).await?;
    shop.until_saga(&order.order_id, "FULFILLING").await?;
    shop.cancel(&order.order_id).await?;
    cancelled(&shop, &order.order_id, CancelReason::Customer).await?;
    shop.until_stock(&product, 5).await?;
    let before = (shop.order(&order.order_id).await?, shop.saga(&order.order_id).await?);

    let mut events = until_all_told(&shop, &order.order_id).await?;
    events.retain(|event| event.topic != "shop.products.catalog");
    let sender = Sender::new(shop.stack.kafka_bootstrap())?;
    for event in events.iter().rev().chain(&events) {
        let mut headers = headers_of(event);
        headers.push(("ce_coordination", "orchestration".to_owned()));
        let payload = event.payload.to_string();
        sender.send(&event.topic, &order.order_id, &headers, payload.as_bytes()).await?;
    }
    let parts = [Part::Orders, Part::Products, Part::Delivery, Part::Orchestrator];
    for part in parts {
        until(&format!("{part:?} has heard everything three times"), async || {
            let request = GetTrailRequest { order_id: order.order_id.clone() };
            let trail = shop.operations(part)?.get_trail(request).await?.into_inner().entries;
            // A repeated command is answered as things are now: its answer may be of another type than the first.
            let mut heard = trail.iter().filter(|it| {
                events.iter().any(|event| event.id == it.event_id && event.r#type == it.r#type)
            });
            match heard.find(|it| it.deliveries < 3) {
                Some(rare) => bail!("{} came {} times", rare.r#type, rare.deliveries),
                None => Ok(()),
            }
        })
        .await?;
    }
    let after = (shop.order(&order.order_id).await?, shop.saga(&order.order_id).await?);
    assert_eq!(after, before);
    assert_eq!((shop.stock(&product).await?, shop.replica(&product).await?), (5, 5));
    Ok(())
}

/// What cannot be undone is left to a person, who says that it is done.
pub(crate) async fn parked(shop: Shop) -> anyhow::Result<()> {
    impatient(&shop, true).await?;
    let product = shop.product(2).await?;
    assert!(shop.stack.sigterm(Part::Delivery).await?.success());
    let order = shop.place(&product, 1).await?;
    shop.until_saga(&order.order_id, "STARTING_DELIVERY").await?;
    assert_eq!(shop.cancel(&order.order_id).await?.state(), OrderState::Cancelled);
    // products may be late with its answer; after it nothing moves the saga on.
    let parked = until("the saga is parked for delivery alone", async || {
        let saga = shop.saga(&order.order_id).await?;
        let is_back = |step: &&SagaStep| step.name == "ReleaseStock";
        let release = saga.steps.iter().find(is_back).map(SagaStep::state);
        ensure!(saga.parked && release == Some(StepState::Answered), "it is {saga:?}");
        Ok(saga)
    })
    .await?;
    // Whichever of the two was given up first says why it was parked.
    let reason = parked.parked_reason.strip_prefix("no answer to ").unwrap_or_default();
    let undos = ["CancelDelivery", "ReleaseStock"];
    assert!(undos.iter().any(|undo| reason.starts_with(undo)), "{parked:?}");
    let cancel = parked.steps.iter().find(|step| step.name == "CancelDelivery");
    assert_eq!(cancel.map(SagaStep::state), Some(StepState::Sent), "{parked:?}");
    shop.until_stock(&product, 2).await?;
    let act = Act {
        actor: "kim".to_owned(),
        reason: "there never was a parcel".to_owned(),
        expected_version: parked.version,
    };
    let skip = SkipStepRequest {
        saga_id: order.order_id.clone(),
        act: Some(act),
        step: "CancelDelivery".to_owned(),
    };
    let saga = shop.sagas.clone().skip_step(skip).await?.into_inner().saga.context("a saga")?;
    assert_eq!((saga.state.as_str(), saga.finished, saga.parked), ("CANCELLED", true, false));

    // What delivery says when it is back changes nothing any more, and opens nothing.
    shop.stack.start(Part::Delivery).await?;
    until("the orchestrator has heard delivery", async || {
        let request = GetTrailRequest { order_id: order.order_id.clone() };
        let trail = shop.operations(Part::Orchestrator)?.get_trail(request).await?.into_inner();
        let heard = trail.entries.iter().any(|it| it.r#type.ends_with("DeliveryCancelled"));
        if heard { Ok(()) } else { bail!("it has not") }
    })
    .await?;
    assert_eq!(shop.saga(&order.order_id).await?.version, saga.version);
    impatient(&shop, false).await
}

/// The order is cancelled for this reason, its saga has ended, and no goods are on their way.
pub(crate) async fn cancelled(
    shop: &Shop,
    order_id: &str,
    reason: CancelReason,
) -> anyhow::Result<()> {
    let order = shop.until_order(order_id, OrderState::Cancelled).await?;
    assert_eq!(order.cancel_reason(), reason);
    shop.until_saga(order_id, "CANCELLED").await?;
    let asked = GetDeliveryRequest { order_id: order_id.to_owned() };
    match shop.delivery.clone().get_delivery(asked).await {
        Ok(answer) => {
            let delivery = answer.into_inner().delivery.context("a delivery")?;
            assert_eq!(delivery.state(), DeliveryState::Cancelled);
        }
        Err(status) => assert_eq!(status.code(), Code::NotFound),
    }
    Ok(())
}

/// Sends again at once, and gives up soon; or takes its time.
async fn impatient(shop: &Shop, impatient: bool) -> anyhow::Result<()> {
    let settings = if impatient { ["50ms", "100ms", "3"] } else { [PATIENT_STEP, "1m", "20"] };
    let names = ["STEP_TIMEOUT", "STEP_TIMEOUT_MAX", "COMPENSATION_ATTEMPTS"];
    for (name, value) in names.into_iter().zip(settings) {
        shop.stack.set_env(Part::Orchestrator, name, value);
    }
    shop.restart(Part::Orchestrator).await
}
