//! Events that are lost for good, between the commit and the relay, and an order that contradicts its delivery: what the
//! reconciler makes of them.

use anyhow::{bail, ensure};
use local::Part;
use proto::{
    delivery::v1::{CompleteDeliveryRequest, DeliveryState, DispatchDeliveryRequest},
    orders::v1::OrderState,
    products::v1::BatchGetReservationsRequest,
};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::{
    pages::page,
    shop::{Shop, until},
};

/// Every event that an order waits for is lost in turn.
pub(crate) async fn lost(shop: Shop) -> anyhow::Result<()> {
    sweeps(&shop, "250ms", "1s").await?;
    let product = shop.product(20).await?;
    for (part, event, remedy) in [
        (Part::Orders, "OrderPlaced", "sent_again"),
        (Part::Products, "StockReserved", "learned"),
        (Part::Delivery, "DeliveryStarted", "learned"),
        (Part::Orders, "OrderConfirmed", "sent_again"),
    ] {
        let placed = async || {
            let order_id = shop.place(&product, 1).await?.order_id;
            match event {
                "StockReserved" => until_reserved(&shop, &order_id).await?,
                "DeliveryStarted" => shop.until_delivery(&order_id, DeliveryState::Started).await?,
                "OrderConfirmed" => drop(shop.until_order(&order_id, OrderState::Confirmed).await?),
                _ => {}
            }
            Ok(order_id)
        };
        let order_id = put_right(&shop, part, event, remedy, placed).await?;
        shop.until_order(&order_id, OrderState::Confirmed).await?;
        shop.until_delivery(&order_id, DeliveryState::Ready).await?;
    }
    lost_while_cancelled(&shop, &product).await?;
    lost_arrival(&shop, &product).await?;
    shop.until_stock(&product, 15).await?;
    shop.until_replica(&product, 15).await?;
    sweeps(&shop, "1m", "5m").await
}

async fn lost_while_cancelled(shop: &Shop, product: &str) -> anyhow::Result<()> {
    for (part, event, remedy) in [
        (Part::Orders, "OrderCancelRequested", "sent_again"),
        (Part::Delivery, "DeliveryCancelled", "learned"),
        (Part::Orders, "OrderCancelled", "sent_again"),
    ] {
        let order_id = ready(shop, product).await?;
        let cancelled = async || {
            shop.cancel(&order_id).await?;
            match event {
                "DeliveryCancelled" => {
                    shop.until_delivery(&order_id, DeliveryState::Cancelled).await?;
                }
                "OrderCancelled" => {
                    shop.until_order(&order_id, OrderState::Cancelled).await?;
                }
                _ => {}
            }
            Ok(order_id.clone())
        };
        put_right(shop, part, event, remedy, cancelled).await?;
        shop.until_order(&order_id, OrderState::Cancelled).await?;
        shop.until_delivery(&order_id, DeliveryState::Cancelled).await?;
    }
    Ok(())
}

async fn lost_arrival(shop: &Shop, product: &str) -> anyhow::Result<()> {
    let order_id = ready(shop, product).await?;
    let mut delivery = shop.delivery.clone();
    let dispatch = DispatchDeliveryRequest { order_id: order_id.clone(), ..Default::default() };
    delivery.dispatch_delivery(dispatch).await?;
    let arrived = async || {
        let complete = CompleteDeliveryRequest { order_id: order_id.clone(), ..Default::default() };
        shop.delivery.clone().complete_delivery(complete).await?;
        Ok(order_id.clone())
    };
    put_right(shop, Part::Delivery, "DeliveryCompleted", "learned", arrived).await?;
    shop.until_order(&order_id, OrderState::Completed).await.map(drop)
}

/// What the orchestrator was never told of.
pub(crate) async fn never_told(shop: Shop) -> anyhow::Result<()> {
    sweeps(&shop, "250ms", "1s").await?;
    let product = shop.product(1).await?;
    let placed = async || Ok(shop.place(&product, 1).await?.order_id);
    let order_id = put_right(&shop, Part::Orders, "OrderPlaced", "sent_again", placed).await?;
    shop.until_saga(&order_id, "FULFILLING").await?;
    let cancelled = async || Ok(shop.cancel(&order_id).await?.order_id);
    put_right(&shop, Part::Orders, "OrderCancelRequested", "sent_again", cancelled).await?;
    shop.until_order(&order_id, OrderState::Cancelled).await?;
    shop.until_saga(&order_id, "CANCELLED").await?;
    shop.until_stock(&product, 1).await?;
    sweeps(&shop, "1m", "5m").await
}

