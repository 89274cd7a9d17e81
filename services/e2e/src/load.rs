//! The load is an open loop: orders come at a fixed rate whatever the shop does, and are measured from the moment at which
//! each was due, so that a shop that stands still is not asked less, nor looks faster.

use std::{sync::Arc, time::Duration};

use clap::Args;
use proto::products::v1::AdjustStockRequest;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    arena::Arena,
    customer::{self, Plan, Wish},
    supplier,
    tally::Tally,
};

/// What is not to be had: a product with nothing in stock.
const SOLD_OUT: &str = "sold-out";
const CHANNELS: usize = 4;

/// What the load is like.
#[derive(Args, Clone, Debug)]
pub struct Shape {
    /// Orders a second.
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    pub rate: f64,

    /// Products that the orders are spread over.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub products: u32,

    /// Let every order be of one product instead.
    #[arg(long)]
    pub hot: bool,

    /// Share of the orders that ask for what is not in stock.
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    pub short: f64,

    /// Share of the orders that the orchestrator drives; the services coordinate the others among themselves.
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub orchestrated: f64,

    /// Share of the orders that are followed by a stream; the others are asked for.
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub watched: f64,

    /// Share of the orders that their customer cancels, half of them at once and half when they are confirmed.
    #[arg(long, default_value_t = 0.25, value_parser = share)]
    pub cancelled: f64,

    /// Share of the orders whose delivery the warehouse moves on: dispatches, completes, fails, or dispatches while the
    /// customer cancels.
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub delivered: f64,

    /// How often the stock of a product is adjusted, beside the orders: for this share of them.
    #[arg(long, default_value_t = 0.05, value_parser = share)]
    pub restocked: f64,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("is not from 0 to 1".to_owned()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    if rate > 0.0 && rate <= 10_000.0 {
        Ok(rate)
    } else {
        Err("is not above 0 and at most 10000".to_owned())
    }
}

/// Makes the products that the load orders.
pub async fn stock_up(arena: &Arena, shape: &Shape) -> anyhow::Result<()> {
    arena.product(SOLD_OUT, 0).await?;
    for number in 0..shape.products {
        arena.product(&product(number), 1_000_000).await?;
    }
    Ok(())
}

fn product(number: u32) -> String {
    format!("thing-{number}")
}

/// Sends orders for so long or until told to stop; then waits for those that are under way, until `give_up`. Errors: it is not
/// known by then what has become of the stock.
pub async fn run(
    arena: &Arc<Arena>,
    shape: &Shape,
    seed: u64,
    lasts: Duration,
    tally: &Arc<Tally>,
    stop: &CancellationToken,
    give_up: &CancellationToken,
) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut customers, mut suppliers) = (JoinSet::new(), JoinSet::new());
    let products = arena.products()?;
    let channels = (0..CHANNELS).map(|_| Ok((arena.orders()?, arena.delivery()?)));
    let channels = channels.collect::<anyhow::Result<Vec<_>>>()?;
    let begin = Instant::now();
    for number in 0_u32.. {
        let due = begin + Duration::from_secs_f64(f64::from(number) / shape.rate);
        if due > begin + lasts {
            break;
        }
        tokio::select! {
            () = sleep_until(due) => {}
            () = stop.cancelled() => break,
        }
        let plan = plan(&mut random, shape, seed, number);
        let (orders, delivery) = channels[number as usize % CHANNELS].clone();
        if let Some(request) = adjustment(&mut random, shape, &plan) {
            let (arena, products, tally) = (Arc::clone(arena), products.clone(), Arc::clone(tally));
            let life = supplier::adjust(arena, products, request, tally);
            suppliers.spawn(give_up.clone().run_until_cancelled_owned(life));
        }
        let (arena, tally) = (Arc::clone(arena), Arc::clone(tally));
        let life = customer::live(arena, orders, delivery, plan, due, tally);
        customers.spawn(give_up.clone().run_until_cancelled_owned(life));
        while customers.try_join_next().is_some() {}
    }
    while customers.join_next().await.is_some() {}
    while let Some(adjusted) = suppliers.join_next().await {
        anyhow::ensure!(adjusted?.is_some(), "products never said whether the stock was adjusted");
    }
    Ok(())
}

/// Goods that come or go beside an order; what is sold out stays so.
fn adjustment(random: &mut StdRng, shape: &Shape, plan: &Plan) -> Option<AdjustStockRequest> {
    let wanted = random.random_bool(shape.restocked) && plan.product_id != SOLD_OUT;
    let pieces = random.random_range(1..=20);
    wanted.then(|| AdjustStockRequest {
        request_id: format!("adjust-{}", plan.request_id),
        product_id: plan.product_id.clone(),
        delta: if random.random_bool(0.5) { pieces } else { -pieces },
    })
}

fn plan(random: &mut StdRng, shape: &Shape, seed: u64, number: u32) -> Plan {
    let product_id = if random.random_bool(shape.short) {
        SOLD_OUT.to_owned()
    } else {
        product(if shape.hot { 0 } else { random.random_range(0..shape.products) })
    };
    let fate: f64 = random.random();
    let moved = shape.cancelled + (1.0 - shape.cancelled) * shape.delivered;
    let wish = if fate < shape.cancelled {
        [Wish::CancelAtOnce, Wish::CancelLater][random.random_range(0..2)]
    } else if fate < moved {
        [Wish::Dispatch, Wish::Complete, Wish::Fail, Wish::DispatchAndCancel]
            [random.random_range(0..4)]
    } else {
        Wish::Keep
    };
    Plan {
        request_id: format!("chaos-{seed}-{number}"),
        product_id,
        quantity: random.random_range(1..=3),
        orchestrated: random.random_bool(shape.orchestrated),
        watched: random.random_bool(shape.watched),
        sent_again: random.random_bool(0.05),
        wish,
    }
}
