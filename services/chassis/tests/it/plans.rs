//! The plan that the rate of the reactions rests on.

use chassis::trail::SEEN;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::diary::Diary;

#[tokio::test]
async fn looking_for_duplicates_never_reads_what_was_handled_before() {
    let diary = Diary::open().await;
    sqlx::query(
        "insert into messaging.trail (slot, event_id, consumer, kind, type, source, created_at, received_at, outcome)
         select 14, gen_random_uuid(), 'diary', 'message', 'test', 'test', now(), now(), 'applied'
         from generate_series(1, 20000)",
    )
    .execute(diary.pool())
    .await
    .unwrap();
    let plan: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(format!("explain (analyze, costs off) {SEEN}")))
            .bind(vec![14_i16; 500])
            .bind((0..500).map(|_| Uuid::now_v7()).collect::<Vec<_>>())
            .bind("diary")
            .fetch_all(diary.pool())
            .await
            .unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("(event_id = wanted.event_id)"), "{plan}");
    assert!(!plan.contains("Seq Scan") && !plan.contains("Rows Removed"), "{plan}");
}

#[tokio::test]
async fn a_table_that_has_to_be_read_whole_is_read_without_compiling() {
    let diary = Diary::open().await;
    sqlx::query("create table bare as select generate_series(1, 10) as number")
        .execute(diary.pool())
        .await
        .unwrap();
    let plan: Vec<String> = sqlx::query_scalar("explain analyze select sum(number) from bare")
        .fetch_all(diary.pool())
        .await
        .unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("Seq Scan") && !plan.contains("JIT"), "{plan}");
}