/// Goods of a cancelled order that seem to have left: counted, and left to a person.
pub(crate) async fn contradiction(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(1).await?;
    let order_id = ready(&shop, &product).await?;
    shop.cancel(&order_id).await?;
    shop.until_order(&order_id, OrderState::Cancelled).await?;
    shop.until_delivery(&order_id, DeliveryState::Cancelled).await?;
    shop.until_stock(&product, 1).await?;
    let database = shop.database(Part::Delivery).await?;
    let decision: Uuid = sqlx::query_scalar(
        "update deliveries as now
         set state = 'dispatched', decision_event_id = null
         from deliveries as before
         where now.order_id = before.order_id and now.order_id = $1
         returning before.decision_event_id",
    )
    .bind(order_id.parse::<Uuid>()?)
    .fetch_one(&database)
    .await?;
    let seen = async || {
        let order = shop.order(&order_id).await?;
        let delivery = shop.delivery_of(&order_id).await?;
        anyhow::Ok((order, delivery, shop.events(&order_id).len(), shop.stock(&product).await?))
    };
    let before = seen().await?;
    sweeps(&shop, "250ms", "1s").await?;
    let kind = ("contradiction", "shipped_and_cancelled");
    // Until it was judged twice: after the first time it would have been put right.
    let counted = until("the contradiction is counted", async || {
        let times = wrong(&shop, kind.0, kind.1).await?;
        ensure!(times > 1.0, "{times} times");
        Ok(())
    })
    .await;
    let after = seen().await?;
    sqlx::query(
        "update deliveries
         set state = 'cancelled', decision_event_id = $2
         where order_id = $1",
    )
    .bind(order_id.parse::<Uuid>()?)
    .bind(decision)
    .execute(&database)
    .await?;
    sweeps(&shop, "1m", "5m").await?;
    counted?;
    assert_eq!(after, before);
    let log = std::fs::read_to_string(shop.stack.log(Part::Orders))?;
    let mut lines = log.lines().filter(|line| line.contains(&order_id));
    assert!(lines.any(|line| line.contains("needs a person")), "nothing is logged");
    Ok(())
}

/// An order whose goods may leave.
async fn ready(shop: &Shop, product: &str) -> anyhow::Result<String> {
    let order_id = shop.place(product, 1).await?.order_id;
    shop.until_order(&order_id, OrderState::Confirmed).await?;
    shop.until_delivery(&order_id, DeliveryState::Ready).await?;
    Ok(order_id)
}

async fn until_reserved(shop: &Shop, order_id: &str) -> anyhow::Result<()> {
    until(&format!("products has reserved for {order_id}"), async || {
        let request = BatchGetReservationsRequest { order_ids: vec![order_id.to_owned()] };
        let answer = shop.products.clone().batch_get_reservations(request).await?.into_inner();
        if answer.reservations.is_empty() { bail!("it has not") } else { Ok(()) }
    })
    .await
}

/// Loses the event while somebody acts, and waits until the reconciler has counted what it did about it. The order's id.
async fn put_right(
    shop: &Shop,
    part: Part,
    event: &str,
    remedy: &str,
    act: impl AsyncFnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let before = wrong(shop, remedy, event).await?;
    let loss = Loss::of(shop.database(part).await?, event).await?;
    let acted = act().await;
    loss.ends().await?;
    let order_id = acted?;
    until(&format!("{event} is {remedy}"), async || {
        let now = wrong(shop, remedy, event).await?;
        ensure!(now > before, "{now} times");
        Ok(())
    })
    .await?;
    Ok(order_id)
}

/// How often the reconciler has found this wrong, since orders was started.
async fn wrong(shop: &Shop, remedy: &str, what: &str) -> anyhow::Result<f64> {
    let text = page(shop, Part::Orders, "/metrics").await?;
    let (remedy, what) = (format!("remedy=\"{remedy}\""), format!("what=\"{what}\""));
    let mut samples = text.lines().filter(|line| {
        line.starts_with("reconciler_wrong_total{")
            && line.contains(&remedy)
            && line.contains(&what)
    });
    let value = samples.next().and_then(|line| line.rsplit_once(' '));
    match value {
        Some((_, value)) => Ok(value.parse()?),
        None => bail!("nobody counts {remedy}, {what}"),
    }
}

/// Whatever a service tells of one type vanishes in its own transaction: neither outbox nor relay ever know of it.
struct Loss {
    database: PgPool,
}

impl Loss {
    async fn of(database: PgPool, event: &str) -> anyhow::Result<Self> {
        let lose = format!(
            "create function messaging.lose() returns trigger language plpgsql as $$ begin return null; end $$;
             create trigger lose before insert on messaging.outbox for each row
                 when (new.headers ->> 'ce_type' like '%.{event}') execute function messaging.lose()"
        );
        sqlx::raw_sql(AssertSqlSafe(lose)).execute(&database).await?;
        Ok(Self { database })
    }

    async fn ends(self) -> anyhow::Result<()> {
        let find = "drop trigger lose on messaging.outbox; drop function messaging.lose()";
        sqlx::raw_sql(find).execute(&self.database).await?;
        Ok(())
    }
}

/// How often the reconciler looks, and at what.
async fn sweeps(shop: &Shop, every: &str, after: &str) -> anyhow::Result<()> {
    shop.stack.set_env(Part::Orders, "RECONCILE_EVERY", every);
    shop.stack.set_env(Part::Orders, "RECONCILE_AFTER", after);
    shop.restart(Part::Orders).await
}
