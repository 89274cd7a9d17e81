//! Compares orders with what products and delivery have of them, and puts right what an event that was lost has left behind:
//! those that have not settled for long, and of all the others a sample at a time. Nothing of it is needed while no event is lost.

use std::time::Duration;

use chassis::{clock, doorbell::Doorbell, saga};
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    comparison::{self, Verdict},
    error,
    order::Order,
    participants::{self, AT_ONCE, Participants},
    remedy,
    store::turns,
};

/// What compares.
#[derive(Debug)]
pub struct Reconciler {
    pool: PgPool,
    doorbell: Doorbell,
    participants: Participants,
    after: Duration,
    /// The last order of each kind that was looked at: the next sweep goes on behind it.
    unsettled: Uuid,
    settled: Uuid,
}

/// What came of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Orders that were compared.
    pub compared: usize,
    /// Orders of these that something was wrong with.
    pub wrong: usize,
}

/// Why a sweep ended early. What it has done until then is done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Without both of the others there is nothing to compare with.
    #[error("ask the others for their rows")]
    Unknown(#[from] participants::Error),
    /// The database.
    #[error("read orders")]
    Database(#[from] sqlx::Error),
    /// An order could not be put right.
    #[error("put an order right")]
    Remedy(#[from] error::Error),
}

impl Reconciler {
    /// Looks at orders that have not moved for as long as `after`.
    pub fn new(
        pool: PgPool,
        doorbell: Doorbell,
        participants: Participants,
        after: Duration,
    ) -> Self {
        let (unsettled, settled) = (Uuid::nil(), Uuid::nil());
        Self { pool, doorbell, participants, after, unsettled, settled }
    }

    /// Repeats [`Self::step`] until told to stop; first after a pause, since the others may be starting as well.
    pub async fn run(mut self, every: Duration, shutdown: CancellationToken) -> anyhow::Result<()> {
        remedy::counts();
        let mut was_possible = true;
        while shutdown.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            let step = self.step(clock::now());
            let Some(swept) = shutdown.run_until_cancelled(step).await else { break };
            if let Err(error) = &swept
                && was_possible
            {
                let source = std::error::Error::source(error);
                tracing::warn!(%error, ?source, "orders cannot be compared for now");
            }
            was_possible = swept.is_ok();
        }
        Ok(())
    }

    /// Compares the next orders of each kind, up to some hundred, and puts right what is wrong. No connection to the database is
    /// held while the others are asked.
    pub async fn step(&mut self, now: DateTime<Utc>) -> Result<Swept, Error> {
        let age = chrono::Duration::from_std(self.after).ok();
        let before = age.and_then(|age| now.checked_sub_signed(age));
        // So long ago there was no order.
        let Some(before) = before else { return Ok(Swept::default()) };

        let orders = {
            let mut conn = self.pool.acquire().await?;
            turns::unsettled(&mut conn, self.unsettled, before, AT_ONCE).await?
        };
        let verdicts = self.compare(&orders).await?;
        self.unsettled = next(&orders);
        let unsettled = self.put_right(&orders, &verdicts, now).await;

        let orders = {
            let mut conn = self.pool.acquire().await?;
            turns::settled(&mut conn, self.settled, before, AT_ONCE).await?
        };
        let verdicts = self.compare(&orders).await?;
        self.settled = next(&orders);
        let (settled, unsettled) = (self.put_right(&orders, &verdicts, now).await?, unsettled?);
        Ok(Swept {
            compared: unsettled.compared + settled.compared,
            wrong: unsettled.wrong + settled.wrong,
        })
    }

    /// The verdict on each of the orders.
    async fn compare(&self, orders: &[Order]) -> Result<Vec<Verdict>, participants::Error> {
        if orders.is_empty() {
            return Ok(Vec::new());
        }
        let order_ids: Vec<Uuid> = orders.iter().map(|order| order.order_id).collect();
        let rows = self.participants.rows(&order_ids).await?;
        let verdicts = orders.iter().map(|order| {
            let rows = rows.get(&order.order_id).copied().unwrap_or_default();
            comparison::compare(order.fate, order.coordination, rows)
        });
        Ok(verdicts.collect())
    }

    /// One that cannot be put right does not keep the others waiting. Errors: the first of these, when all have had their turn.
    async fn put_right(
        &self,
        orders: &[Order],
        verdicts: &[Verdict],
        now: DateTime<Utc>,
    ) -> Result<Swept, Error> {
        let mut swept = Swept { compared: orders.len(), wrong: 0 };
        saga::compared(orders.len());
        let mut failed = None;
        let judged = orders.iter().zip(verdicts);
        for (order, verdict) in judged.filter(|(_, verdict)| **verdict != Verdict::Agreed) {
            let mut conn = self.pool.acquire().await?;
            match remedy::apply(&mut conn, order, *verdict, now).await {
                Ok(false) => {}
                Ok(true) => {
                    swept.wrong += 1;
                    self.doorbell.ring();
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(swept), |error| Err(error.into()))
    }
}

/// Where the next sweep goes on: behind the last, or from the beginning where there were no more.
fn next(orders: &[Order]) -> Uuid {
    let last = orders.last().filter(|_| orders.len() == AT_ONCE);
    last.map(|order| order.order_id).unwrap_or_default()
}
