//! The same workload in both styles ends in the same orders, stock and deliveries, so long as nothing in it races.

use anyhow::bail;
use local::Part;
use proto::{
    delivery::v1::{
        CompleteDeliveryRequest, DeliveryState, DispatchDeliveryRequest, FailDeliveryRequest,
    },
    orders::v1::{CancelReason, Coordination, OrderState},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::shop::{Shop, request, until};

const PRODUCTS: usize = 3;
const STOCK: i64 = 12;
const ORDERS: usize = 25;

/// One order, and what befalls it once it has settled.
#[derive(Clone, Debug)]
struct Case {
    lines: Vec<(usize, i32)>,
    /// Away while the order is placed.
    away: Option<Part>,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    Cancel,
    Fail,
    Dispatch,
    DispatchAndCancel,
    Complete,
}

/// How an order ended. A delivery that was never opened, was called off or has failed is the same: no goods have left.
#[derive(Debug, PartialEq, Eq)]
struct End {
    state: OrderState,
    reason: CancelReason,
    cancel_refused: bool,
    delivery: Option<DeliveryState>,
}

pub(crate) async fn equal(shop: Shop) -> anyhow::Result<()> {
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let cases: Vec<Case> = (0..ORDERS).map(|_| case(&mut random)).collect();
    let mut styles = Vec::new();
    for style in [Coordination::Choreography, Coordination::Orchestration] {
        let shop = shop.clone().in_style(style);
        styles.push(play(&shop, &cases).await.map_err(|it| it.context(format!("seed {seed}")))?);
    }
    let ends = cases.iter().zip(styles[0].0.iter().zip(&styles[1].0));
    for (number, (case, (choreographed, orchestrated))) in ends.enumerate() {
        assert_eq!(choreographed, orchestrated, "seed {seed}, order {number}: {case:?}");
    }
    assert_eq!(styles[0].1, styles[1].1, "the stock, seed {seed}");
    Ok(())
}

fn case(random: &mut StdRng) -> Case {
    let first = random.random_range(0..PRODUCTS);
    let several = random.random_bool(0.3);
    let products = (0..PRODUCTS).filter(|product| *product == first || several);
    let away = [Part::Products, Part::Delivery][random.random_range(0..2)];
    let then = [
        Then::Nothing,
        Then::Cancel,
        Then::Cancel,
        Then::Fail,
        Then::Dispatch,
        Then::DispatchAndCancel,
        Then::Complete,
    ];
    Case {
        lines: products.map(|product| (product, random.random_range(1..=4))).collect(),
        away: random.random_bool(0.15).then_some(away),
        then: then[random.random_range(0..then.len())],
    }
}

async fn play(shop: &Shop, cases: &[Case]) -> anyhow::Result<(Vec<End>, Vec<i64>)> {
    let mut products = Vec::new();
    for _ in 0..PRODUCTS {
        products.push(shop.product(STOCK).await?);
    }
    let (mut ends, mut left) = (Vec::new(), vec![STOCK; PRODUCTS]);
    for case in cases {
        let lines: Vec<_> = case
            .lines
            .iter()
            .map(|(product, pieces)| (products[*product].as_str(), *pieces))
            .collect();
        if let Some(away) = case.away {
            assert!(shop.stack.sigterm(away).await?.success());
        }
        let order_id = shop.place_request(request(&lines)).await?.order_id;
        if let Some(away) = case.away {
            shop.stack.start(away).await?;
        }
        if decided(shop, &order_id).await? == OrderState::Confirmed {
            shop.until_delivery(&order_id, DeliveryState::Ready).await?;
            befall(shop, &order_id, case.then).await?;
        }
        let end = end(shop, &order_id).await?;
        if end.state != OrderState::Cancelled {
            for (product, pieces) in &case.lines {
                left[*product] -= i64::from(*pieces);
            }
        }
        // What was taken for a cancelled order has come back before the next one looks.
        for (product, left) in products.iter().zip(&left) {
            shop.until_stock(product, *left).await?;
            shop.until_replica(product, *left).await?;
        }
        ends.push(end);
    }
    Ok((ends, left))
}

async fn befall(shop: &Shop, order_id: &str, then: Then) -> anyhow::Result<()> {
    let mut delivery = shop.delivery.clone();
    let order_id = order_id.to_owned();
    let dispatch = DispatchDeliveryRequest { order_id: order_id.clone(), ..Default::default() };
    match then {
        Then::Nothing => {}
        Then::Cancel => {
            shop.cancel(&order_id).await?;
            shop.until_order(&order_id, OrderState::Cancelled).await?;
        }
        Then::Fail => {
            let fail = FailDeliveryRequest { order_id: order_id.clone(), ..Default::default() };
            delivery.fail_delivery(fail).await?;
            shop.until_order(&order_id, OrderState::Cancelled).await?;
        }
        Then::Dispatch => {
            delivery.dispatch_delivery(dispatch).await?;
        }
        Then::DispatchAndCancel => {
            delivery.dispatch_delivery(dispatch).await?;
            shop.cancel(&order_id).await?;
            shop.until_order(&order_id, OrderState::Confirmed).await?;
        }
        Then::Complete => {
            delivery.dispatch_delivery(dispatch).await?;
            let complete =
                CompleteDeliveryRequest { order_id: order_id.clone(), ..Default::default() };
            delivery.complete_delivery(complete).await?;
            shop.until_order(&order_id, OrderState::Completed).await?;
        }
    }
    Ok(())
}

async fn decided(shop: &Shop, order_id: &str) -> anyhow::Result<OrderState> {
    until(&format!("{order_id} is decided"), async || match shop.order(order_id).await?.state() {
        OrderState::Pending => bail!("it is not"),
        state => Ok(state),
    })
    .await
}

/// How it ended, once delivery has called off what was cancelled.
async fn end(shop: &Shop, order_id: &str) -> anyhow::Result<End> {
    let order = shop.order(order_id).await?;
    let is_cancelled = order.state() == OrderState::Cancelled;
    let delivery = until(&format!("the delivery of {order_id} is as its order"), async || {
        let delivery = shop.delivery_of(order_id).await.ok().map(|delivery| delivery.state());
        let delivery = delivery
            .filter(|state| !matches!(state, DeliveryState::Cancelled | DeliveryState::Failed));
        if is_cancelled && delivery.is_some() { bail!("it is {delivery:?}") } else { Ok(delivery) }
    })
    .await?;
    Ok(End {
        state: order.state(),
        reason: order.cancel_reason(),
        cancel_refused: order.cancel_refused,
        delivery,
    })
}
