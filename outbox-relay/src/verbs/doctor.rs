//! `doctor`: everything that the relay relies on and cannot see to by itself, one line each, with what to do about it.

pub mod kafka;
pub mod leases;
pub mod markers;
pub mod rights;
pub mod ring;
pub mod schema;
pub mod server;
pub mod session;
pub mod writers;

use serde::Serialize;
use sqlx::PgConnection;

use super::{
    error::Error,
    terminal::{self, say},
};
use crate::{cli, config::Source, inspection};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Verdict {
    #[serde(rename = "ok")]
    Ok,
    /// Works, but not as well as it could, or not for long.
    #[serde(rename = "warn")]
    Warn,
    /// Events would be lost, inverted or held back.
    #[serde(rename = "FAIL")]
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    check: &'static str,
    verdict: Verdict,
    /// What was found and, unless it is fine, what to do.
    says: String,
}

impl Check {
    fn new(check: &'static str, verdict: Verdict, says: impl Into<String>) -> Self {
        Self { check, verdict, says: says.into() }
    }

    pub(crate) fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, says)
    }

    pub(crate) fn warn(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warn, says)
    }

    pub(crate) fn fail(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Verdict::Fail, says)
    }

    /// A check that could not be made is one that failed.
    fn made(check: &'static str, made: Result<Self, Error>) -> Self {
        made.unwrap_or_else(|error| Self::fail(check, error.to_string()))
    }

    fn show(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        format!("  {verdict}  {:<18}  {}", self.check, terminal::printable(&self.says))
    }
}

/// Everything that was found out about one database.
#[derive(Debug, Serialize)]
struct Examination {
    source: String,
    checks: Vec<Check>,
}

/// Examines every database that is meant.
///
/// # Errors
/// That something fails, after everything was said.
pub async fn examine(flags: &cli::Doctor) -> Result<(), Error> {
    let ask = async |source: &Source, connection: &mut PgConnection| {
        let checks = Box::pin(checks(connection, source, flags)).await;
        Ok(Examination { source: source.name.clone(), checks })
    };
    let (examined, mut errors) = flags.databases.each(ask).await?;
    if flags.json {
        terminal::say_json(&examined);
    } else {
        for examination in &examined {
            say(format!("{}:", examination.source));
            examination.checks.iter().for_each(|check| say(check.show()));
        }
    }
    for examination in &examined {
        let failed =
            examination.checks.iter().filter(|check| check.verdict == Verdict::Fail).count();
        if failed > 0 {
            errors.push(Error::Refused(format!(
                "{}: {failed} of {} checks failed",
                examination.source,
                examination.checks.len()
            )));
        }
    }
    super::choice::all_well(errors)
}

async fn checks(connection: &mut PgConnection, source: &Source, flags: &cli::Doctor) -> Vec<Check> {
    let mut checks = vec![Check::made("server", server::is_fit(connection).await)];
    let schema = Check::made("tables", schema::is_there(connection).await);
    let is_there = schema.verdict == Verdict::Ok;
    checks.push(schema);
    checks.push(Check::made("connection", session::is_direct(connection, source).await));
    checks.push(Check::made("durability", server::commits_are_durable(connection).await));
    if let Some(mapping) = source.table.mapping.as_ref().filter(|_| is_there) {
        checks.push(match inspection::inspect(connection, mapping).await {
            Ok(()) => {
                Check::ok("mapped table", format!("{} has what the map names", source.table.name))
            }
            Err(error) => Check::fail("mapped table", error.to_string()),
        });
    }
    if is_there {
        checks.extend([
            Check::made("sequence", schema::sequence_is_uncached(connection).await),
            Check::made("cluster", server::is_the_cursors_cluster(connection).await),
            Check::made("rights", rights::suffice(connection).await),
            Check::made("leases", leases::are_held(connection).await),
            Check::made("wishes", leases::wishes_are_carried_out(connection).await),
            Check::made("ring", ring::is_emptied(connection).await),
            Check::made("rotation", ring::rotation_gives_way(connection).await),
            Check::made("autovacuum", ring::autovacuum_is_off(connection).await),
            Check::made("writers", writers::are_short(connection, source).await),
        ]);
    }
    if let Some(servers) = flags.kafka.as_deref().filter(|_| is_there) {
        let ready = kafka::is_ready(connection, source, servers, &flags.broker).await;
        checks.push(Check::made("kafka", ready));
        if flags.exactly_once {
            checks.push(Check::made("markers", markers::are_kept(servers, flags).await));
        }
    }
    checks
}
