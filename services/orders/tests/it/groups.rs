//! Orders that share a commit: one's failure or departure is not another's.

use std::collections::HashSet;

use proto::orders::v1::PlaceOrderRequest;
use tonic::{Code, Status};

use crate::shop::{Shop, id, in_time, named, wants};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_three_hundred_at_once_the_bad_ones_are_refused_alone() {
    let shop = Shop::open().await;
    let calls = (0..300).map(|index| {
        let product = if index % 7 == 3 { "radio" } else { "tv" };
        let request_id = if index % 2 == 0 { String::new() } else { format!("r-{index}") };
        shop.place(PlaceOrderRequest { request_id, ..wants(&[(product, 1)]) })
    });
    let answers = in_time(futures::future::join_all(calls)).await;
    let mut placed = HashSet::new();
    for (index, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(order) => assert!(index % 7 != 3 && placed.insert(id(&order))),
            Err(status) => {
                assert_eq!(index % 7, 3);
                assert_eq!(named(&status), ["lines[0].product_id"]);
            }
        }
    }
    assert_eq!(placed.len(), 257);
    for table in ["orders", "order_transitions", "messaging.outbox", "messaging.trail"] {
        assert_eq!(shop.count(table).await, 257, "{table}");
    }
    let commits: i64 = sqlx::query_scalar("select count(distinct xid::text) from messaging.outbox")
        .fetch_one(shop.pool())
        .await
        .unwrap();
    assert!(commits < 100, "{commits} commits for 257 orders are no groups");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_order_that_the_database_refuses_fails_alone() {
    let shop = Shop::open().await;
    sqlx::query("alter table orders add constraint no_luck check (customer_name <> 'jinx')")
        .execute(shop.pool())
        .await
        .unwrap();
    let calls = (0..60).map(|index| {
        let mut request = wants(&[("tv", 1)]);
        if index == 30 {
            request.customer.as_mut().unwrap().name = "jinx".to_owned();
        }
        shop.place(request)
    });
    let answers = in_time(futures::future::join_all(calls)).await;
    let failed: Vec<(usize, Status)> = answers
        .into_iter()
        .enumerate()
        .filter_map(|(index, answer)| Some((index, answer.err()?)))
        .collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!((failed[0].0, failed[0].1.code()), (30, Code::Internal));
    assert_eq!(failed[0].1.message(), "internal error");
    assert_eq!(shop.count("orders").await, 59);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_go_away_do_not_take_the_others_with_them() {
    let shop = Shop::open().await;
    for round in 0..10 {
        let staying = (0..20).map(|_| shop.place(wants(&[("tv", 1)])));
        let leaving = (0..20).map(|_| shop.place(wants(&[("clock", 1)])));
        let mut leaving = Box::pin(futures::future::join_all(leaving));
        // They have left their orders at the intake, and go before they are answered.
        let polled = futures::poll!(leaving.as_mut());
        assert!(polled.is_pending());
        let staying = futures::future::join_all(staying);
        drop(leaving);
        for answer in in_time(staying).await {
            answer.unwrap();
        }
        let tvs: i64 = sqlx::query_scalar(
            "select count(*) from orders where lines @> '[{\"product_id\": \"tv\"}]'",
        )
        .fetch_one(shop.pool())
        .await
        .unwrap();
        assert_eq!(tvs, 20 * (round + 1));
    }
    // Whoever left may have an order or not; whoever has one has been told of.
    let (orders, told) = (shop.count("orders").await, shop.count("messaging.outbox").await);
    assert_eq!(orders, told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_database_goes_away_everybody_is_told_at_once_to_try_again() {
    let shop = Shop::open().await;
    // Every connection breaks as soon as it places an order.
    sqlx::raw_sql(
        "create function break() returns trigger language plpgsql as $$
         begin
             perform pg_terminate_backend(pg_backend_pid());
             return new;
         end $$;
         create trigger break before insert on orders for each row execute function break();",
    )
    .execute(shop.pool())
    .await
    .unwrap();
    let calls = (0..50).map(|index| {
        let request_id = format!("r-{index}");
        shop.place(PlaceOrderRequest { request_id, ..wants(&[("tv", 1)]) })
    });
    let answers = in_time(futures::future::join_all(calls)).await;
    for answer in answers {
        assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
    }
    sqlx::raw_sql("drop trigger break on orders").execute(shop.pool()).await.unwrap();
    let request = PlaceOrderRequest { request_id: "r-0".to_owned(), ..wants(&[("tv", 1)]) };
    in_time(shop.place(request)).await.unwrap();
    assert_eq!(shop.count("orders").await, 1);
}
