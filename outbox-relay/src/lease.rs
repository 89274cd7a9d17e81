//! Who ships which shards: a relay is alive while it renews one row, and its shards are its own while it is. Whoever finds
//! that row gone is a zombie and stops; nothing is sent so late that it could arrive after the lease.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    cluster::Cluster,
    cursor,
    error::postgres,
    shards::{SHARDS, Shards},
};

/// How long after the end of a lease one can be sure of it.
const A_MOMENT: Duration = Duration::from_millis(10);

/// How the lease is kept.
#[derive(Debug, Clone)]
pub struct Terms {
    /// How the relay is called, by people.
    pub name: String,
    /// How long a renewal lasts.
    pub lease: Duration,
    /// How long something that was handed to Kafka's client may still arrive.
    pub delivery_timeout: Duration,
    /// How often the lease is renewed and the others are looked at.
    pub renew_every: Duration,
}

/// A lease that was taken: the name under which shards are owned.
#[derive(Debug)]
pub struct Grant {
    owner: String,
    sends_until: Mutex<Instant>,
}

impl Grant {
    /// Unique to this lease, so that a lease which was lost can never be mistaken for a later one.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Whether what is handed to Kafka's client now will have arrived, or been given up, before the lease ends; by this
    /// process's own clock, counted from before the lease was asked for.
    pub fn may_send(&self) -> bool {
        Instant::now() < *self.sends_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, asked: Instant, terms: &Terms) {
        *self.sends_until.lock().unwrap_or_else(PoisonError::into_inner) =
            asked + terms.lease.saturating_sub(terms.delivery_timeout);
    }
}

/// Makes this relay known, with a lease and no shards yet.
///
/// # Errors
/// Postgres'.
pub async fn join(connection: &mut PgConnection, terms: &Terms) -> Result<Grant, Error> {
    let asked = Instant::now();
    let owner = format!("{}-{}", terms.name, uuid::Uuid::now_v7());
    sqlx::query(
        "insert into messaging.outbox_relay (owner, name, lease_until)
         values ($1, $2, clock_timestamp() + $3)",
    )
    .bind(&owner)
    .bind(&terms.name)
    .bind(terms.lease)
    .execute(connection)
    .await
    .map_err(postgres("taking a lease"))?;
    let grant = Grant { owner, sends_until: Mutex::new(asked) };
    grant.extend(asked, terms);
    Ok(grant)
}

/// Takes up to so many free shards and returns them. Others that do the same get different ones.
///
/// # Errors
/// [`Error::LeaseLost`], or Postgres'.
pub async fn claim(
    connection: &mut PgConnection,
    grant: &Grant,
    cluster: &Cluster,
    count: u32,
) -> Result<Shards, Error> {
    let mut transaction = connection.begin().await.map_err(postgres("taking shards"))?;
    let alive = sqlx::query("select from messaging.outbox_relay where owner = $1 for share")
        .bind(&grant.owner)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(postgres("looking after the lease"))?;
    if alive.is_none() {
        return Err(Error::LeaseLost("it ended unrenewed"));
    }
    let dead = dead(&mut transaction).await?;
    // Whoever left them may have moved them together; from now on they may have different owners.
    for owner in &dead {
        cursor::spread(&mut transaction, owner).await?;
    }
    let taken = sqlx::query_scalar::<_, i16>(
        "update messaging.outbox_cursor
         set owner = $1,
             epoch = epoch + 1,
             system_identifier = $3,
             timeline = $4
         where shard in (
             select shard
             from messaging.outbox_cursor
             where owner is null
                or owner = any ($5)
             order by shard
             limit $2
             for update skip locked)
         returning shard",
    )
    .bind(&grant.owner)
    .bind(i64::from(count))
    .bind(cluster.system_identifier)
    .bind(cluster.timeline)
    .bind(&dead)
    .fetch_all(&mut *transaction)
    .await
    .map_err(postgres("taking shards"))?;
    transaction.commit().await.map_err(postgres("taking shards"))?;
    Ok(taken
        .into_iter()
        .map(i64::from)
        .fold(Shards::NONE, |shards, shard| shards.and(Shards::from_mask(1 << shard))))
}

