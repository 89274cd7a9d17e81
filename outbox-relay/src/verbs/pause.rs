//! `pause` and `resume`: whether shards are shipped at all. Parked rows and wishes are looked after all the same.

use sqlx::PgConnection;

use super::{
    choice::all_well,
    drain,
    error::{Error, doing},
    terminal::say,
    waiting::{self, Outcome},
};
use crate::{cli, config::Source, shards::Shards};

/// Pauses the shards of every database that is meant, and waits until their owners have seen it.
///
/// # Errors
/// The databases that did not answer.
pub async fn pause(flags: &cli::Pause) -> Result<(), Error> {
    let ask = async |source: &Source, connection: &mut PgConnection| {
        let changed = set(connection, flags.shards, true).await?;
        let outcome = seen(connection, flags.shards, &flags.patience).await?;
        let (name, shards) = (&source.name, flags.shards);
        match changed {
            Shards::NONE => say(format!("{name}: shards {shards} were paused already")),
            changed => say(format!("{name}: paused shards {changed}")),
        }
        match outcome {
            Outcome::Done => say(format!(
                "{name}: nothing more of them is read; what was on its way still arrives"
            )),
            Outcome::NobodyRuns => say(format!("{name}: no relay runs")),
            Outcome::NotYet => say(format!("{name}: the owner has not seen it yet: it will")),
        }
        Ok(())
    };
    let (_, errors) = flags.databases.each(ask).await?;
    all_well(errors)
}

/// Lets shards and relays go on.
///
/// # Errors
/// A name that no relay has, or the databases that did not answer.
pub async fn resume(flags: &cli::Resume) -> Result<(), Error> {
    let ask = async |source: &Source, connection: &mut PgConnection| {
        let name = &source.name;
        if flags.shards.is_none() {
            let relays = drain::set(connection, flags.relay.as_deref(), false).await?;
            for (relay, _) in relays.iter().filter(|(_, was_draining)| *was_draining) {
                say(format!("{name}: relay {relay} takes shards again"));
            }
        }
        if flags.relay.is_some() {
            return Ok(());
        }
        let shards = flags.shards.unwrap_or(Shards::ALL);
        match set(connection, shards, false).await? {
            Shards::NONE => say(format!("{name}: none of shards {shards} was paused")),
            resumed => say(format!("{name}: resumed shards {resumed}")),
        }
        if seen(connection, shards, &flags.patience).await? == Outcome::NobodyRuns {
            say(format!("{name}: no relay runs"));
        }
        Ok(())
    };
    let (_, errors) = flags.databases.each(ask).await?;
    all_well(errors)
}

/// Returns the shards for which this is a change.
async fn set(connection: &mut PgConnection, shards: Shards, paused: bool) -> Result<Shards, Error> {
    let changed: Vec<i16> = sqlx::query_scalar(
        "update messaging.outbox_cursor
         set paused = $2
         where ($1::bigint >> shard) & 1 = 1
           and paused <> $2
         returning shard",
    )
    .bind(shards.mask())
    .bind(paused)
    .fetch_all(connection)
    .await
    .map_err(doing("pausing or resuming shards"))?;
    Ok(changed.into_iter().fold(Shards::NONE, |shards, shard| shards.and(Shards::of(shard))))
}

/// Waits until every owner has renewed its lease twice: it looks at what is paused after a renewal, and stops shipping
/// before the next.
async fn seen(
    connection: &mut PgConnection,
    shards: Shards,
    patience: &cli::Patience,
) -> Result<Outcome, Error> {
    let mut waited_for = leases(connection, shards).await?;
    let mut renewals = 0;
    waiting::until(connection, patience.wait, async |connection| {
        let leases = leases(connection, shards).await?;
        let is_news = |(owner, until): &(String, String)| {
            !waited_for.iter().any(|(other, before)| other == owner && before == until)
        };
        if leases.iter().all(is_news) {
            (waited_for, renewals) = (leases, renewals + 1);
        }
        Ok(renewals >= 2)
    })
    .await
}

/// The leases of those who ship these shards.
async fn leases(
    connection: &mut PgConnection,
    shards: Shards,
) -> Result<Vec<(String, String)>, Error> {
    sqlx::query_as(
        "select distinct owner, lease_until::text
         from messaging.outbox_relay
         join messaging.outbox_cursor using (owner)
         where ($1::bigint >> shard) & 1 = 1
           and lease_until > clock_timestamp()",
    )
    .bind(shards.mask())
    .fetch_all(connection)
    .await
    .map_err(doing("reading the leases"))
}
