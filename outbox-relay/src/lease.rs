//! Who may ship a database: one owner at a time, by rows with an epoch and an end by the database's clock. Whoever
//! cannot prove its epoch is a zombie and stops; a successor first waits until a zombie's queue is dead.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    cluster::Cluster,
    cursor::{Cursor, Within},
    error::postgres,
};

/// How many shards every outbox has.
pub const SHARDS: u64 = 64;

/// How the lease is kept; all relays of one database must agree on it.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Unique to this process, so that nobody else is taken for it.
    pub owner: String,
    /// How long a renewal lasts.
    pub lease: Duration,
    /// How long a dead owner's events may still arrive after its lease.
    pub delivery_timeout: Duration,
    /// How often the lease is renewed or asked for.
    pub renew_every: Duration,
}

/// The proof that this process owns all shards: every write to the cursor names it.
#[derive(Debug)]
pub struct Grant {
    /// As in the terms.
    pub owner: String,
    /// Grows with every change of owner.
    pub epoch: i64,
    valid_until: Mutex<Instant>,
}

impl Grant {
    /// Whether the lease has not yet run out, by this process's own clock, counted from before it was asked for.
    pub fn is_valid(&self) -> bool {
        Instant::now() < *self.valid_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes the number of cursor rows that a write has moved as the answer to "am I still the owner?".
    ///
    /// # Errors
    /// [`Error::LeaseLost`] unless it moved every shard.
    pub fn confirm(&self, moved: u64) -> Result<(), Error> {
        if moved == SHARDS { Ok(()) } else { Err(Error::LeaseLost("another relay has taken over")) }
    }

    fn extend(&self, until: Instant) {
        *self.valid_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = until;
    }
}

/// Takes the lease and reads the cursor, or answers None while another relay holds it or its queue may still deliver.
///
/// # Errors
/// Postgres', a refused cluster, or cursors that differ.
pub async fn acquire(
    connection: &mut PgConnection,
    terms: &Terms,
    cluster: &Cluster,
) -> Result<Option<(Grant, Cursor)>, Error> {
    let asked = Instant::now();
    let free = sqlx::query_scalar::<_, bool>(
        "select coalesce(bool_and(owner = $1 or lease_until + $2 < clock_timestamp()), false)
         from messaging.outbox_cursor",
    )
    .bind(&terms.owner)
    .bind(terms.delivery_timeout)
    .fetch_one(&mut *connection)
    .await
    .map_err(postgres("taking the lease"))?;
    if !free {
        return Ok(None);
    }
    let mut transaction = connection.begin().await.map_err(postgres("taking the lease"))?;
    if !lock(&mut transaction, terms).await? {
        transaction.rollback().await.map_err(postgres("leaving the lease alone"))?;
        return Ok(None);
    }
    cluster.check(&mut transaction).await?;
    let cursor = read_cursor(&mut transaction).await?;
    let epoch = sqlx::query_scalar::<_, i64>(
        "update messaging.outbox_cursor
         set owner = $1,
             epoch = (select max(epoch) + 1 from messaging.outbox_cursor),
             lease_until = clock_timestamp() + $2,
             system_identifier = $3,
             timeline = $4
         returning epoch",
    )
    .bind(&terms.owner)
    .bind(terms.lease)
    .bind(cluster.system_identifier)
    .bind(cluster.timeline)
    .fetch_one(&mut *transaction)
    .await
    .map_err(postgres("taking the lease"))?;
    transaction.commit().await.map_err(postgres("taking the lease"))?;
    let grant =
        Grant { owner: terms.owner.clone(), epoch, valid_until: Mutex::new(asked + terms.lease) };
    Ok(Some((grant, cursor)))
}

/// Locks all shards in one order and looks again whether they are free.
async fn lock(connection: &mut PgConnection, terms: &Terms) -> Result<bool, Error> {
    let free = sqlx::query_scalar::<_, Option<bool>>(
        "select owner = $1 or lease_until + $2 < clock_timestamp()
         from messaging.outbox_cursor
         order by shard
         for update",
    )
    .bind(&terms.owner)
    .bind(terms.delivery_timeout)
    .fetch_all(connection)
    .await
    .map_err(postgres("locking the cursor"))?;
    Ok(free.into_iter().all(|free| free == Some(true)))
}

async fn read_cursor(connection: &mut PgConnection) -> Result<Cursor, Error> {
    let mut positions = sqlx::query_as::<_, (String, Option<String>, Option<i64>)>(
        "select distinct acked::text,
                target::text,
                sent_seq
         from messaging.outbox_cursor",
    )
    .fetch_all(connection)
    .await
    .map_err(postgres("reading the cursor"))?;
    let (Some((acked, target, sent_seq)), true) = (positions.pop(), positions.is_empty()) else {
        return Err(Error::CursorsDiffer);
    };
    let within =
        target.zip(sent_seq).map(|(target, sent_seq)| Within { target: target.into(), sent_seq });
    Ok(Cursor { acked: acked.into(), within })
}

/// Ends the lease at once, so that a successor need not wait. Only after nothing is on its way any more.
///
/// # Errors
/// Postgres'; a lease that is already another's is left alone.
pub async fn release(connection: &mut PgConnection, grant: &Grant) -> Result<(), Error> {
    sqlx::query(
        "update messaging.outbox_cursor
         set owner = null,
             lease_until = '-infinity'
         where owner = $1
           and epoch = $2",
    )
    .bind(&grant.owner)
    .bind(grant.epoch)
    .execute(connection)
    .await
    .map_err(postgres("releasing the lease"))?;
    Ok(())
}

/// Renews the lease on a connection of its own, and thereby watches over the database: no answer in time is an error.
#[derive(Debug)]
pub struct Keeper<'a> {
    /// Used for nothing else, so that a long statement cannot delay a renewal.
    pub connection: PgConnection,
    /// How long and how often.
    pub terms: &'a Terms,
    /// What is renewed.
    pub grant: &'a Grant,
}

impl Keeper<'_> {
    /// Renews until told to stop.
    ///
    /// # Errors
    /// As [`Keeper::step`].
    pub async fn run(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        loop {
            if stop.run_until_cancelled(tokio::time::sleep(self.terms.renew_every)).await.is_none()
            {
                return Ok(());
            }
            self.step().await?;
        }
    }

    /// Renews once.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when the epoch is another's, [`Error::PostgresSilent`] when the lease would end before an answer.
    pub async fn step(&mut self) -> Result<(), Error> {
        let asked = Instant::now();
        let renewal = sqlx::query(
            "update messaging.outbox_cursor
             set lease_until = clock_timestamp() + $3
             where owner = $1
               and epoch = $2",
        )
        .bind(&self.grant.owner)
        .bind(self.grant.epoch)
        .bind(self.terms.lease)
        .execute(&mut self.connection);
        let moved = timeout(self.terms.lease, renewal)
            .await
            .map_err(|_| Error::PostgresSilent("renewing the lease"))?
            .map_err(postgres("renewing the lease"))?;
        self.grant.confirm(moved.rows_affected())?;
        self.grant.extend(asked + self.terms.lease);
        Ok(())
    }
}