/// The owners that are gone, with all of their shards locked: decided once, since another one may go between two looks.
/// The second look is for one that came while the locks were waited for. A name that is gone never comes back.
async fn dead(transaction: &mut PgConnection) -> Result<Vec<String>, Error> {
    let absent = sqlx::query_scalar::<_, String>(
        "select owner
         from messaging.outbox_cursor cursor
         where owner is not null
           and not exists (select from messaging.outbox_relay relay where relay.owner = cursor.owner)
         order by shard
         for update",
    )
    .fetch_all(&mut *transaction)
    .await
    .map_err(postgres("taking shards"))?;
    sqlx::query_scalar(
        "select distinct owner
         from unnest($1::text[]) as absent (owner)
         where not exists (select from messaging.outbox_relay relay where relay.owner = absent.owner)",
    )
    .bind(absent)
    .fetch_all(transaction)
    .await
    .map_err(postgres("taking shards"))
}

/// Ends the lease of a relay that failed, so that the others do not keep a share for it. Its shards stay in its name, for
/// whoever takes them to see who had them.
///
/// # Errors
/// Postgres'.
pub async fn abandon(connection: &mut PgConnection, grant: &Grant) -> Result<(), Error> {
    sqlx::query("delete from messaging.outbox_relay where owner = $1")
        .bind(&grant.owner)
        .execute(connection)
        .await
        .map_err(postgres("ending the lease"))?;
    Ok(())
}

/// Gives shards back, so that another relay need not wait. Only after nothing of theirs is on its way any more. The next
/// owner has nothing to ask Kafka for if all is `settled`: everything that counts there is recorded here. What an earlier
/// owner may have left in Kafka, and this one never took up, is for the next one to take up all the same.
///
/// # Errors
/// Postgres'; shards that are already another's are left alone.
pub async fn release(
    connection: &mut PgConnection,
    grant: &Grant,
    shards: Shards,
    settled: bool,
) -> Result<(), Error> {
    sqlx::query(
        "update messaging.outbox_cursor
         set owner = null,
             fence = case when $3 then nullif(fence, owner) else fence end
         where owner = $1
           and ($2::bigint >> shard) & 1 = 1",
    )
    .bind(&grant.owner)
    .bind(shards.mask())
    .bind(settled)
    .execute(connection)
    .await
    .map_err(postgres("giving shards back"))?;
    Ok(())
}

/// Ends the lease and gives everything back, `settled` as in [`release`]. Only after nothing is on its way any more.
///
/// # Errors
/// Postgres'.
pub async fn leave(
    connection: &mut PgConnection,
    grant: &Grant,
    settled: bool,
) -> Result<(), Error> {
    release(connection, grant, Shards::ALL, settled).await?;
    abandon(connection, grant).await
}

/// What a look around has found: who is there, what is free, what people wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Survey {
    /// Our shards.
    pub held: Shards,
    /// Shards that nobody ships.
    pub free: Shards,
    /// Shards that a person has paused.
    pub paused: Shards,
    /// Shards for which a verb waits.
    pub wished: Shards,
    /// How many shards are this relay's part, if every living relay takes as many.
    pub share: u32,
}

impl Survey {
    /// Our shards beyond the share: somebody else is to have them.
    pub fn surplus(&self) -> Shards {
        self.held.last(self.held.len().saturating_sub(self.share))
    }

    /// How many free shards are ours to take.
    pub fn wanting(&self) -> u32 {
        self.share.saturating_sub(self.held.len()).min(self.free.len())
    }

    /// Whether shipping has to stop for a moment, to go on with other shards or from elsewhere. `shipped` are the shards
    /// that it goes on with now.
    pub fn regroups(&self, shipped: Shards) -> bool {
        !self.surplus().is_empty()
            || self.wanting() > 0
            || !self.wished.common(self.held).is_empty()
            || self.held.without(self.paused) != shipped
    }
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
    /// Where surveys are told.
    pub told: watch::Sender<Survey>,
}

