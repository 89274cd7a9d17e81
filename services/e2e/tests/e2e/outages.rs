//! Anything may be down: orders are accepted meanwhile, and settle afterwards, once.

use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use local::{Part, SERVICES};
use proto::orders::v1::{Coordination, Order, OrderState};
use tonic::{Code, Status};

use crate::{
    pages::until_metric,
    shop::{Shop, request, until},
};

const ORDERS: i64 = 50;
/// The services' own, and a little for the process to end.
const DRAIN_LIMIT: Duration = Duration::from_secs(12);

pub(crate) async fn products(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(ORDERS).await?;
    assert!(shop.stack.sigterm(Part::Products).await?.success());
    let placed = place_many(&shop, &product).await?;
    assert_still_pending(&shop, &placed).await?;
    shop.stack.start(Part::Products).await?;
    all_confirmed(&shop, &product, &placed).await
}

pub(crate) async fn delivery(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(ORDERS).await?;
    assert!(shop.stack.sigterm(Part::Delivery).await?.success());
    let placed = place_many(&shop, &product).await?;
    assert_still_pending(&shop, &placed).await?;
    shop.stack.start(Part::Delivery).await?;
    all_confirmed(&shop, &product, &placed).await
}

pub(crate) async fn orchestrator(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(ORDERS).await?;
    assert!(shop.stack.sigterm(Part::Orchestrator).await?.success());
    let placed = place_many(&shop, &product).await?;
    assert_still_pending(&shop, &placed).await?;
    shop.stack.start(Part::Orchestrator).await?;
    all_confirmed(&shop, &product, &placed).await
}

pub(crate) async fn relay(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(ORDERS).await?;
    shop.stack.kill9(Part::Relay).await?;
    let placed = place_many(&shop, &product).await?;
    assert_still_pending(&shop, &placed).await?;
    shop.stack.start(Part::Relay).await?;
    all_confirmed(&shop, &product, &placed).await
}

pub(crate) async fn kafka(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(ORDERS).await?;
    shop.stack.sigterm(Part::Kafka).await?;
    let placed = place_many(&shop, &product).await?;
    assert_still_pending(&shop, &placed).await?;
    shop.stack.start(Part::Kafka).await?;
    all_confirmed(&shop, &product, &placed).await
}

pub(crate) async fn stop_without_kafka(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(ORDERS).await?;
    shop.stack.sigterm(Part::Kafka).await?;
    // Both styles at once: it is the services that have to stop, whatever they are in the middle of.
    let mut placed = place_many_of(&shop, &product, ORDERS / 2).await?;
    let orchestrated = shop.clone().in_style(Coordination::Orchestration);
    placed.extend(place_many_of(&orchestrated, &product, ORDERS / 2).await?);
    for part in SERVICES {
        let asked = Instant::now();
        let status = shop.stack.sigterm(part).await?;
        assert!(status.success(), "{part:?} ended with {status}");
        assert!(asked.elapsed() < DRAIN_LIMIT, "{part:?} took {:?}", asked.elapsed());
        shop.stack.start(part).await?;
    }
    shop.stack.start(Part::Kafka).await?;
    all_confirmed(&shop, &product, &placed).await
}

pub(crate) async fn postgres(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(ORDERS).await?;
    let before = place_many_of(&shop, &product, ORDERS / 2).await?;
    shop.stack.sigterm(Part::Postgres).await?;
    let refused = shop.place(&product, 1).await.expect_err("there is no database to keep it");
    assert_eq!(refused.code(), Code::Unavailable);
    let measured = [
        (Part::Orders, "saga_measured"),
        (Part::Orders, "inbox_measured"),
        (Part::Delivery, "inbox_measured"),
        (Part::Relay, "outbox_measured"),
    ];
    for (part, gauge) in measured {
        until_metric(&shop, part, gauge, |measured| measured == 0.0).await?;
    }
    shop.stack.start(Part::Postgres).await?;
    for (part, gauge) in measured {
        until_metric(&shop, part, gauge, |measured| measured >= 1.0).await?;
    }
    let mut placed = before;
    // The connections of before are found dead one by one; a caller tries again on UNAVAILABLE.
    placed.extend(try_join_all((0..ORDERS / 2).map(|_| place_patiently(&shop, &product))).await?);
    all_confirmed(&shop, &product, &placed).await
}

/// A consumer that does not come back from a batch, and so does not poll: only how long that has been can say it.
pub(crate) async fn stuck_consumer(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(1).await?;
    let age = "messaging_consumer_last_poll_age_seconds";
    let part = shop.by_style(Part::Products, Part::Orchestrator);
    until_metric(&shop, part, age, |seconds| seconds < 2.0).await?;
    let database = shop.database(part).await?;
    let mut holder = database.begin().await?;
    sqlx::query("lock table messaging.trail").execute(&mut *holder).await?;
    let order = shop.place(&product, 1).await?;
    until_metric(&shop, part, age, |seconds| seconds > 4.0).await?;
    assert_eq!(shop.order(&order.order_id).await?.state(), OrderState::Pending);
    holder.rollback().await?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    until_metric(&shop, part, age, |seconds| seconds < 2.0).await
}

pub(crate) async fn kill_everything_in_turn(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5 * ORDERS).await?;
    let mut placed = Vec::new();
    for part in SERVICES.into_iter().chain([Part::Relay]) {
        let load = async { join_all((0..ORDERS).map(|_| place_patiently(&shop, &product))).await };
        let fault = async {
            shop.stack.kill9(part).await?;
            shop.stack.start(part).await
        };
        let (orders, restarted) = tokio::join!(load, fault);
        restarted?;
        placed.extend(orders.into_iter().collect::<Result<Vec<_>, _>>()?);
    }
    all_confirmed(&shop, &product, &placed).await
}

async fn place_many(shop: &Shop, product: &str) -> Result<Vec<Order>, Status> {
    place_many_of(shop, product, ORDERS).await
}

async fn place_many_of(shop: &Shop, product: &str, count: i64) -> Result<Vec<Order>, Status> {
    try_join_all((0..count).map(|_| shop.place(product, 1))).await
}

/// As a client does: the same request again while the service is away.
async fn place_patiently(shop: &Shop, product: &str) -> anyhow::Result<Order> {
    let request = request(&[(product, 1)]);
    until("the order is accepted", async || {
        shop.place_request(request.clone()).await.map_err(|status| match status.code() {
            // The connection may also break in the middle of the call.
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Unknown
            | Code::Cancelled
            | Code::Internal => anyhow::Error::new(status),
            _ => panic!("{status:?}"),
        })
    })
    .await
}

async fn assert_still_pending(shop: &Shop, placed: &[Order]) -> anyhow::Result<()> {
    for order in placed {
        assert_eq!(shop.order(&order.order_id).await?.state(), OrderState::Pending);
    }
    Ok(())
}

/// Every order is confirmed, and each has taken its piece once.
async fn all_confirmed(shop: &Shop, product: &str, placed: &[Order]) -> anyhow::Result<()> {
    let confirmed =
        placed.iter().map(|order| shop.until_order(&order.order_id, OrderState::Confirmed));
    try_join_all(confirmed).await?;
    shop.until_stock(product, 0).await?;
    shop.until_replica(product, 0).await
}
