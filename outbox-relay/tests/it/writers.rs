//! Services under load: many connections that change aggregates and append events in the same transaction, some with
//! an early transaction number, some rolled back.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection, Executor, PgConnection};
use tokio::task::JoinSet;

use crate::database::{Database, append};

/// Writers that go on until they are told to end.
pub(crate) struct Writers {
    ending: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    database: Database,
}

impl Writers {
    pub(crate) async fn start(database: &Database, topic: &str, count: usize, keys: usize) -> Self {
        let mut connection = database.connect().await;
        sqlx::query("insert into aggregate (key) select 'key-' || n from generate_series(1, $1) n on conflict do nothing")
            .bind(i32::try_from(keys).unwrap())
            .execute(&mut connection)
            .await
            .unwrap();
        let ending = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (mut connection, topic, ending) =
                (database.connect().await, topic.to_owned(), Arc::clone(&ending));
            tasks.spawn(async move {
                while !ending.load(Ordering::Relaxed) {
                    write(
                        &mut connection,
                        &topic,
                        &format!("key-{}", rand::random_range(1..=keys)),
                    )
                    .await;
                }
            });
        }
        Self { ending, tasks, database: database.clone() }
    }

    /// Ends them all and returns every key's last version.
    pub(crate) async fn end(mut self) -> BTreeMap<String, i64> {
        self.ending.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        versions(&self.database).await
    }
}

pub(crate) async fn versions(database: &Database) -> BTreeMap<String, i64> {
    sqlx::query_as::<_, (String, i64)>("select key, version from aggregate")
        .fetch_all(&mut database.connect().await)
        .await
        .unwrap()
        .into_iter()
        .collect()
}

/// One transaction: perhaps a number long before the lock, the change, the event, and perhaps all for nothing.
async fn write(connection: &mut PgConnection, topic: &str, key: &str) {
    let mut transaction = connection.begin().await.unwrap();
    if rand::random_bool(0.5) {
        transaction.execute("select pg_current_xact_id()").await.unwrap();
        pause().await;
    }
    change(&mut transaction, topic, key).await;
    if rand::random_bool(0.3) {
        pause().await;
    }
    if rand::random_bool(0.15) {
        transaction.rollback().await.unwrap();
    } else {
        transaction.commit().await.unwrap();
    }
}

/// Locks the aggregate, counts it up and appends the event that tells the new version.
pub(crate) async fn change(connection: &mut PgConnection, topic: &str, key: &str) {
    let version = sqlx::query_scalar::<_, i64>(
        "insert into aggregate (key, version) values ($1, 1)
         on conflict (key) do update set version = aggregate.version + 1
         returning version",
    )
    .bind(key)
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    append(connection, topic, key, Some(version.to_string().as_bytes())).await;
}

/// A writer that thinks: part of the workload, not of the test's order.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(0..15))).await;
}