impl Keeper<'_> {
    /// Renews until told to stop.
    ///
    /// # Errors
    /// As [`Keeper::step`].
    pub async fn run(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        loop {
            let pause = self.step().await?;
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Renews once, ends the leases of those who did not, and looks around. Returns when to do so again: on time, or as
    /// soon as somebody else's lease may have run out.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when somebody has ended ours, [`Error::PostgresSilent`] when it would end before an answer.
    pub async fn step(&mut self) -> Result<Duration, Error> {
        let (survey, first_end) = timeout(self.terms.lease, self.look())
            .await
            .map_err(|_| Error::PostgresSilent("renewing the lease"))??;
        self.told.send_replace(survey);
        let first_end = first_end.map_or(Duration::MAX, |seconds| {
            Duration::from_secs_f64(seconds.max(0.0)).saturating_add(A_MOMENT)
        });
        Ok(self.terms.renew_every.min(first_end))
    }

    async fn look(&mut self) -> Result<(Survey, Option<f64>), Error> {
        let asked = Instant::now();
        let renewed = sqlx::query(
            "update messaging.outbox_relay
             set lease_until = clock_timestamp() + $2
             where owner = $1",
        )
        .bind(&self.grant.owner)
        .bind(self.terms.lease)
        .execute(&mut self.connection)
        .await
        .map_err(postgres("renewing the lease"))?;
        if renewed.rows_affected() == 0 {
            return Err(Error::LeaseLost("it ended unrenewed"));
        }
        self.grant.extend(asked, self.terms);
        sqlx::query("delete from messaging.outbox_relay where lease_until < clock_timestamp()")
            .execute(&mut self.connection)
            .await
            .map_err(postgres("ending leases"))?;
        survey(&mut self.connection, &self.grant.owner).await
    }
}

/// What there is to see, and in how many seconds the first lease of another relay ends.
async fn survey(
    connection: &mut PgConnection,
    owner: &str,
) -> Result<(Survey, Option<f64>), Error> {
    type Row = (i64, i64, i64, i64, i64, i64, bool, Option<f64>);
    let (held, free, paused, wished, others, before, draining, first_end) =
        sqlx::query_as::<_, Row>(
            "select coalesce(bit_or(1::bigint << shard) filter (where cursor.owner = $1), 0),
                    coalesce(bit_or(1::bigint << shard) filter (where relay.owner is null), 0),
                    coalesce(bit_or(1::bigint << shard) filter (where paused), 0),
                    coalesce(bit_or(1::bigint << shard) filter (where wish is not null), 0),
                    (select count(*) from messaging.outbox_relay where not draining and owner <> $1),
                    (select count(*) from messaging.outbox_relay where not draining and owner < $1),
                    coalesce((select draining from messaging.outbox_relay where owner = $1), true),
                    (select extract(epoch from min(lease_until) - clock_timestamp())::float8
                     from messaging.outbox_relay
                     where owner <> $1)
             from messaging.outbox_cursor cursor
             left join messaging.outbox_relay relay on relay.owner = cursor.owner",
        )
        .bind(owner)
        .fetch_one(connection)
        .await
        .map_err(postgres("looking around"))?;
    let share = if draining { 0 } else { share(others, before) };
    let [held, free, paused, wished] = [held, free, paused, wished].map(Shards::from_mask);
    Ok((Survey { held, free, paused, wished, share }, first_end))
}

/// The part of one among all: as many for each, and what is left over to the first.
fn share(others: i64, before: i64) -> u32 {
    let all = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
    SHARDS / all + u32::from(before < i64::from(SHARDS % all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_relays_are_all_shards() {
        for relays in 1..70 {
            let shares: Vec<u32> = (0..relays).map(|before| share(relays - 1, before)).collect();
            assert_eq!(shares.iter().sum::<u32>(), SHARDS, "{relays} relays: {shares:?}");
            assert!(shares.iter().max() <= shares.iter().min().map(|least| least + 1).as_ref());
        }
    }

    #[test]
    fn a_newcomer_takes_what_is_free_and_the_others_hand_over_the_rest() {
        let alone = Survey { held: Shards::ALL, share: 32, ..Survey::default() };
        assert_eq!(alone.surplus().len(), 32);
        assert!(alone.regroups(Shards::ALL));
        let newcomer = Survey { free: alone.surplus(), share: 32, ..Survey::default() };
        assert_eq!(newcomer.wanting(), 32);
        let settled = Survey { held: Shards::ALL.last(32), share: 32, ..Survey::default() };
        assert!(!settled.regroups(settled.held));
    }
}
