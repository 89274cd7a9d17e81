//! Two who want the same at once: one gets it, and the books are right.

use anyhow::bail;
use proto::{
    delivery::v1::{DeliveryState, DispatchDeliveryRequest},
    orders::v1::{CancelReason, OrderState},
};

use crate::shop::{Shop, until};

pub(crate) async fn last_piece(shop: Shop) -> anyhow::Result<()> {
    for _ in 0..5 {
        let product = shop.product(1).await?;
        let (one, other) = tokio::try_join!(shop.place(&product, 1), shop.place(&product, 1))?;
        let mut states = Vec::new();
        for order_id in [one.order_id, other.order_id] {
            states.push(settled(&shop, &order_id).await?);
        }
        states.sort_unstable();
        let lucky = (OrderState::Confirmed, CancelReason::Unspecified);
        let unlucky = (OrderState::Cancelled, CancelReason::OutOfStock);
        assert_eq!(states, [lucky, unlucky].map(|(state, reason)| (state as i32, reason as i32)));
        assert_eq!(shop.stock(&product).await?, 0);
    }
    Ok(())
}

pub(crate) async fn cancel_while_rejected(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(1).await?;
    for _ in 0..10 {
        let order = shop.place(&product, 2).await?;
        // CANCELLED whoever was faster; the answer does not tell who.
        let cancelled = shop.cancel(&order.order_id).await?;
        assert_eq!(cancelled.state(), OrderState::Cancelled);
        let delivery = format!("the delivery of {} is over", order.order_id);
        until(&delivery, async || match shop.delivery_of(&order.order_id).await {
            Ok(delivery) if delivery.state() != DeliveryState::Cancelled => {
                bail!("it is {:?}", delivery.state())
            }
            // A cancel that overtook the placement leaves nothing to show.
            _ => Ok(()),
        })
        .await?;
    }
    // One that fits is taken from what is really there.
    let fits = shop.place(&product, 1).await?;
    shop.until_order(&fits.order_id, OrderState::Confirmed).await?;
    assert_eq!(shop.stock(&product).await?, 0);
    Ok(())
}

pub(crate) async fn cancel_while_dispatched(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(10).await?;
    let mut shipped = 0;
    for _ in 0..10 {
        let order = shop.place(&product, 1).await?;
        shop.until_order(&order.order_id, OrderState::Confirmed).await?;
        shop.until_delivery(&order.order_id, DeliveryState::Ready).await?;
        let dispatch =
            DispatchDeliveryRequest { order_id: order.order_id.clone(), ..Default::default() };
        let mut delivery = shop.delivery.clone();
        let (cancel, dispatch) =
            tokio::join!(shop.cancel(&order.order_id), delivery.dispatch_delivery(dispatch));
        assert_eq!(cancel?.state(), OrderState::Cancelling);
        let state = until("the cancellation is decided", async || {
            match shop.order(&order.order_id).await?.state() {
                OrderState::Cancelling => bail!("it is not"),
                state => Ok(state),
            }
        });
        match (state.await?, dispatch) {
            (OrderState::Confirmed, Ok(_)) => shipped += 1,
            (OrderState::Cancelled, Err(_)) => {}
            (state, dispatch) => bail!("{state:?}, and the dispatch ended with {dispatch:?}"),
        }
    }
    shop.until_stock(&product, 10 - shipped).await
}

async fn settled(shop: &Shop, order_id: &str) -> anyhow::Result<(i32, i32)> {
    until(&format!("order {order_id} is settled"), async || {
        let order = shop.order(order_id).await?;
        match order.state() {
            OrderState::Confirmed | OrderState::Cancelled => Ok((order.state, order.cancel_reason)),
            state => bail!("it is {state:?}"),
        }
    })
    .await
}
