//! Sagas that stand still in states of a scenario's choice: the service that would answer next is held until it is let go.

use anyhow::{Context as _, bail};
use local::Part;
use proto::{
    delivery::v1::{CompleteDeliveryRequest, DeliveryState, DispatchDeliveryRequest},
    orchestrator::v1::Saga,
    orders::v1::OrderState,
};
use tonic::{Code, Status};

use crate::{
    held::{Held, Hold},
    shop::Shop,
};

/// Sagas that stand still, each with a piece of the same product.
pub(crate) struct Standstill {
    product: String,
    pub(crate) sagas: Vec<Still>,
}

/// A saga that stands still.
#[derive(Debug)]
pub(crate) struct Still {
    pub(crate) order_id: String,
    /// Its state; none where it has not begun.
    pub(crate) at: Option<&'static str>,
    /// How it ends when it goes on.
    pub(crate) ends: End,
}

/// How a saga ends, or where it waits for the customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fulfilling,
    /// The goods have left, so that the customer's cancel was refused.
    Refused,
    Done,
    Cancelled,
}

const STOCK: i64 = 10;
const CONFIRMED: [&str; 10] = [
    "OrderPlaced",
    "ReserveStock",
    "StockReserved",
    "ProductChanged",
    "StartDelivery",
    "DeliveryStarted",
    "ConfirmOrder",
    "OrderConfirmed",
    "ReadyDelivery",
    "DeliveryReady",
];
const REFUSED: [&str; 6] = [
    "DeliveryDispatched",
    "OrderCancelRequested",
    "CancelDelivery",
    "DeliveryCancelRefused",
    "RefuseCancel",
    "OrderCancelRefused",
];
const DONE: [&str; 4] =
    ["DeliveryDispatched", "DeliveryCompleted", "CompleteOrder", "OrderCompleted"];
const CANCELLED: [&str; 8] = [
    "OrderCancelRequested",
    "CancelDelivery",
    "DeliveryCancelled",
    "CancelOrder",
    "OrderCancelled",
    "ReleaseStock",
    "StockReleased",
    "ProductChanged",
];

impl Standstill {
    /// Sagas in every state in which they wait for this service, which is held.
    pub(crate) async fn before(
        shop: &Shop,
        part: Part,
        hold: Hold,
    ) -> anyhow::Result<(Held, Self)> {
        let product = shop.product(STOCK).await?;
        let (held, sagas) = match part {
            Part::Products => before_products(shop, &product, hold).await?,
            Part::Delivery => before_delivery(shop, &product, hold).await?,
            Part::Orders => before_orders(shop, &product, hold).await?,
            Part::Orchestrator => before_orchestrator(shop, &product, hold).await?,
            _ => bail!("no saga waits for {part:?}"),
        };
        held.until_it_waits().await?;
        let standstill = Self { product, sagas };
        standstill.is_one(shop).await?;
        Ok((held, standstill))
    }

    /// Every saga is where it is meant to be.
    pub(crate) async fn is_one(&self, shop: &Shop) -> anyhow::Result<()> {
        for Still { order_id, at, .. } in &self.sagas {
            match at {
                Some(state) => {
                    shop.until_saga(order_id, state).await?;
                }
                None => has_not_begun(shop.saga(order_id).await)?,
            }
        }
        Ok(())
    }

    /// Every saga ends as it should, each event and command of it was told once, and the stock is right.
    pub(crate) async fn ends_well(&self, shop: &Shop) -> anyhow::Result<()> {
        for saga in &self.sagas {
            saga.ends_well(shop).await.with_context(|| format!("{saga:?}"))?;
        }
        self.stock_is_right(shop, |end| end != End::Cancelled).await
    }

    /// A piece is gone for every order that is kept, and for no other.
    pub(crate) async fn stock_is_right(
        &self,
        shop: &Shop,
        is_kept: impl Fn(End) -> bool,
    ) -> anyhow::Result<()> {
        let kept = self.sagas.iter().filter(|saga| is_kept(saga.ends)).count();
        let left = STOCK - i64::try_from(kept)?;
        shop.until_stock(&self.product, left).await?;
        shop.until_replica(&self.product, left).await
    }
}

/// Nothing of the saga is to be seen.
pub(crate) fn has_not_begun(asked: anyhow::Result<Saga>) -> anyhow::Result<()> {
    let refused = asked.expect_err("a saga that nobody has committed");
    assert_eq!(refused.downcast::<Status>()?.code(), Code::NotFound);
    Ok(())
}

impl Still {
    fn new(order_id: String, at: &'static str, ends: End) -> Self {
        Self { order_id, at: Some(at), ends }
    }

