//! Shipping one database while its lease is ours: attempt after attempt. A failed delivery ends the attempt, its
//! producer with everything queued in it, and the next one resumes from the cursor: a hole is never overtaken.

use std::{sync::Arc, time::Duration};

use sqlx::PgConnection;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    backoff::Backoff,
    budget::Budget,
    cluster::{self, Cluster},
    config::Source,
    cursor::Lane,
    exactly_once::{self, Transactions},
    health::{Board, State},
    lease::Grant,
    ledger::Ledger,
    metrics::Metrics,
    parking::Parking,
    producer::Producer,
    recording,
    redrive::Handover,
    resumption,
    shipment::Shipment,
    topic,
    verdict::Verdict,
    window::{Chunk, Reader},
};

/// How long Kafka may take to say whether a topic is there.
const LOOK_FOR_TOPIC: Duration = Duration::from_secs(5);

/// How many chunks the reader may be ahead.
const PREFETCHED: usize = 4;

/// What one owner ships with.
#[derive(Debug)]
pub struct Shipping<'a> {
    /// The settings.
    pub config: &'a Config,
    /// What is shipped.
    pub source: &'a Source,
    /// Where progress is counted.
    pub metrics: &'a Metrics,
    /// Where progress is told.
    pub board: &'a Board,
    /// The proof that the cursors are ours.
    pub grant: &'a Grant,
    /// Where the cursors mean something.
    pub cluster: &'a Cluster,
    /// Where the cursors are recorded.
    pub connection: PgConnection,
    /// How far everything is delivered.
    pub lanes: Vec<Lane>,
    /// What is not sent.
    pub parking: Parking,
    /// Who sends that later.
    pub handovers: mpsc::Receiver<Handover>,
    /// Rings when somebody has committed.
    pub doorbell: Arc<Notify>,
    /// How much may be on its way.
    pub budget: Budget,
    /// Kept from one group of shards to the next; None after a failure.
    pub producer: Option<Producer>,
}

