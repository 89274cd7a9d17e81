//! One database from first connection to last: connect, check, wait for the lease, ship, and begin again after any
//! error. Sources know nothing of each other: one that fails does not stop the rest.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    backoff::Backoff,
    budget::Budget,
    cluster::{self, Cluster},
    config::Source,
    cursor::{self, Lane},
    doorbell::Doorbell,
    health::{Board, State},
    inspection,
    lease::{self, Grant, Keeper, Survey, Terms},
    mapping::Remove,
    metrics::Metrics,
    parking::Parking,
    producer::Producer,
    redrive::{Handover, PAGE, Redrive},
    removal::Removal,
    resend::{Resend, Settled},
    resumption,
    rotation::Rotation,
    shards::Shards,
    shipping::Shipping,
    wish,
};

/// Keeps one database shipped: this relay's share of it, and more of it when others are gone.
#[derive(Debug)]
pub struct Supervisor {
    config: Arc<Config>,
    source: Source,
    metrics: Metrics,
    board: Board,
    terms: Terms,
}

impl Supervisor {
    /// Nothing is opened yet.
    pub fn new(config: Arc<Config>, source: Source, metrics: Metrics, board: Board) -> Self {
        let terms = Terms {
            name: config.name.clone(),
            lease: config.lease,
            delivery_timeout: config.delivery_timeout,
            renew_every: config.renew_every,
        };
        board.set(&source.name, State::Starting);
        Self { config, source, metrics, board, terms }
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// [`Error::NotDrained`]; everything else is tried again.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), Error> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let ended = self.step(stop, &mut backoff).await;
            self.metrics.owned(Shards::NONE);
            match ended {
                Err(error @ Error::NotDrained(_)) if stop.is_cancelled() => return Err(error),
                Err(error) if !stop.is_cancelled() => {
                    self.board.set(&self.source.name, State::Failing(error.chain()))
                }
                Err(error) => {
                    tracing::warn!(
                        source = self.source.name,
                        error = error.chain(),
                        "failed while stopping"
                    );
                }
                Ok(()) => {}
            }
            if stop.run_until_cancelled(tokio::time::sleep(backoff.pause())).await.is_none() {
                self.board.set(&self.source.name, State::Stopped);
                return Ok(());
            }
        }
    }

    /// Once through: connect, take a lease, ship until something fails or it is time to stop.
    ///
    /// # Errors
    /// What failed.
    pub async fn step(&self, stop: &CancellationToken, backoff: &mut Backoff) -> Result<(), Error> {
        match stop.run_until_cancelled(self.join()).await {
            None => Ok(()),
            Some(joined) => {
                let (connection, cluster, grant) = joined?;
                let joined = Instant::now();
                let ended = self.own(connection, &cluster, &grant, stop).await;
                // One that fails as soon as it has joined shall come back ever more slowly.
                if joined.elapsed() >= self.terms.lease {
                    backoff.reset();
                }
                ended
            }
        }
    }

    async fn join(&self) -> Result<(PgConnection, Cluster, Grant), Error> {
        let mut connection = cluster::connect(&self.source.database).await?;
        let cluster = Cluster::identify(&mut connection, self.config.adopt_cluster).await?;
        if let Some(mapping) = &self.source.table.mapping {
            inspection::inspect(&mut connection, mapping).await?;
        }
        cluster.check(&mut connection).await?;
        let grant = lease::join(&mut connection, &self.terms).await?;
        Ok((connection, cluster, grant))
    }

    /// Ships while the lease lasts, and ends it: with everything given back, or at once after a failure.
    async fn own(
        &self,
        mut connection: PgConnection,
        cluster: &Cluster,
        grant: &Grant,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        match Box::pin(self.hold(&mut connection, cluster, grant, stop)).await {
            Ok(settled) => {
                cursor::spread(&mut connection, grant.owner()).await?;
                lease::leave(&mut connection, grant, settled).await
            }
            Err(error) => {
                // If this fails too, the lease ends by itself.
                let _ = lease::abandon(&mut connection, grant).await;
                Err(error)
            }
        }
    }

    /// Everything that a lease does; whichever part ends first ends the others. Nothing is on its way afterwards. Whether
    /// all that counts in Kafka is recorded.
    async fn hold(
        &self,
        connection: &mut PgConnection,
        cluster: &Cluster,
        grant: &Grant,
        stop: &CancellationToken,
    ) -> Result<bool, Error> {
        let lost = CancellationToken::new();
        let doorbell = self.doorbell();
        let (told, survey) = watch::channel(Survey::default());
        let mut keeper = Keeper {
            connection: cluster::connect(&self.source.database).await?,
            terms: &self.terms,
            grant,
            told,
        };
        keeper.step().await?;
        let (handovers, asked) = mpsc::channel(1);
        let resent = Settled::new(Mutex::new(true));
        let mut redrive = self.redrive(cluster, grant, handovers, &resent);
        let shipping = self.shipping(cluster, grant, asked, Arc::clone(&doorbell.bell)).await?;
        let mut owner =
            Owner { connection, cluster, grant, shipping, survey, resent: Arc::clone(&resent) };
        let (shipped, kept, (), (), ()) = tokio::join!(
            async {
                let shipped = owner.run(stop, &lost).await;
                lost.cancel();
                shipped
            },
            async {
                let kept = keeper.run(&lost).await;
                lost.cancel();
                kept
            },
            redrive.run(&lost),
            self.tidy(&lost),
            doorbell.run(&lost),
        );
        redrive.resend.close().await;
        let settled = owner.shipping.is_settled() && *resent.lock().await;
        if let Some(producer) = owner.shipping.producer.take() {
            if settled && self.config.exactly_once {
                self.forget(grant, &producer).await;
            }
            producer.close().await;
        }
        kept.and(shipped).map(|()| settled)
    }

    /// Takes the lease's own notes back: the cursors say it all.
    async fn forget(&self, grant: &Grant, producer: &Producer) {
        let own = [grant.owner().to_owned()];
        if let Err(error) = resumption::forget(&self.config, producer, &own).await {
            let source = &self.source.name;
            tracing::debug!(source, error = error.chain(), "the last notes stay in their topic");
        }
    }

    async fn shipping<'a>(
        &'a self,
        cluster: &'a Cluster,
        grant: &'a Grant,
        handovers: mpsc::Receiver<Handover>,
        doorbell: Arc<Notify>,
    ) -> Result<Shipping<'a>, Error> {
        Ok(Shipping {
            config: &self.config,
            source: &self.source,
            metrics: &self.metrics,
            board: &self.board,
            grant,
            cluster,
            connection: cluster::connect(&self.source.database).await?,
            lanes: Vec::new(),
            parking: Parking::default(),
            handovers,
            doorbell,
            budget: Budget::new(self.config.in_flight_bytes),
            producer: None,
        })
    }

    fn redrive<'a>(
        &'a self,
        cluster: &'a Cluster,
        grant: &'a Grant,
        handovers: mpsc::Sender<Handover>,
        settled: &Settled,
    ) -> Redrive<'a> {
        Redrive {
            source: &self.source,
            grant,
            handovers,
            topics: BTreeMap::new(),
            swept: None,
            connection: None,
            resend: Resend {
                config: &self.config,
                metrics: &self.metrics,
                cluster,
                grant,
                settled: Arc::clone(settled),
                producer: None,
            },
            page: PAGE,
        }
    }

    fn doorbell(&self) -> Doorbell {
        Doorbell {
            database: self.source.database.clone(),
            source: self.source.name.clone(),
            bell: Arc::new(Notify::new()),
        }
    }

    /// Keeps the table small: the ring by truncation, another's table as its owner wants.
    async fn tidy(&self, stop: &CancellationToken) {
        let (source, metrics) = (self.source.clone(), self.metrics.clone());
        let every = self.config.rotate_every;
        match source.table.mapping.as_ref().map(|mapping| mapping.remove) {
            None => Rotation { source, every, metrics }.run(stop).await,
            Some(Remove::Delete) => Removal { source, every, metrics }.run(stop).await,
            Some(Remove::Keep) => {}
        }
    }
}

