//! Orders settled per second, everything on one machine: places them as fast as they are accepted, and waits until every
//! one is CONFIRMED. Without tracing and with all of it, in turn, the collector on the same machine too. Run by
//! `make bench`; absolute numbers describe the machine.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

#[path = "settled/counter.rs"]
mod counter;

use std::{
    sync::Arc,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use counter::Counter;
use futures::future::try_join_all;
use local::{DataDir, Options, Part, Progress, Stack};
use proto::{
    google::r#type::Money,
    orders::v1::{
        Customer, ListOrdersRequest, OrderState, PlaceOrderLine, PlaceOrderRequest,
        order_service_client::OrderServiceClient,
    },
    products::v1::{CreateProductRequest, product_service_client::ProductServiceClient},
};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tonic::transport::Channel;

const ORDERS: i64 = 50_000;
const ROUNDS: i64 = 2;
const OURS: [Part; 4] = [Part::Orders, Part::Products, Part::Delivery, Part::Relay];
const CALLERS: usize = 128;
const PRODUCTS: i64 = 20;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let collector = Counter::start().await?;
    let stack =
        Stack::up(DataDir::temporary()?, &Options::on_free_ports()?, &Progress::to_stderr())
            .await?;
    stock_up(&stack).await?;
    println!("{ORDERS} orders of {PRODUCTS} products, {CALLERS} callers, {ROUNDS} rounds");
    let mut settled = [Duration::ZERO; 2];
    let mut processor = [[Duration::ZERO; OURS.len()]; 2];
    for round in 0..2 * ROUNDS {
        // Off, on, on, off, ...: whatever grows with the tables meets both.
        let traced = [false, true, true, false][usize::try_from(round)? % 4];
        restart(&stack, if traced { &collector.endpoint } else { "" }).await?;
        let before = collector.count();
        settled[usize::from(traced)] += run(&stack, round).await?;
        for (index, part) in OURS.into_iter().enumerate() {
            processor[usize::from(traced)][index] += processor_time(stack.pid(part)?)?;
        }
        if traced {
            let spans = (collector.count() - before) as f64 / ORDERS as f64;
            println!("  traced, {spans:.1} spans an order collected");
        }
    }
    println!("processor time an order, in microseconds, without and with tracing");
    let micros = |took: Duration| took.as_micros() / (ORDERS * ROUNDS) as u128;
    for (index, part) in OURS.into_iter().enumerate() {
        let [off, on] = processor.map(|parts| micros(parts[index]));
        println!("  {:<12} {off:>4} {on:>4}", format!("{part:?}"));
    }
    let [off, on] = settled.map(|took| (ORDERS * ROUNDS) as f64 / took.as_secs_f64());
    println!("settled per second:              {off:.0}");
    println!("settled per second, all traced:  {on:.0}, {:.2} of that", on / off);
    stack.stop(&Progress::silent()).await?;
    Ok(())
}

/// One load, from the first order to the last one settled.
async fn run(stack: &Stack, round: i64) -> anyhow::Result<Duration> {
    let started = Instant::now();
    place(stack, round).await?;
    let placed = started.elapsed();
    until_settled(stack, (round + 1) * ORDERS).await?;
    let settled = started.elapsed();
    let per_second = |took: Duration| (ORDERS as f64 / took.as_secs_f64()).round();
    println!("accepted per second: {}, settled: {}", per_second(placed), per_second(settled));
    Ok(settled)
}

/// What a process has used of the processors so far, as Linux counts it: in hundredths of a second.
fn processor_time(pid: i32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let (user, system): (u64, u64) = (fields[11].parse()?, fields[12].parse()?);
    Ok(Duration::from_millis(10 * (user + system)))
}

/// Our programs, anew, with their spans sent there.
async fn restart(stack: &Stack, collector: &str) -> anyhow::Result<()> {
    try_join_all(OURS.into_iter().map(async |part| {
        stack.sigterm(part).await?;
        stack.set_env(part, "OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        stack.start(part).await
    }))
    .await?;
    Ok(())
}

async fn stock_up(stack: &Stack) -> anyhow::Result<()> {
    let mut products = ProductServiceClient::connect(stack.grpc_url(Part::Products)).await?;
    for index in 0..PRODUCTS {
        let price = Money { currency_code: "KRW".to_owned(), units: 10_000, nanos: 0 };
        let request = CreateProductRequest {
            product_id: format!("bench-{index}"),
            name: "Bench".to_owned(),
            price: Some(price),
            stock: 2 * ROUNDS * ORDERS,
            ..Default::default()
        };
        products.create_product(request).await?;
    }
    let orders = PgPool::connect(&stack.database_url(Part::Orders)).await?;
    loop {
        let known: i64 = sqlx::query_scalar(
            "select count(*) from product_replicas where product_id like 'bench-%'",
        )
        .fetch_one(&orders)
        .await?;
        if known == PRODUCTS {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn place(stack: &Stack, round: i64) -> anyhow::Result<()> {
    let next = Arc::new(AtomicI64::new(round * ORDERS));
    let mut callers = JoinSet::new();
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(Channel::from_shared(stack.grpc_url(Part::Orders))?.connect().await?);
    }
    for caller in 0..CALLERS {
        let next = Arc::clone(&next);
        let mut orders = OrderServiceClient::new(channels[caller % channels.len()].clone());
        callers.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= (round + 1) * ORDERS {
                    return Ok::<_, tonic::Status>(());
                }
                orders.place_order(request(index)).await?;
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended?.context("place an order")?;
    }
    Ok(())
}

fn request(index: i64) -> PlaceOrderRequest {
    PlaceOrderRequest {
        request_id: format!("bench-{index}"),
        customer: Some(Customer {
            customer_id: format!("{index}@uengine.org"),
            name: "홍길동".to_owned(),
            address: "서울시".to_owned(),
        }),
        lines: vec![PlaceOrderLine {
            product_id: format!("bench-{}", index % PRODUCTS),
            quantity: 1,
        }],
        ..Default::default()
    }
}

async fn until_settled(stack: &Stack, expected: i64) -> anyhow::Result<()> {
    let mut orders = OrderServiceClient::connect(stack.grpc_url(Part::Orders)).await?;
    loop {
        let pending = ListOrdersRequest {
            page_size: 1,
            state: OrderState::Pending.into(),
            ..Default::default()
        };
        if orders.list_orders(pending).await?.into_inner().orders.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pool = PgPool::connect(&stack.database_url(Part::Orders)).await?;
    let confirmed: i64 =
        sqlx::query_scalar("select count(*) from orders where state = 'confirmed'")
            .fetch_one(&pool)
            .await?;
    anyhow::ensure!(confirmed == expected, "{confirmed} of {expected} orders are confirmed");
    Ok(())
}