impl Shipping<'_> {
    /// Ships until told to stop or until the lease is `lost`; what Kafka does not take is tried again for ever, or parked.
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
            let before = self.lanes.clone();
            let error = match self.step(stop, lost).await {
                Err(error) if error.is_kafkas() => self.confirmed(error).await,
                ended => return ended,
            };
            if self.lanes != before {
                backoff.reset();
            }
            if self.note(&error) {
                continue;
            }
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
        if self.config.exactly_once {
            return Box::pin(self.transact(stop, lost)).await;
        }
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => Producer::open(self.config)?,
        };
        let mut ledger = Ledger::new(&self.lanes);
        let ended = lost.run_until_cancelled(self.ship(&producer, &mut ledger, stop)).await;
        if let Some(Ok(())) = ended {
            self.lanes = ledger.lanes();
            self.producer = Some(producer);
            return Ok(());
        }
        // Whatever happened, nothing more may be sent; what had arrived by then need not be sent again.
        for ordinal in producer.close().await.delivered {
            ledger.delivered(ordinal);
        }
        let late = ledger.advance();
        if late.rows > 0 {
            self.metrics.published(late.rows, self.config.delivery_timeout);
        }
        self.metrics.in_flight(0);
        match ended {
            Some(Err(error)) if error.is_kafkas() || matches!(error, Error::NotDrained(_)) => {
                let (grant, table) = (self.grant, &self.source.table);
                let connection = &mut self.connection;
                recording::record(connection, grant, table, &mut ledger, &mut self.parking).await?;
                self.parking.forget_aside();
                self.lanes = ledger.lanes();
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
        self.board.begin(&self.source.name);
        let (reader, chunks) = self.read().await?;
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
            parking: &mut self.parking,
            handovers: &mut self.handovers,
            chunks,
            reader,
            current: None,
            window_rows: 0,
            behind_since: None,
        };
        shipment.run(stop).await
    }

    /// One attempt in exactly-once mode. Whatever ends it badly, the next one asks Kafka how far this one really came.
    async fn transact(
        &mut self,
        stop: &CancellationToken,
        lost: &CancellationToken,
    ) -> Result<(), Error> {
        if self.producer.is_none() {
            let taken = stop.run_until_cancelled(lost.run_until_cancelled(self.take_up())).await;
            match taken.flatten() {
                None => return Ok(()),
                Some(taken) => taken?,
            }
        }
        let Some(producer) = self.producer.take() else { return Ok(()) };
        match lost.run_until_cancelled(self.send_pages(&producer, stop)).await {
            Some(Ok(())) => {
                self.producer = Some(producer);
                Ok(())
            }
            ended => {
                producer.close().await;
                self.metrics.in_flight(0);
                ended.unwrap_or(Ok(()))
            }
        }
    }

    /// Whether everything that counts in Kafka is recorded: in exactly-once mode the outcome of a commit may not be known,
    /// nor what an earlier owner has done.
    pub fn is_settled(&self) -> bool {
        !self.config.exactly_once || self.producer.is_some()
    }

    /// Shards have come whose last owner has to be taken up.
    pub async fn unsettle(&mut self) {
        if let (true, Some(producer)) = (self.config.exactly_once, self.producer.take()) {
            producer.close().await;
        }
    }

    /// Settles what came before, in exactly-once mode.
    ///
    /// # Errors
    /// As [`resumption::resume`].
    pub async fn take_up(&mut self) -> Result<(), Error> {
        let (config, cluster, grant) = (self.config, self.cluster, self.grant);
        let producer = resumption::resume(config, cluster, &mut self.connection, grant).await?;
        self.producer = Some(producer);
        self.lanes = Lane::load(&mut self.connection, grant).await?;
        self.parking.forget_aside();
        Ok(())
    }

    async fn send_pages(
        &mut self,
        producer: &Producer,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        self.board.begin(&self.source.name);
        let moves = exactly_once::moves(&mut self.connection, self.grant).await?;
        let (reader, chunks) = self.read().await?;
        let mut transactions = Transactions {
            config: self.config,
            source: self.source,
            cluster: self.cluster,
            metrics: self.metrics,
            board: self.board,
            grant: self.grant,
            connection: &mut self.connection,
            producer,
            budget: &mut self.budget,
            ledger: Ledger::new(&self.lanes),
            moves,
            parking: &mut self.parking,
            handovers: &mut self.handovers,
            chunks,
            reader,
            current: None,
        };
        transactions.run(stop).await
    }

    /// A task that reads the lanes, and what it reads.
    async fn read(&self) -> Result<(JoinSet<Result<(), Error>>, mpsc::Receiver<Chunk>), Error> {
        let (sender, chunks) = mpsc::channel(PREFETCHED);
        let mut connection = cluster::connect(&self.source.database).await?;
        cluster::take_time(&mut connection).await?;
        let page_rows = self.config.page_rows;
        let window = Reader::new(connection, &self.source.table, &self.lanes, page_rows, sender);
        let mut reader = JoinSet::new();
        reader.spawn(window.run(Arc::clone(&self.doorbell), self.config.idle_poll));
        Ok((reader, chunks))
    }

    /// That a topic does not exist is Kafka's to say: its client says so too when a busy broker is late to answer.
    async fn confirmed(&self, error: Error) -> Error {
        let Some(topic) = error.unknown_topic() else { return error };
        match topic::is_there(self.config, topic, LOOK_FOR_TOPIC).await {
            Ok(false) => error,
            Ok(true) | Err(_) => Error::TopicUnsure(topic.to_owned()),
        }
    }

    /// Says what stopped the attempt. Whether it can go on at once, because what Kafka refused for good is now parked.
    fn note(&mut self, error: &Error) -> bool {
        self.metrics.retried();
        let verdict = error.verdict();
        let label = match verdict {
            Verdict::Park(reason) => reason.label(),
            Verdict::Stop => "stopped",
            Verdict::Retry if matches!(error, Error::Stalled(_)) => "stalled",
            Verdict::Retry if matches!(error, Error::Delivery { .. } | Error::TopicUnsure(_)) => {
                "transient"
            }
            Verdict::Retry => "unreachable",
        };
        self.metrics.failed(label);
        if let Error::Refused { seq, topic, key, reason } = error {
            self.parking.refuse(*seq, topic, key, *reason);
            return true;
        }
        if let (Verdict::Park(reason), Error::Delivery { seq, failure, alone }) = (verdict, error) {
            if *alone || reason.is_the_topics() {
                self.parking.refuse(*seq, &failure.topic, &failure.key, reason);
            } else {
                // Kafka refuses a batch for one event in it: find out for which.
                self.budget.shrink();
            }
            return true;
        }
        self.budget.shrink();
        let hint =
            if verdict == Verdict::Stop { "; it waits for somebody to mend this" } else { "" };
        self.board.set(&self.source.name, State::Failing(format!("{}{hint}", error.chain())));
        false
    }
}