    pub(crate) async fn ends_well(&self, shop: &Shop) -> anyhow::Result<()> {
        use DeliveryState as Delivery;
        let (saga, order, delivery, follows): (_, _, _, &[&str]) = match self.ends {
            End::Fulfilling => ("FULFILLING", OrderState::Confirmed, Delivery::Ready, &[]),
            End::Refused => ("FULFILLING", OrderState::Confirmed, Delivery::Dispatched, &REFUSED),
            End::Done => ("DONE", OrderState::Completed, Delivery::Completed, &DONE),
            End::Cancelled => ("CANCELLED", OrderState::Cancelled, Delivery::Cancelled, &CANCELLED),
        };
        // A saga that was FULFILLING before is so still until it has heard; its events come last.
        shop.until_events(&self.order_id, &[&CONFIRMED, follows].concat()).await?;
        shop.until_saga(&self.order_id, saga).await?;
        let order = shop.until_order(&self.order_id, order).await?;
        assert_eq!(order.cancel_refused, self.ends == End::Refused);
        shop.until_delivery(&self.order_id, delivery).await
    }
}

async fn before_products(
    shop: &Shop,
    product: &str,
    hold: Hold,
) -> anyhow::Result<(Held, Vec<Still>)> {
    let cancelled = fulfilling(shop, product).await?;
    let held = Held::new(shop, Part::Products, hold).await?;
    shop.cancel(&cancelled).await?;
    let placed = shop.place(product, 1).await?.order_id;
    let sagas = vec![
        Still::new(placed, "RESERVING", End::Fulfilling),
        Still::new(cancelled, "COMPENSATING", End::Cancelled),
    ];
    Ok((held, sagas))
}

async fn before_delivery(
    shop: &Shop,
    product: &str,
    hold: Hold,
) -> anyhow::Result<(Held, Vec<Still>)> {
    let cancelled = fulfilling(shop, product).await?;
    let orders = Held::new(shop, Part::Orders, Hold::Deaf).await?;
    let started = shop.place(product, 1).await?.order_id;
    shop.until_saga(&started, "CONFIRMING").await?;
    let held = Held::new(shop, Part::Delivery, hold).await?;
    orders.let_go().await?;
    shop.cancel(&cancelled).await?;
    let placed = shop.place(product, 1).await?.order_id;
    let sagas = vec![
        Still::new(placed, "STARTING_DELIVERY", End::Fulfilling),
        Still::new(started, "READYING", End::Fulfilling),
        Still::new(cancelled, "CANCELLING_DELIVERY", End::Cancelled),
    ];
    Ok((held, sagas))
}

async fn before_orders(
    shop: &Shop,
    product: &str,
    hold: Hold,
) -> anyhow::Result<(Held, Vec<Still>)> {
    let completed = fulfilling(shop, product).await?;
    let refused = fulfilling(shop, product).await?;
    let cancelled = fulfilling(shop, product).await?;
    dispatch(shop, &completed).await?;
    dispatch(shop, &refused).await?;
    let delivery = Held::new(shop, Part::Delivery, Hold::Deaf).await?;
    for order_id in [&refused, &cancelled] {
        shop.cancel(order_id).await?;
        shop.until_saga(order_id, "CANCELLING_DELIVERY").await?;
    }
    let placed = shop.place(product, 1).await?.order_id;
    let held = Held::new(shop, Part::Orders, hold).await?;
    delivery.let_go().await?;
    complete(shop, &completed).await?;
    let sagas = vec![
        Still::new(placed, "CONFIRMING", End::Fulfilling),
        Still::new(refused, "REFUSING", End::Refused),
        Still::new(cancelled, "CANCELLING_ORDER", End::Cancelled),
        Still::new(completed, "COMPLETING", End::Done),
    ];
    Ok((held, sagas))
}

/// The orchestrator has not committed what it has heard: a saga that begins, and two that go on.
async fn before_orchestrator(
    shop: &Shop,
    product: &str,
    hold: Hold,
) -> anyhow::Result<(Held, Vec<Still>)> {
    let completed = fulfilling(shop, product).await?;
    let cancelled = fulfilling(shop, product).await?;
    dispatch(shop, &completed).await?;
    let held = Held::new(shop, Part::Orchestrator, hold).await?;
    let placed = shop.place(product, 1).await?.order_id;
    shop.cancel(&cancelled).await?;
    complete(shop, &completed).await?;
    let sagas = vec![
        Still { order_id: placed, at: None, ends: End::Fulfilling },
        Still::new(cancelled, "FULFILLING", End::Cancelled),
        Still::new(completed, "FULFILLING", End::Done),
    ];
    Ok((held, sagas))
}

/// A new order whose goods may leave.
pub(crate) async fn fulfilling(shop: &Shop, product: &str) -> anyhow::Result<String> {
    let order_id = shop.place(product, 1).await?.order_id;
    shop.until_saga(&order_id, "FULFILLING").await?;
    Ok(order_id)
}

pub(crate) async fn dispatch(shop: &Shop, order_id: &str) -> anyhow::Result<()> {
    let dispatch = DispatchDeliveryRequest { order_id: order_id.to_owned(), ..Default::default() };
    shop.delivery.clone().dispatch_delivery(dispatch).await?;
    Ok(())
}

pub(crate) async fn complete(shop: &Shop, order_id: &str) -> anyhow::Result<()> {
    let complete = CompleteDeliveryRequest { order_id: order_id.to_owned(), ..Default::default() };
    shop.delivery.clone().complete_delivery(complete).await?;
    Ok(())
}
