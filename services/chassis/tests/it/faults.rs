//! The database takes a transaction back, or is gone: the batch is tried again, with nothing lost and nothing done twice.

use sqlx::Connection as _;
use uuid::Uuid;

use crate::diary::{Diary, handled, in_time};

async fn execute(diary: &Diary, statement: &'static str) {
    sqlx::raw_sql(statement).execute(diary.pool()).await.unwrap();
}

/// Two orders with a row each, the first one first in the order of locking.
async fn two_rows(diary: &mut Diary) -> (Uuid, Uuid) {
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    let batch = [diary.letter(a, "a1"), diary.letter(b, "b1")];
    diary.hear(&batch).await;
    (a.min(b), a.max(b))
}

const LOCK: &str = "select version from pages where order_id = $1 for update";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_victim_of_a_deadlock_is_tried_again() {
    let mut diary = Diary::open().await;
    let (a, b) = two_rows(&mut diary).await;
    let batch = [diary.letter(a, "a2"), diary.letter(b, "b2")];
    let mut other = diary.db.connection().await;
    let mut tx = other.begin().await.unwrap();
    sqlx::query(LOCK).bind(b).execute(&mut *tx).await.unwrap();

    let mut conn = diary.db.connection().await;
    sqlx::query("set deadlock_timeout = '50ms'").execute(&mut conn).await.unwrap();
    let opponent = async {
        diary.somebody_waits().await;
        sqlx::query(LOCK).bind(a).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    };
    let (report, ()) = tokio::join!(handled(&diary, &mut conn, &batch), opponent);
    assert_eq!(report.unwrap().emitted, 2);
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    in_time(async {
        // Counters are flushed a little later.
        while sqlx::query_scalar::<_, i64>(deadlocks).fetch_one(diary.pool()).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(diary.heard(a).await.last().unwrap(), "a2");
    assert_eq!(diary.echoed(b).await, ["b1", "b2"]);
    assert_eq!(diary.count("messaging.inbox_parked").await, 0);
}

#[tokio::test]
async fn a_serialization_failure_is_tried_again() {
    let mut diary = Diary::open().await;
    execute(
        &diary,
        "create sequence hiccups;
         create function hiccup() returns trigger language plpgsql as $$
         begin
             if nextval('hiccups') <= 3 then
                 raise exception 'hiccup' using errcode = '40001';
             end if;
             return new;
         end $$;
         create trigger hiccup before insert on messaging.outbox_0 for each row execute function hiccup();
         create trigger hiccup before insert on messaging.outbox_1 for each row execute function hiccup();
         create trigger hiccup before insert on messaging.outbox_2 for each row execute function hiccup();
         create trigger hiccup before insert on messaging.outbox_3 for each row execute function hiccup();",
    )
    .await;
    let a = Uuid::now_v7();
    let batch = [diary.letter(a, "a1"), diary.letter(a, "a2")];
    assert_eq!(diary.hear(&batch).await.emitted, 2);
    assert_eq!(diary.heard(a).await, ["a1", "a2"]);
    assert_eq!(diary.count("messaging.inbox_parked").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_in_the_middle_loses_nothing() {
    let mut diary = Diary::open().await;
    let (a, b) = two_rows(&mut diary).await;
    let batch = [diary.letter(a, "a2"), diary.letter(b, "b2")];
    let mut other = diary.db.connection().await;
    let mut tx = other.begin().await.unwrap();
    sqlx::query(LOCK).bind(b).execute(&mut *tx).await.unwrap();

    let mut conn = diary.db.connection().await;
    let killer = async {
        diary.somebody_waits().await;
        execute(
            &diary,
            "select pg_terminate_backend(pid)
             from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock'",
        )
        .await;
    };
    let (report, ()) = tokio::join!(handled(&diary, &mut conn, &batch), killer);
    report.unwrap_err();
    tx.rollback().await.unwrap();
    assert_eq!(
        (diary.heard(a).await, diary.heard(b).await),
        (vec!["a1".to_owned()], vec!["b1".to_owned()])
    );
    assert_eq!(diary.count("messaging.inbox_parked").await, 0);

    assert_eq!(diary.hear(&batch).await.emitted, 2);
    assert_eq!(diary.heard(a).await, ["a1", "a2"]);
    assert_eq!(diary.echoed(b).await, ["b1", "b2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_future_is_dropped_is_handled_whole_on_the_same_connection_later() {
    let mut diary = Diary::open().await;
    let (a, b) = two_rows(&mut diary).await;
    let mut conn = diary.db.connection().await;
    let mut other = diary.db.connection().await;
    for text in ["2", "3", "4", "5"] {
        let batch = [diary.letter(a, text), diary.letter(b, text)];
        let mut tx = other.begin().await.unwrap();
        sqlx::query(LOCK).bind(b).execute(&mut *tx).await.unwrap();
        tokio::select! {
            _ = diary.inbox.handle(&mut conn, &batch) => panic!("the row was locked"),
            () = diary.somebody_waits() => {}
        }
        tx.rollback().await.unwrap();
        assert_eq!(handled(&diary, &mut conn, &batch).await.unwrap().emitted, 2);
    }
    assert_eq!(diary.heard(a).await[1..], ["2", "3", "4", "5"]);
    assert_eq!(diary.echoed(b).await[1..], ["2", "3", "4", "5"]);
}
