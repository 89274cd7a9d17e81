//! Shipping one database while its lease is ours: attempt after attempt. A failed delivery ends the attempt, its
//! producer with everything queued in it, and the next one resumes from the cursor: a hole is never overtaken.

use std::{sync::Arc, time::Duration};

use sqlx::{PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    backoff::Backoff,
    budget::Budget,
    cluster,
    cursor::Cursor,
    health::{Board, State},
    lease::Grant,
    ledger::Ledger,
    metrics::Metrics,
    producer::Producer,
    shipment::Shipment,
    verdict::verdict,
    window::Reader,
};

/// How many chunks the reader may be ahead.
const PREFETCHED: usize = 4;

/// What one owner ships with.
#[derive(Debug)]
pub struct Shipping<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The source's name.
    pub source: &'a str,
    /// Where the rows are read.
    pub database: &'a PgConnectOptions,
    /// Where progress is counted.
    pub metrics: &'a Metrics,
    /// Where progress is told.
    pub board: &'a Board,
    /// The proof that the cursor is ours.
    pub grant: &'a Grant,
    /// Where the cursor is recorded.
    pub connection: PgConnection,
    /// How far everything is delivered.
    pub cursor: Cursor,
    /// Rings when somebody has committed.
    pub doorbell: Arc<Notify>,
    /// How much may be on its way.
    pub budget: Budget,
}

impl Shipping<'_> {
    /// Ships until told to stop or until the lease is `lost`; what Kafka does not take is tried again for ever.
    ///
    /// # Errors
    /// Postgres', the loss of the lease, or [`Error::NotDrained`].
    pub async fn run(
        &mut self,
        stop: &CancellationToken,
        lost: &CancellationToken,
    ) -> Result<(), Error> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            let before = self.cursor.clone();
            let error = match self.step(stop, lost).await {
                Err(error) if error.is_kafkas() => error,
                ended => return ended,
            };
            if self.cursor != before {
                backoff.reset();
            }
            self.note(&error);
            let pause = tokio::time::sleep(backoff.pause());
            if stop.run_until_cancelled(lost.run_until_cancelled(pause)).await.flatten().is_none() {
                return Ok(());
            }
        }
    }

    /// One attempt: ends with the first failure, and with it the producer.
    ///
    /// # Errors
    /// As [`Shipping::run`], and Kafka's.
    pub async fn step(
        &mut self,
        stop: &CancellationToken,
        lost: &CancellationToken,
    ) -> Result<(), Error> {
        let producer = Producer::open(self.config)?;
        let mut ledger = Ledger::new(self.cursor.clone());
        let ended = lost.run_until_cancelled(self.ship(&producer, &mut ledger, stop)).await;
        // Whatever happened, nothing more may be sent; what had arrived by then need not be sent again.
        for ordinal in producer.close().await.delivered {
            ledger.delivered(ordinal);
        }
        let late = ledger.advance();
        if late.rows > 0 {
            self.metrics.published(late.rows, self.config.delivery_timeout);
        }
        self.metrics.in_flight(0);
        self.cursor = ledger.cursor().clone();
        match ended {
            Some(Err(error)) if error.is_kafkas() || matches!(error, Error::NotDrained(_)) => {
                self.cursor.record(&mut self.connection, self.grant).await?;
                Err(error)
            }
            Some(ended) => ended,
            None => Ok(()),
        }
    }

    async fn ship(
        &mut self,
        producer: &Producer,
        ledger: &mut Ledger,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        match stop.run_until_cancelled(producer.reach()).await {
            None => return Ok(()),
            Some(reached) => reached?,
        }
        let (sender, chunks) = mpsc::channel(PREFETCHED);
        let mut connection = cluster::connect(self.database).await?;
        cluster::take_time(&mut connection).await?;
        let window = Reader::new(connection, self.cursor.clone(), self.config.page_rows, sender);
        let mut reader = JoinSet::new();
        reader.spawn(window.run(Arc::clone(&self.doorbell), self.config.idle_poll));
        let mut shipment = Shipment {
            config: self.config,
            source: self.source,
            metrics: self.metrics,
            board: self.board,
            grant: self.grant,
            connection: &mut self.connection,
            producer,
            budget: &mut self.budget,
            ledger,
            chunks,
            reader,
            current: None,
            window_rows: 0,
            behind_since: None,
        };
        shipment.run(stop).await
    }

    /// Says what stopped the attempt. This is where a refused key will be parked instead of waiting.
    fn note(&mut self, error: &Error) {
        self.budget.shrink();
        self.metrics.retried();
        let (reason, hint) = match error {
            Error::Delivery { code, .. } => {
                let verdict = verdict(*code);
                let hint =
                    "; Kafka refuses it until somebody mends this, and the events behind it wait";
                (verdict.label(), if verdict.is_permanent() { hint } else { "" })
            }
            Error::Stalled(_) => ("stalled", ""),
            _ => ("unreachable", ""),
        };
        self.metrics.failed(reason);
        self.board.set(self.source, State::Failing(format!("{}{hint}", error.chain())));
    }
}
