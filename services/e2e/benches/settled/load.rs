//! The load: orders are placed as fast as they are accepted, and counted when every one is CONFIRMED.

use std::{
    sync::Arc,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use local::{Part, Stack};
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

/// How many orders one load is.
pub(crate) const ORDERS: i64 = 10_000;
pub(crate) const CALLERS: usize = 128;
const PRODUCTS: i64 = 20;

/// One load, the `round`th: how long it took from the first order to the last one settled.
pub(crate) async fn run(stack: &Stack, round: i64) -> anyhow::Result<Duration> {
    let started = Instant::now();
    place(stack, round).await?;
    until_settled(stack, (round + 1) * ORDERS).await?;
    Ok(started.elapsed())
}

/// Products, enough of them for so many rounds.
pub(crate) async fn stock_up(stack: &Stack, rounds: i64) -> anyhow::Result<()> {
    let mut products = ProductServiceClient::connect(stack.grpc_url(Part::Products)).await?;
    for index in 0..PRODUCTS {
        let price = Money { currency_code: "KRW".to_owned(), units: 10_000, nanos: 0 };
        let request = CreateProductRequest {
            product_id: format!("bench-{index}"),
            name: "Bench".to_owned(),
            price: Some(price),
            stock: rounds * ORDERS,
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
