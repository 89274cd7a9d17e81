//! Two consumers on the same messages, as a rebalance may have it: everything is done once, and nothing is lost.

use std::sync::Arc;

use tokio::{sync::Barrier, task::JoinSet};
use uuid::Uuid;

use crate::diary::{Diary, REFUSED, in_time};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_inboxes_on_the_same_batch_do_everything_once() {
    let mut diary = Diary::open().await;
    let mut old: Vec<Uuid> = Vec::new();
    for round in 0..30 {
        let new: Vec<Uuid> = (0..6).map(|_| Uuid::now_v7()).collect();
        let mut batch = Vec::new();
        for order in new.iter().chain(&old) {
            batch.push(diary.letter(*order, &format!("{round}-1")));
            batch.push(diary.letter(*order, &format!("{round}-2")));
        }
        // One of them parks, in both.
        let refused = diary.letter(new[0], REFUSED);
        batch.push(refused);
        let (batch, start) = (Arc::new(batch), Arc::new(Barrier::new(2)));
        let mut tasks = JoinSet::new();
        for _ in 0..2 {
            let (inbox, batch, start) = (diary.inbox.clone(), batch.clone(), start.clone());
            let mut conn = diary.db.connection().await;
            tasks.spawn(async move {
                start.wait().await;
                inbox.handle(&mut conn, &batch).await.unwrap();
            });
        }
        in_time(tasks.join_all()).await;
        for order in &new {
            let expected = [format!("{round}-1"), format!("{round}-2")];
            assert_eq!(diary.heard(*order).await, expected, "round {round}");
            assert_eq!(diary.echoed(*order).await, expected, "round {round}");
        }
        assert_eq!(diary.parked(&new[0].to_string()).await.len(), 1, "round {round}");
        old = new[1..].to_vec();
        for order in &old {
            sqlx::query("update pages set heard = '{}' where order_id = $1")
                .bind(order)
                .execute(diary.pool())
                .await
                .unwrap();
            sqlx::query("delete from messaging.outbox where key = $1")
                .bind(order.to_string())
                .execute(diary.pool())
                .await
                .unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_that_meet_in_opposite_order_both_end() {
    let mut diary = Diary::open().await;
    let orders: Vec<Uuid> = (0..8).map(|_| Uuid::now_v7()).collect();
    let mut expected = 0;
    for round in 0..20 {
        let (forth, back) = (format!("forth {round}"), format!("back {round}"));
        let forth: Vec<_> = orders.iter().map(|order| diary.letter(*order, &forth)).collect();
        let back: Vec<_> = orders.iter().rev().map(|order| diary.letter(*order, &back)).collect();
        expected += 2;
        let start = Arc::new(Barrier::new(2));
        let mut tasks = JoinSet::new();
        for batch in [forth, back] {
            let (inbox, start) = (diary.inbox.clone(), start.clone());
            let mut conn = diary.db.connection().await;
            tasks.spawn(async move {
                start.wait().await;
                inbox.handle(&mut conn, &batch).await.unwrap();
            });
        }
        in_time(tasks.join_all()).await;
    }
    for order in orders {
        assert_eq!(diary.heard(order).await.len(), expected);
    }
}
