//! What has expired goes, and nothing younger; the inbox stays fast however much the trail keeps.

use chassis::{clock, housekeeping, trail};
use chrono::{DateTime, Duration, Utc};
use uuid::Uuid;

use crate::diary::Diary;

/// A row of the trail about an event of this time, handled then.
async fn handled(diary: &Diary, created_at: DateTime<Utc>, handled_at: DateTime<Utc>) -> Uuid {
    let event_id = Uuid::now_v7();
    sqlx::query(
        "insert into messaging.trail
             (slot, event_id, consumer, kind, type, source, created_at, received_at, handled_at, outcome)
         values ($1, $2, 'diary', 'message', 'test', 'test', $3, $4, $4, 'applied')",
    )
    .bind(trail::slot(created_at))
    .bind(event_id)
    .bind(created_at)
    .bind(handled_at)
    .execute(diary.pool())
    .await
    .unwrap();
    event_id
}

async fn kept(diary: &Diary) -> Vec<Uuid> {
    sqlx::query_scalar("select event_id from messaging.trail order by event_id")
        .fetch_all(diary.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn the_slot_of_a_month_ago_is_emptied_and_younger_ones_are_not() {
    let diary = Diary::open().await;
    let now = "2026-03-10T12:00:00Z".parse().unwrap();
    let mut expected = Vec::new();
    for days in 0..=33 {
        let then = now - Duration::days(days) - Duration::minutes(1);
        let event = handled(&diary, then, then).await;
        // Slots repeat after 32 days: those rows share theirs with today's and yesterday's.
        if !(30..=31).contains(&days) {
            expected.push(event);
        }
    }
    let mut conn = diary.db.connection().await;
    housekeeping::step(&mut conn, now).await.unwrap();
    assert_eq!(kept(&diary).await, expected);
}

#[tokio::test]
async fn an_event_from_the_future_does_not_keep_its_slot_for_ever() {
    let diary = Diary::open().await;
    let now = clock::now();
    let future = now + Duration::days(1 + 32 * 1000);
    handled(&diary, future, now - Duration::days(31)).await;
    handled(&diary, now - Duration::days(31), now - Duration::days(31)).await;
    let mut conn = diary.db.connection().await;
    housekeeping::step(&mut conn, now).await.unwrap();
    assert!(kept(&diary).await.is_empty());
}

#[tokio::test]
async fn old_request_ids_go() {
    let diary = Diary::open().await;
    sqlx::query(
        "insert into messaging.requests (caller, request_id, method, fingerprint, resource_id, created_at)
         values ('caller', 'old', 'Test', '', '', now() - interval '8 days'),
                ('caller', 'young', 'Test', '', '', now() - interval '6 days')",
    )
    .execute(diary.pool())
    .await
    .unwrap();
    let mut conn = diary.db.connection().await;
    housekeeping::step(&mut conn, clock::now()).await.unwrap();
    let left: Vec<String> = sqlx::query_scalar("select request_id from messaging.requests")
        .fetch_all(diary.pool())
        .await
        .unwrap();
    assert_eq!(left, ["young"]);
}

#[tokio::test]
async fn looking_for_what_was_handled_never_reads_the_whole_trail() {
    let mut diary = Diary::open().await;
    sqlx::query(
        "insert into messaging.trail
             (slot, event_id, consumer, kind, type, source, created_at, received_at, outcome)
         select $1 - day % 2, gen_random_uuid(), 'diary', 'message', 'test', 'test', now(), now(), 'applied'
         from generate_series(1, 40000) as day",
    )
    .bind(i32::from(trail::slot(clock::now())).max(1))
    .execute(diary.pool())
    .await
    .unwrap();
    let mut conn = diary.db.connection().await;
    let before = whole_scans(&diary).await;
    let order = Uuid::now_v7();
    // Often enough for the server to think about a generic plan.
    for round in 0..12 {
        let batch: Vec<_> =
            (0..20).map(|index| diary.letter(order, &format!("{round}-{index}"))).collect();
        diary.inbox.handle(&mut conn, &batch).await.unwrap();
    }
    sqlx::query("select pg_stat_force_next_flush()").execute(&mut conn).await.unwrap();
    sqlx::query("select 1").execute(&mut conn).await.unwrap();
    assert_eq!(whole_scans(&diary).await, before);
}

/// How often the large partitions of the trail were read from one end to the other; building their indexes did too.
async fn whole_scans(diary: &Diary) -> Vec<(String, i64)> {
    sqlx::query_as(
        "select relname::text, seq_scan
         from pg_stat_user_tables
         where schemaname = 'messaging' and relname like 'trail%' and pg_relation_size(relid) > 100000
         order by relname",
    )
    .fetch_all(diary.pool())
    .await
    .unwrap()
}
