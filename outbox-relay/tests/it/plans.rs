//! The plans that the figures rest on.

use outbox_relay::{cluster, shards::Shards, table::Table};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    database::{Database, append_many},
    relay::config,
};

#[tokio::test(flavor = "multi_thread")]
async fn no_read_scans_or_sorts_what_is_already_acknowledged() {
    let database = Database::fresh().await;
    let mut writer = database.connect().await;
    append_many(&mut writer, "t", 1, 100_000).await;
    let acked = snapshot(&mut writer).await;
    append_many(&mut writer, "t", 100_001, 2_000).await;
    let target = snapshot(&mut writer).await;
    let config = config(&database, "127.0.0.1:1", &[]);
    let mut relay = cluster::connect(&config.given.all().next().unwrap().database).await.unwrap();

    let (table, shards) = (Table::default(), Shards::ALL.last(21).mask());
    let explain = |statement: String| AssertSqlSafe(format!("explain {statement}"));
    let small = plan(
        sqlx::query_scalar(explain(table.small_window()))
            .bind(&acked)
            .bind(&target)
            .bind(shards)
            .bind(5_000_i64)
            .fetch_all(&mut relay)
            .await,
    );
    assert!(!small.contains("Seq Scan"), "{small}");
    assert!(small.contains("xid_idx") && !small.contains("seq_idx"), "{small}");

    let start = plan(
        sqlx::query_scalar(explain(table.large_window_start()))
            .bind(&acked)
            .bind(&target)
            .bind(shards)
            .fetch_all(&mut relay)
            .await,
    );
    assert!(!start.contains("Seq Scan") && !start.contains("seq_idx"), "{start}");

    let page = plan(
        sqlx::query_scalar(explain(table.large_window_page()))
            .bind(&acked)
            .bind(&target)
            .bind(shards)
            .bind(5_000_i64)
            .bind(100_000_i64)
            .fetch_all(&mut relay)
            .await,
    );
    assert!(page.contains("Merge Append") && page.contains("seq_idx"), "{page}");
    assert!(!page.contains("Seq Scan") && !page.contains("Sort  ("), "{page}");
}

fn plan(lines: Result<Vec<String>, sqlx::Error>) -> String {
    lines.unwrap().join("\n")
}

async fn snapshot(connection: &mut PgConnection) -> String {
    sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(connection).await.unwrap()
}
