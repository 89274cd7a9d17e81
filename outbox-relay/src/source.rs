//! One database from first connection to last: connect, check, wait for the lease, ship, and begin again after any
//! error. Sources know nothing of each other: one that fails does not stop the rest.

use std::{sync::Arc, time::Duration};

use sqlx::PgConnection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    backoff::Backoff,
    budget::Budget,
    cluster::{self, Cluster},
    config::Source,
    cursor::Cursor,
    doorbell::Doorbell,
    health::{Board, State},
    lease::{self, Grant, Keeper, Terms},
    metrics::Metrics,
    rotation::Rotation,
    shipping::Shipping,
};

/// Keeps one database shipped, by this relay or, while another holds the lease, ready to take over.
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
            owner: format!("{}-{}", config.name, uuid::Uuid::now_v7()),
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
            self.metrics.owner(false);
            match ended {
                Err(error @ Error::NotDrained(_)) => return Err(error),
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

    /// Once through: connect, take the lease, ship until something fails or it is time to stop.
    ///
    /// # Errors
    /// What failed.
    pub async fn step(&self, stop: &CancellationToken, backoff: &mut Backoff) -> Result<(), Error> {
        match stop.run_until_cancelled(self.take_lease()).await {
            None => Ok(()),
            Some(taken) => {
                let (connection, grant, cursor) = taken?;
                backoff.reset();
                Box::pin(self.own(connection, &grant, cursor, stop)).await
            }
        }
    }

    async fn take_lease(&self) -> Result<(PgConnection, Grant, Cursor), Error> {
        let mut connection = cluster::connect(&self.source.database).await?;
        let cluster = Cluster::identify(&mut connection, self.config.adopt_cluster).await?;
        loop {
            if let Some((grant, cursor)) =
                lease::acquire(&mut connection, &self.terms, &cluster).await?
            {
                return Ok((connection, grant, cursor));
            }
            self.board.set(&self.source.name, State::Standby);
            tokio::time::sleep(self.terms.renew_every).await;
        }
    }

    /// Ships while the lease holds; whichever part ends first ends the others.
    async fn own(
        &self,
        mut connection: PgConnection,
        grant: &Grant,
        cursor: Cursor,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        tracing::info!(source = self.source.name, epoch = grant.epoch, "took the lease");
        self.metrics.owner(true);
        let lost = CancellationToken::new();
        let doorbell = self.doorbell();
        let rotation = self.rotation();
        let mut keeper = Keeper {
            connection: cluster::connect(&self.source.database).await?,
            terms: &self.terms,
            grant,
        };
        let mut shipping = self.shipping(grant, cursor, Arc::clone(&doorbell.bell)).await?;
        let (shipped, kept, (), ()) = tokio::join!(
            async {
                let shipped = shipping.run(stop, &lost).await;
                lost.cancel();
                shipped
            },
            async {
                let kept = keeper.run(&lost).await;
                lost.cancel();
                kept
            },
            rotation.run(&lost),
            doorbell.run(&lost),
        );
        kept.and(shipped)?;
        lease::release(&mut connection, grant).await
    }

    async fn shipping<'a>(
        &'a self,
        grant: &'a Grant,
        cursor: Cursor,
        doorbell: Arc<Notify>,
    ) -> Result<Shipping<'a>, Error> {
        Ok(Shipping {
            config: &self.config,
            source: &self.source.name,
            database: &self.source.database,
            metrics: &self.metrics,
            board: &self.board,
            grant,
            connection: cluster::connect(&self.source.database).await?,
            cursor,
            doorbell,
            budget: Budget::new(self.config.in_flight_bytes),
        })
    }

    fn doorbell(&self) -> Doorbell {
        Doorbell {
            database: self.source.database.clone(),
            source: self.source.name.clone(),
            bell: Arc::new(Notify::new()),
        }
    }

    fn rotation(&self) -> Rotation {
        Rotation {
            source: self.source.clone(),
            every: self.config.rotate_every,
            metrics: self.metrics.clone(),
        }
    }
}
