//! Two consumers of one service on the same messages, as a rebalance may have it: nothing is done twice, no row is
//! overwritten.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chassis::{
    cause::{Cause, Coordination},
    policy::{Book as _, Policy as _, SaveError},
    trail::Outcome,
};
use products::{
    book::{Book, Wants},
    policies,
};
use sqlx::{Connection as _, PgConnection};
use tokio::{sync::Barrier, task::JoinSet};
use uuid::Uuid;

use crate::shop::{self, Shop};

const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_inboxes_on_the_same_batch_do_everything_once() {
    let mut shop = Shop::open(&[("tv", 10_000), ("clock", 3)]).await;
    let inbox = Arc::new(products::inbox());
    let mut expected = 10_000;
    for _ in 0..ROUNDS {
        let mut batch = Vec::new();
        for index in 0..20 {
            let order_id = Uuid::now_v7();
            match index % 4 {
                0 => batch.push(shop.orders.cancelled(order_id)),
                1 => {
                    batch.push(shop.orders.placed(order_id, &[("tv", 2)]));
                    batch.push(shop.orders.cancelled(order_id));
                }
                2 => batch.push(shop.orders.placed(order_id, &[("clock", 1000)])),
                _ => {
                    batch.push(shop.orders.placed(order_id, &[("tv", 1)]));
                    expected -= 1;
                }
            }
        }
        let (batch, start) = (Arc::new(batch), Arc::new(Barrier::new(2)));
        let mut consumers = JoinSet::new();
        for _ in 0..2 {
            let (inbox, batch, start) = (inbox.clone(), batch.clone(), start.clone());
            let mut conn = shop.database.connection().await;
            consumers.spawn(async move {
                start.wait().await;
                inbox.handle(&mut conn, &batch).await.unwrap()
            });
        }
        let reports = consumers.join_all().await;
        let applied: usize = reports.iter().map(|report| report.count(Outcome::Applied)).sum();
        assert_eq!(applied, batch.len(), "{reports:?}");
        assert_eq!(shop.stock("tv").await, expected);
    }
    let told_twice: i64 = sqlx::query_scalar(
        "select count(*)
         from (select headers ->> 'ce_type', headers ->> 'ce_causationid', key
               from messaging.outbox
               group by 1, 2, 3
               having count(*) > 1) as twice",
    )
    .fetch_one(shop.pool())
    .await
    .unwrap();
    assert_eq!(told_twice, 0);
    let gaps: i64 = sqlx::query_scalar(
        "select count(*)
         from (select version - lag(version) over (order by seq) as step
               from (select seq, (convert_from(payload, 'UTF8')::jsonb ->> 'version')::bigint as version
                     from messaging.outbox
                     where key = 'tv') as told) as steps
         where step <> 1",
    )
    .fetch_one(shop.pool())
    .await
    .unwrap();
    assert_eq!(gaps, 0);
}

/// The first half of handling a placement: the rows are loaded and it is decided, but nothing is written yet.
async fn decided(conn: &mut PgConnection, order_id: Uuid, wanted: &[(&str, i32)]) -> Book {
    let event = shop::order_placed(order_id, wanted);
    let mut wants = Wants::default();
    policies::OrderPlaced.wants(&event, &mut wants).unwrap();
    let mut book = Book::load(conn, &wants).await.unwrap();
    let cause: Cause = shop::act_of_orders(order_id, Coordination::Choreography);
    policies::OrderPlaced.react(&event, &mut book, &cause).unwrap();
    book
}

#[tokio::test]
async fn a_new_row_is_not_written_over_one_that_came_meanwhile() {
    let mut shop = Shop::open(&[("tv", 10)]).await;
    let order_id = Uuid::now_v7();
    let mut conn = shop.database.connection().await;
    let mut slow = conn.begin().await.unwrap();
    // There is no row to lock yet, of order or product.
    let book = decided(&mut slow, order_id, &[("unheard-of", 1)]).await;
    let cancelled = shop.orders.cancelled(order_id);
    shop.hears(&[cancelled]).await;
    let saved = book.save(&mut slow).await;
    assert!(matches!(saved, Err(SaveError::Conflict)), "{saved:?}");
    slow.rollback().await.unwrap();
    assert_eq!(shop.state(order_id).await.as_deref(), Some("TOMBSTONE"));
}

#[tokio::test]
async fn a_changed_row_is_not_written_over_another_version() {
    let shop = Shop::open(&[("tv", 10)]).await;
    let mut conn = shop.database.connection().await;
    let mut slow = conn.begin().await.unwrap();
    let book = decided(&mut slow, Uuid::now_v7(), &[("tv", 1)]).await;
    // Only this transaction can: the row is locked.
    sqlx::query("update products set stock = 4, version = version + 1")
        .execute(&mut *slow)
        .await
        .unwrap();
    let saved = book.save(&mut slow).await;
    assert!(matches!(saved, Err(SaveError::Conflict)), "{saved:?}");
}

#[tokio::test]
async fn a_reservation_is_not_moved_on_from_another_version() {
    let mut shop = Shop::open(&[("tv", 10)]).await;
    let order_id = Uuid::now_v7();
    let placed = shop.orders.placed(order_id, &[("tv", 1)]);
    shop.hears(&[placed]).await;
    let mut conn = shop.database.connection().await;
    let mut slow = conn.begin().await.unwrap();
    let event = shop::order_cancelled(order_id);
    let mut wants = Wants::default();
    policies::OrderCancelled.wants(&event, &mut wants).unwrap();
    let mut book = Book::load(&mut slow, &wants).await.unwrap();
    let cause = shop::act_of_orders(order_id, Coordination::Choreography);
    policies::OrderCancelled.react(&event, &mut book, &cause).unwrap();
    sqlx::query("update reservations set version = version + 1").execute(&mut *slow).await.unwrap();
    let saved = book.save(&mut slow).await;
    assert!(matches!(saved, Err(SaveError::Conflict)), "{saved:?}");
}

#[tokio::test]
async fn whoever_comes_second_waits_for_the_rows_it_needs() {
    let mut shop = Shop::open(&[("tv", 1)]).await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let mut conn = shop.database.connection().await;
    let mut slow = conn.begin().await.unwrap();
    let book = decided(&mut slow, first, &[("tv", 1)]).await;
    let placed = shop.orders.placed(second, &[("tv", 1)]);
    let other = shop.hears(std::slice::from_ref(&placed));
    let slow = async {
        waited_for(shop.pool()).await;
        book.save(&mut slow).await.unwrap();
        slow.commit().await.unwrap();
    };
    tokio::join!(other, slow);
    assert_eq!(shop.stock("tv").await, 0);
    assert_eq!(shop.state(first).await.as_deref(), Some("RESERVED"));
    assert_eq!(shop.state(second).await.as_deref(), Some("REJECTED"));
}

/// Until a transaction of this database waits for a lock; not for ever, in case none does.
async fn waited_for(pool: &sqlx::PgPool) {
    let give_up = Instant::now() + Duration::from_secs(20);
    let waiting = "select exists (
                       select from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(pool).await.unwrap() {
        assert!(Instant::now() < give_up, "nobody waits for the rows");
        tokio::task::yield_now().await;
    }
}
