//! Parked messages, handled again when the cause is gone: in order, once, and together with what comes meanwhile.

use std::sync::Arc;

use chassis::policy::Refused;
use tokio::{sync::Barrier, task::JoinSet};
use uuid::Uuid;

use crate::diary::{Diary, REFUSED, in_time};

#[tokio::test]
async fn a_retry_handles_a_key_in_order_once_the_cause_is_gone() {
    let mut diary = Diary::open().await;
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    let batch = [
        diary.letter(a, REFUSED),
        diary.letter(a, "a2"),
        diary.letter(b, REFUSED),
        diary.letter(a, "a3"),
    ];
    diary.hear(&batch).await;
    let key = a.to_string();
    assert_eq!(diary.retry(&key).await, (0, Err(Refused::because("the diary is closed"))));
    assert_eq!(diary.parked(&key).await.len(), 3);
    assert_eq!(diary.heard(a).await, [""; 0]);

    diary.refuse(false);
    assert_eq!(diary.retry(&key).await, (3, Ok(())));
    assert_eq!(diary.heard(a).await, [REFUSED, "a2", "a3"]);
    assert_eq!(diary.echoed(a).await, [REFUSED, "a2", "a3"]);
    assert_eq!(diary.parked(&key).await, []);
    assert_eq!(diary.parked(&b.to_string()).await.len(), 1);
    // Each was delivered once, however often it was tried.
    assert_eq!(diary.trail(a).await, vec![("applied".to_owned(), 1); 3]);
}

#[tokio::test]
async fn a_retry_stops_at_the_message_that_is_still_refused() {
    let mut diary = Diary::open().await;
    let a = Uuid::now_v7();
    let batch =
        [diary.letter(a, REFUSED), diary.letter(a, "a2"), diary.torn(a), diary.letter(a, "a4")];
    diary.hear(&batch).await;
    diary.refuse(false);
    let (handled, rest) = diary.retry(&a.to_string()).await;
    assert_eq!(handled, 2);
    assert!(rest.is_err());
    assert_eq!(diary.heard(a).await, [REFUSED, "a2"]);
    let next = diary.letter(a, "a5");
    diary.hear(&[next]).await;
    let left: Vec<_> = diary.parked(&a.to_string()).await.into_iter().map(|it| it.0).collect();
    assert_eq!(left, [batch[2].offset, batch[3].offset, batch[3].offset + 1]);
}

#[tokio::test]
async fn copies_that_an_older_version_parked_are_taken_up_as_one() {
    let mut diary = Diary::commanded().await;
    let (retried, skipped) = (Uuid::now_v7(), Uuid::now_v7());
    let batch =
        [retried, skipped].map(|order| [REFUSED, "a2"].map(|text| diary.letter(order, text)));
    diary.hear(batch.as_flattened()).await;
    let [_, [given_up, behind]] = &batch;
    // As they were written before parking knew the event.
    sqlx::query(
        "insert into messaging.inbox_parked
             (consumer, key, topic, partition, \"offset\", kafka_time, headers, payload, reason)
         select consumer, key, topic, partition, \"offset\" + 1000, kafka_time, headers, payload, reason
         from messaging.inbox_parked",
    )
    .execute(diary.pool())
    .await
    .unwrap();
    diary.refuse(false);

    let key = retried.to_string();
    assert_eq!(diary.parked(&key).await.len(), 4);
    assert_eq!(diary.retry(&key).await, (2, Ok(())));
    assert_eq!(diary.echoed(retried).await, [REFUSED, "a2"]);
    assert_eq!(diary.parked(&key).await, []);

    let key = skipped.to_string();
    assert!(diary.skip(given_up).await);
    let left: Vec<_> = diary.parked(&key).await.into_iter().map(|it| it.0).collect();
    assert_eq!(left, [behind.offset, behind.offset + 1000]);
    assert_eq!(diary.retry(&key).await, (1, Ok(())));
    assert_eq!(diary.echoed(skipped).await, ["a2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_arrives_during_a_retry_is_handled_behind_it_and_never_left_parked() {
    let mut diary = Diary::open().await;
    for round in 0..60 {
        let a = Uuid::now_v7();
        let parked = [diary.letter(a, REFUSED), diary.letter(a, "a2")];
        diary.refuse(true);
        diary.hear(&parked).await;
        diary.refuse(false);
        let live = [diary.letter(a, "a3"), diary.letter(a, "a4")];
        let start = Arc::new(Barrier::new(2));
        let (inbox, key, begin) = (diary.inbox.clone(), a.to_string(), start.clone());
        let mut conn = diary.db.connection().await;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            begin.wait().await;
            inbox.retry_parked(&mut conn, &key).await.unwrap().1.unwrap();
        });
        let inbox = diary.inbox.clone();
        let mut conn = diary.db.connection().await;
        tasks.spawn(async move {
            start.wait().await;
            inbox.handle(&mut conn, &live).await.unwrap();
        });
        in_time(tasks.join_all()).await;
        assert_eq!(diary.parked(&a.to_string()).await, [], "round {round}");
        assert_eq!(diary.heard(a).await, [REFUSED, "a2", "a3", "a4"], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_retries_at_once_handle_everything_once() {
    let mut diary = Diary::open().await;
    for round in 0..20 {
        let a = Uuid::now_v7();
        let parked: Vec<_> =
            [REFUSED, "a2", "a3", "a4"].iter().map(|text| diary.letter(a, text)).collect();
        diary.refuse(true);
        diary.hear(&parked).await;
        diary.refuse(false);
        let start = Arc::new(Barrier::new(2));
        let mut tasks = JoinSet::new();
        for _ in 0..2 {
            let (inbox, key, start) = (diary.inbox.clone(), a.to_string(), start.clone());
            let mut conn = diary.db.connection().await;
            tasks.spawn(async move {
                start.wait().await;
                inbox.retry_parked(&mut conn, &key).await.unwrap().1.unwrap();
            });
        }
        in_time(tasks.join_all()).await;
        assert_eq!(diary.parked(&a.to_string()).await, [], "round {round}");
        assert_eq!(diary.heard(a).await, [REFUSED, "a2", "a3", "a4"], "round {round}");
        assert_eq!(diary.echoed(a).await, [REFUSED, "a2", "a3", "a4"], "round {round}");
    }
}
