//! The outbox keeps the order of the decisions.

use std::sync::Arc;

use chassis::{cause::Cause, clock, outbox, telemetry::TraceContext};
use sqlx::Connection as _;
use tokio::{sync::Barrier, task::JoinSet};
use uuid::Uuid;

use crate::{diary::Diary, diary::in_time, letter::Echo};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sequence_follows_the_order_of_appending_whoever_appends_beside() {
    let diary = Diary::open().await;
    let start = Arc::new(Barrier::new(4));
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (start, mut conn) = (start.clone(), diary.db.connection().await);
        tasks.spawn(async move {
            let cause =
                Cause::local("diary", "Test", Uuid::now_v7(), TraceContext::random(), clock::now());
            // Random ids, so that no other order than the given one can come out.
            let events: Vec<_> = (0..500)
                .map(|_| cause.emit_as(Uuid::new_v4(), &Echo::new(cause.id, "text")).unwrap())
                .collect();
            start.wait().await;
            let mut tx = conn.begin().await.unwrap();
            for part in events.chunks(170) {
                outbox::append(&mut tx, part).await.unwrap();
            }
            tx.commit().await.unwrap();
            (cause.id, events.into_iter().map(|event| event.event_id).collect::<Vec<_>>())
        });
    }
    for (writer, appended) in in_time(tasks.join_all()).await {
        let kept: Vec<Uuid> =
            sqlx::query_scalar("select event_id from messaging.outbox where key = $1 order by seq")
                .bind(writer.to_string())
                .fetch_all(diary.pool())
                .await
                .unwrap();
        assert_eq!(kept, appended);
    }
}

#[tokio::test]
async fn what_is_rolled_back_was_never_told() {
    let diary = Diary::open().await;
    let cause = Cause::local("diary", "Test", Uuid::now_v7(), TraceContext::random(), clock::now());
    let mut conn = diary.db.connection().await;
    let mut tx = conn.begin().await.unwrap();
    let event = cause.emit(&Echo::new(cause.id, "text")).unwrap();
    outbox::append(&mut tx, &[event]).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(diary.count("messaging.outbox").await, 0);
}