/// A lease at work: takes and gives back shards as the surveys say, and ships those it has.
#[derive(Debug)]
struct Owner<'a> {
    connection: &'a mut PgConnection,
    cluster: &'a Cluster,
    grant: &'a Grant,
    shipping: Shipping<'a>,
    survey: watch::Receiver<Survey>,
    resent: Settled,
}

impl Owner<'_> {
    /// Ships until told to stop or until the lease is `lost`, one group of shards after the other.
    async fn run(
        &mut self,
        stop: &CancellationToken,
        lost: &CancellationToken,
    ) -> Result<(), Error> {
        while !stop.is_cancelled() && !lost.is_cancelled() {
            self.step(stop, lost).await?;
        }
        Ok(())
    }

    /// Brings the shards into line with the last survey, and ships them until a survey says otherwise.
    async fn step(
        &mut self,
        stop: &CancellationToken,
        lost: &CancellationToken,
    ) -> Result<(), Error> {
        let survey = *self.survey.borrow_and_update();
        let shipped = self.regroup(survey).await?;
        let ended = CancellationToken::new();
        let news = async {
            // The survey that was acted on is of the past: the next one tells whether there is more to do.
            while self.survey.changed().await.is_ok() {
                if self.survey.borrow_and_update().regroups(shipped) {
                    break;
                }
            }
            ended.cancel();
        };
        let shipping = &mut self.shipping;
        let ships = async {
            if shipped.is_empty() {
                shipping.board.set(&shipping.source.name, State::Standby);
                ended.cancelled().await;
                return Ok(());
            }
            shipping.run(&ended, lost).await
        };
        tokio::pin!(news, ships);
        loop {
            tokio::select! {
                done = &mut ships => return done,
                () = &mut news, if !ended.is_cancelled() => {}
                () = stop.cancelled(), if !ended.is_cancelled() => ended.cancel(),
                () = lost.cancelled(), if !ended.is_cancelled() => ended.cancel(),
            }
        }
    }

    /// Gives back what others are to have, takes what is free, carries out what is wished; then reads where everything
    /// stands. Nothing is on its way meanwhile, parked rows included.
    async fn regroup(&mut self, survey: Survey) -> Result<Shards, Error> {
        let lock = Arc::clone(&self.resent);
        let mut resent = lock.lock().await;
        cursor::spread(self.connection, self.grant.owner()).await?;
        let surplus = survey.surplus();
        if !surplus.is_empty() {
            let settled = *resent && self.shipping.is_settled();
            lease::release(self.connection, self.grant, surplus, settled).await?;
            self.tell("handed over", surplus);
        }
        if survey.wanting() > 0 {
            let (grant, cluster) = (self.grant, self.cluster);
            let taken = lease::claim(self.connection, grant, cluster, survey.wanting()).await?;
            self.tell("took", taken);
            if !taken.is_empty() {
                self.shipping.unsettle().await;
            }
        }
        if !survey.wished.is_empty() && self.settle(&mut resent).await? {
            wish::carry_out(self.connection, self.grant, &self.shipping.source.name).await?;
        }
        let shipping = &mut self.shipping;
        shipping.lanes = Lane::load(self.connection, self.grant).await?;
        shipping.parking = Parking::load(self.connection, self.grant).await?;
        let shipped =
            shipping.lanes.iter().fold(Shards::NONE, |shards, lane| shards.and(lane.shards));
        shipping.metrics.owned(shipped);
        Ok(shipped)
    }

    /// Whether cursors may be moved by hand: after that, notes in Kafka say nothing of them any more.
    async fn settle(&mut self, resent: &mut bool) -> Result<bool, Error> {
        if *resent && self.shipping.is_settled() {
            return Ok(true);
        }
        self.shipping.unsettle().await;
        match self.shipping.take_up().await {
            Ok(()) => *resent = true,
            Err(error) if error.is_kafkas() => {
                let source = &self.shipping.source.name;
                tracing::warn!(source, error = error.chain(), "wishes wait until Kafka answers");
            }
            Err(error) => return Err(error),
        }
        Ok(self.shipping.is_settled())
    }

    fn tell(&self, what: &str, shards: Shards) {
        if !shards.is_empty() {
            let source = &self.shipping.source.name;
            tracing::info!(source, count = shards.len(), %shards, "{what} shards");
        }
    }
}
