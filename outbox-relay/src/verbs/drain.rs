//! `drain`: a relay hands over its shards and takes no others, so that it can be stopped without anybody waiting.

use sqlx::PgConnection;

use super::{
    choice::all_well,
    error::{Error, doing, refuse},
    terminal::{count, say},
    waiting::{self, Outcome},
};
use crate::{cli, config::Source, shards::Shards};

/// Tells the relays of a name, or all, to hand over, and waits until they own nothing.
///
/// # Errors
/// A name that no relay has, relays that still own shards when the time is over, or the databases that did not answer.
pub async fn drain(flags: &cli::Drain) -> Result<(), Error> {
    let ask = async |source: &Source, connection: &mut PgConnection| {
        let relays = set(connection, flags.relay.as_deref(), true).await?;
        let relays: Vec<String> = relays.into_iter().map(|(owner, _)| owner).collect();
        if relays.is_empty() {
            say(format!("{}: no relay runs", source.name));
            return Ok(());
        }
        let outcome = waiting::until(connection, flags.timeout, async |connection| {
            Ok(owned(connection, &relays).await?.is_empty())
        })
        .await?;
        let owned = owned(connection, &relays).await?;
        if outcome == Outcome::NotYet && !owned.is_empty() {
            return refuse(format!(
                "shards {owned} are not handed over yet: the relays go on draining"
            ));
        }
        let number = i64::try_from(relays.len()).unwrap_or(i64::MAX);
        say(format!("{}: {} drained: {}", source.name, count(number, "relay"), relays.join(", ")));
        tell_what_nobody_ships(connection, source).await
    };
    let (_, errors) = flags.databases.each(ask).await?;
    all_well(errors)
}

/// Marks the living relays of a name, or all, and returns them with what they were marked before.
pub(crate) async fn set(
    connection: &mut PgConnection,
    name: Option<&str>,
    draining: bool,
) -> Result<Vec<(String, bool)>, Error> {
    let mut relays: Vec<(String, String, bool)> = sqlx::query_as(
        "select owner, name, draining
         from messaging.outbox_relay
         where lease_until > clock_timestamp()
         order by name, started_at",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(doing("reading the relays"))?;
    if let Some(wanted) = name {
        let names: Vec<String> = relays.iter().map(|(_, name, _)| name.clone()).collect();
        relays.retain(|(owner, name, _)| name == wanted || owner == wanted);
        if relays.is_empty() {
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return refuse(format!("no relay called {wanted:?} runs; those that do: {names}"));
        }
    }
    let relays: Vec<(String, bool)> =
        relays.into_iter().map(|(owner, _, draining)| (owner, draining)).collect();
    sqlx::query("update messaging.outbox_relay set draining = $2 where owner = any ($1)")
        .bind(relays.iter().map(|(owner, _)| owner.clone()).collect::<Vec<_>>())
        .bind(draining)
        .execute(connection)
        .await
        .map_err(doing("marking relays"))?;
    Ok(relays)
}

/// What these relays own while they live.
async fn owned(connection: &mut PgConnection, owners: &[String]) -> Result<Shards, Error> {
    let mask: i64 = sqlx::query_scalar(
        "select coalesce(bit_or(1::bigint << shard), 0)
         from messaging.outbox_cursor
         join messaging.outbox_relay using (owner)
         where owner = any ($1)
           and lease_until > clock_timestamp()",
    )
    .bind(owners)
    .fetch_one(connection)
    .await
    .map_err(doing("looking after the shards"))?;
    Ok(Shards::from_mask(mask))
}

async fn tell_what_nobody_ships(
    connection: &mut PgConnection,
    source: &Source,
) -> Result<(), Error> {
    let others: bool = sqlx::query_scalar(
        "select exists (
             select
             from messaging.outbox_relay
             where lease_until > clock_timestamp()
               and not draining)",
    )
    .fetch_one(connection)
    .await
    .map_err(doing("reading the relays"))?;
    if !others {
        say(format!(
            "{}: no other relay runs: nothing is shipped until one starts or `resume`",
            source.name
        ));
    }
    Ok(())
}
