//! A request_id is claimed once, however many callers bring it at the same time.

use std::sync::Arc;

use chassis::idempotency::{self, Claim, Claimed};
use proto::orders::v1::CancelOrderRequest;
use sqlx::Connection as _;
use tokio::{sync::Barrier, task::JoinSet};

use crate::diary::{Diary, in_time};

fn claim(request_id: &str, content: &str, resource_id: &str) -> Claim {
    let content = CancelOrderRequest { order_id: content.to_owned(), ..Default::default() };
    Claim::new("caller", request_id, "Test", &content, resource_id).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_twenty_claims_at_once_one_is_fresh_and_the_others_repeat_it() {
    let diary = Diary::open().await;
    for round in 0..10 {
        let start = Arc::new(Barrier::new(20));
        let mut tasks = JoinSet::new();
        for index in 0..20 {
            let (start, mut conn) = (start.clone(), diary.db.connection().await);
            let claim = claim(&format!("r-{round}"), "same", &index.to_string());
            tasks.spawn(async move {
                start.wait().await;
                let mut tx = conn.begin().await.unwrap();
                let claimed = idempotency::claim(&mut tx, Some(&claim)).await.unwrap();
                tx.commit().await.unwrap();
                (claim.resource_id, claimed)
            });
        }
        let claimed = in_time(tasks.join_all()).await;
        let fresh: Vec<_> = claimed.iter().filter(|(_, it)| *it == Claimed::Fresh).collect();
        assert_eq!(fresh.len(), 1, "{claimed:?}");
        let repeat = Claimed::Repeat(fresh[0].0.clone());
        assert_eq!(claimed.iter().filter(|(_, it)| *it == repeat).count(), 19, "{claimed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn groups_that_claim_in_opposite_order_do_not_wait_in_a_circle() {
    let diary = Diary::open().await;
    for round in 0..20 {
        let ids: Vec<String> = (0..30).map(|index| format!("{round}-{index}")).collect();
        let start = Arc::new(Barrier::new(2));
        let mut tasks = JoinSet::new();
        for group in 0..2 {
            let mut claims: Vec<_> =
                ids.iter().map(|id| claim(id, "same", &group.to_string())).collect();
            if group == 1 {
                claims.reverse();
            }
            let (start, mut conn) = (start.clone(), diary.db.connection().await);
            tasks.spawn(async move {
                start.wait().await;
                let mut tx = conn.begin().await.unwrap();
                let claimed = idempotency::claim_all(&mut tx, &claims).await.unwrap();
                tx.commit().await.unwrap();
                claimed.into_iter().filter(|it| *it == Claimed::Fresh).count()
            });
        }
        let fresh: usize = in_time(tasks.join_all()).await.into_iter().sum();
        assert_eq!(fresh, ids.len());
    }
}

#[tokio::test]
async fn other_content_is_reuse_and_a_claim_given_back_is_free() {
    let diary = Diary::open().await;
    let mut conn = diary.db.connection().await;
    let (first, other) = (claim("r", "one", "1"), claim("r", "other", "2"));
    let claims = [first.clone(), other.clone(), first.clone()];
    let claimed = idempotency::claim_all(&mut conn, &claims).await.unwrap();
    assert_eq!(claimed, [Claimed::Fresh, Claimed::Reused, Claimed::Repeat("1".to_owned())]);
    assert_eq!(idempotency::look_up(&mut conn, Some(&other)).await.unwrap(), Some(Claimed::Reused));
    idempotency::release(&mut conn, &[&other]).await.unwrap();
    assert_eq!(idempotency::claim(&mut conn, Some(&other)).await.unwrap(), Claimed::Reused);
    idempotency::release(&mut conn, &[&first]).await.unwrap();
    assert_eq!(idempotency::claim(&mut conn, Some(&other)).await.unwrap(), Claimed::Fresh);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_a_claim_that_is_rolled_back_gets_it() {
    let diary = Diary::open().await;
    let (mut one, mut other) = (diary.db.connection().await, diary.db.connection().await);
    let mut tx = one.begin().await.unwrap();
    let (first, second) = (claim("r", "same", "1"), claim("r", "same", "2"));
    assert_eq!(idempotency::claim(&mut tx, Some(&first)).await.unwrap(), Claimed::Fresh);
    let give_up = async {
        diary.somebody_waits().await;
        tx.rollback().await.unwrap();
    };
    let waiting = in_time(idempotency::claim(&mut other, Some(&second)));
    let (claimed, ()) = tokio::join!(waiting, give_up);
    assert_eq!(claimed.unwrap(), Claimed::Fresh);
}
