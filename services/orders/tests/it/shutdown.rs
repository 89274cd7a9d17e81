//! Told to stop under load: what was acknowledged is there, streams end, and the program ends well and in time.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use proto::orders::v1::{WatchOrderRequest, order_service_client::OrderServiceClient};
use tokio::task::JoinSet;
use tonic::Code;
use uuid::Uuid;

use crate::{
    program::Program,
    shop::{Shop, id, in_time, wants},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_acknowledged_order_is_lost_and_streams_end() {
    let shop = Shop::open().await;
    let watched = shop.placed().await.to_string();
    let program = Program::start(&shop.db);
    let mut watches = Vec::new();
    for _ in 0..5 {
        let mut client = OrderServiceClient::new(program.channel().await);
        let request = WatchOrderRequest { order_id: watched.clone(), after_revision: 0 };
        let mut stream = client.watch_order(request).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        watches.push(stream);
    }
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let mut client = OrderServiceClient::new(program.channel().await);
        callers.spawn(async move {
            let mut acknowledged: Vec<Uuid> = Vec::new();
            loop {
                match client.place_order(wants(&[("tv", 1)])).await {
                    Ok(answer) => acknowledged.push(id(&answer.into_inner().order.unwrap())),
                    Err(_) => return acknowledged,
                }
            }
        });
    }
    in_time(async { while shop.count("orders").await < 200 {} }).await;
    let told = Instant::now();
    program.signal(Signal::SIGTERM);
    for mut stream in watches {
        let status = in_time(stream.message()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    let acknowledged: Vec<Uuid> = in_time(callers.join_all()).await.into_iter().flatten().collect();
    let log = program.log.clone();
    let status = in_time(program.ended()).await;
    let log = log.lock().unwrap().join("\n");
    assert!(status.success(), "{status}: {log}");
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}: {log}", told.elapsed());
    assert!(!log.contains("cut off"), "{log}");

    assert!(acknowledged.len() > 100);
    let kept: Vec<Uuid> =
        sqlx::query_scalar("select order_id from orders").fetch_all(shop.pool()).await.unwrap();
    let kept: HashSet<Uuid> = kept.into_iter().collect();
    assert!(acknowledged.iter().all(|order_id| kept.contains(order_id)));
    assert_eq!(shop.count("messaging.outbox").await, kept.len() as i64);
    assert_eq!(shop.count("order_transitions").await, kept.len() as i64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_does_not_end_is_cut_off_at_the_limit() {
    let shop = Shop::open().await;
    let program = Program::with(&shop.db, |command| {
        command.env("DRAIN_LIMIT", "1s");
    });
    let mut client = OrderServiceClient::new(program.channel().await);
    let mut other = shop.db.connection().await;
    let mut tx = sqlx::Connection::begin(&mut other).await.unwrap();
    sqlx::query("lock table orders in access exclusive mode").execute(&mut *tx).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { client.place_order(wants(&[("tv", 1)])).await.map(|_| ()) });
    let waiting = "select count(*) > 0 from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock' and query like 'insert into orders%'";
    in_time(async {
        while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(shop.pool()).await.unwrap() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let told = Instant::now();
    program.signal(Signal::SIGTERM);
    let status = in_time(program.ended()).await;
    assert!(told.elapsed() < Duration::from_secs(8), "{:?}", told.elapsed());
    assert!(status.success(), "{status}");
    in_time(tasks.join_all()).await[0].as_ref().unwrap_err();
}
