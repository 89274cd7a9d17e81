//! A stop that is asked for: calls end, streams end, nothing that was answered is lost.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use local::Part;
use proto::orders::v1::{OrderState, WatchOrderRequest};
use tokio::task::JoinSet;
use tonic::Code;

use crate::shop::{Shop, until};

pub(crate) async fn under_load(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(1_000_000).await?;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let (shop, product) = (shop.clone(), product.clone());
        let (acknowledged, stop) = (Arc::clone(&acknowledged), Arc::clone(&stop));
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                match shop.place(&product, 1).await {
                    Ok(order) => acknowledged.lock().unwrap().push(order.order_id),
                    // Down: ask again a little later, as a client would.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
    }
    let accepted = |more_than: usize| {
        let acknowledged = Arc::clone(&acknowledged);
        async move {
            until("orders are accepted", async || {
                let count = acknowledged.lock().unwrap().len();
                if count > more_than { Ok(count) } else { anyhow::bail!("{count} so far") }
            })
            .await
        }
    };
    let before = accepted(200).await?;
    let asked = Instant::now();
    let status = shop.stack.sigterm(Part::Orders).await?;
    assert!(status.success(), "orders ended with {status}");
    assert!(asked.elapsed() < Duration::from_secs(12), "it took {:?}", asked.elapsed());
    shop.stack.start(Part::Orders).await?;
    accepted(before + 200).await?;
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;

    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    for order_id in &acknowledged {
        shop.until_order(order_id, OrderState::Confirmed)
            .await
            .with_context(|| format!("order {order_id}"))?;
    }
    Ok(())
}

pub(crate) async fn watches_end(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(1).await?;
    let order = shop.place(&product, 1).await?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    let watch =
        |after_revision| WatchOrderRequest { order_id: order.order_id.clone(), after_revision };
    let mut stream = shop.orders.clone().watch_order(watch(0)).await?.into_inner();
    let seen =
        stream.message().await?.context("the current state")?.order.context("an order")?.revision;
    assert!(shop.stack.sigterm(Part::Orders).await?.success());
    let ended = stream.message().await.expect_err("a final state was not reached");
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");

    shop.stack.start(Part::Orders).await?;
    let mut stream = until("the watch is resumed", async || {
        Ok(shop.orders.clone().watch_order(watch(seen)).await?.into_inner())
    })
    .await?;
    shop.cancel(&order.order_id).await?;
    let next = stream.message().await?.context("the next state")?.order.context("an order")?;
    assert_eq!((next.state(), next.revision), (OrderState::Cancelling, seen + 1));
    Ok(())
}
