//! A small shop in which everything has settled: an order of every outcome in both styles.

use std::{sync::Arc, time::Duration};

use e2e::{
    arena::Arena, checker, customer, finding::Finding, healing, ledger::Entries,
    snapshot::Snapshot, tally::Tally,
};
use local::{Event, Part, Progress};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const PRODUCT: &str = "small";
pub(crate) const STOCK: i64 = 100;

#[derive(Clone)]
pub(crate) struct Small {
    pub(crate) arena: Arc<Arena>,
}

/// What became of an order, in which style.
pub(crate) fn name(wish: customer::Wish, orchestrated: bool) -> String {
    format!("{wish:?}-{orchestrated}")
}

impl Small {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let arena = Arc::new(Arena::open(&Progress::silent()).await?);
        arena.product(PRODUCT, STOCK).await?;
        let tally = Arc::new(Tally::new()?);
        use customer::Wish::{CancelLater, Complete, Dispatch, Fail, Keep};
        for wish in [Keep, CancelLater, Dispatch, Complete, Fail] {
            for orchestrated in [false, true] {
                let plan = customer::Plan {
                    request_id: name(wish, orchestrated),
                    product_id: PRODUCT.to_owned(),
                    quantity: 2,
                    orchestrated,
                    watched: true,
                    sent_again: true,
                    wish,
                };
                let (orders, delivery) = (arena.orders()?, arena.delivery()?);
                let (arena, tally) = (Arc::clone(&arena), Arc::clone(&tally));
                customer::live(arena, orders, delivery, plan, Instant::now(), tally).await;
            }
        }
        healing::settle(&arena, PATIENCE).await?;
        Ok(Self { arena })
    }

    /// The order that was placed for this.
    pub(crate) fn order(&self, wish: customer::Wish, orchestrated: bool) -> Uuid {
        let name = name(wish, orchestrated);
        let entries = self.arena.ledger.entries();
        *entries.orders.iter().find(|(_, request)| **request == name).expect("it is placed").0
    }

    /// Everything wrong, so far as the outside knows what the ledger says.
    pub(crate) async fn findings(&self) -> anyhow::Result<Vec<Finding>> {
        self.findings_by(&self.arena.ledger.entries()).await
    }

    pub(crate) async fn findings_by(&self, known: &Entries) -> anyhow::Result<Vec<Finding>> {
        Ok(checker::check(&Snapshot::take(&self.arena.stack).await?, known))
    }

    /// Runs a statement in a database.
    pub(crate) async fn run(&self, part: Part, statement: &str) -> anyhow::Result<()> {
        let mut conn = PgConnection::connect(&self.arena.stack.database_url(part)).await?;
        let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut conn).await?;
        anyhow::ensure!(done.rows_affected() > 0, "nothing was planted by {statement}");
        Ok(())
    }

    /// Plants something by a statement, looks what is found, and takes it away by another.
    pub(crate) async fn plant(
        &self,
        part: Part,
        plant: &str,
        undo: &str,
    ) -> anyhow::Result<Vec<Finding>> {
        self.run(part, plant).await?;
        let found = self.findings().await;
        self.run(part, undo).await?;
        found
    }

    /// All events about an order, in the order of one topic.
    pub(crate) async fn events(&self, order_id: Uuid, topic: &str) -> anyhow::Result<Vec<Event>> {
        let snapshot = Snapshot::take(&self.arena.stack).await?;
        let key = order_id.to_string();
        let events = snapshot.topics.into_iter();
        Ok(events.filter(|it| it.topic == topic && it.key.as_ref() == Some(&key)).collect())
    }
}
