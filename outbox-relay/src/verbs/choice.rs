//! Which databases a verb is for, and a connection to each.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::timeout;

use super::error::{Error, refuse};
use crate::{cli::Databases, cluster, config::Source};

/// How long a database may take to let a person in.
const CONNECTING: Duration = Duration::from_secs(10);

impl Databases {
    /// Those that are meant.
    ///
    /// # Errors
    /// A name that no source has, or that two have.
    pub fn chosen(&self) -> Result<Vec<&Source>, Error> {
        self.given.check().or_else(refuse)?;
        let names = self.given.all().map(|source| source.name.as_str()).collect::<Vec<_>>();
        if let Some(unknown) = self.only.iter().find(|name| !names.contains(&name.as_str())) {
            return refuse(format!("no source is called {unknown}: there is {}", names.join(", ")));
        }
        let is_meant = |source: &&Source| self.only.is_empty() || self.only.contains(&source.name);
        Ok(self.given.all().filter(is_meant).collect())
    }

    /// The only one that is meant: a sequence number or a key means nothing in another database.
    ///
    /// # Errors
    /// As [`Databases::chosen`], and more than one.
    pub async fn the_one(&self) -> Result<(&Source, PgConnection), Error> {
        let chosen = self.chosen()?;
        let [source] = chosen.as_slice() else {
            let names = chosen.iter().map(|source| source.name.as_str()).collect::<Vec<_>>();
            return refuse(format!(
                "this verb is for one source: choose among {} by --only",
                names.join(", ")
            ));
        };
        Ok((source, connect(source).await?))
    }

    /// Asks each that is meant. One that fails does not keep the others from answering.
    ///
    /// # Errors
    /// As [`Databases::chosen`].
    pub(crate) async fn each<T>(
        &self,
        mut ask: impl AsyncFnMut(&Source, &mut PgConnection) -> Result<T, Error>,
    ) -> Result<(Vec<T>, Vec<Error>), Error> {
        let (mut answers, mut errors) = (Vec::new(), Vec::new());
        for source in self.chosen()? {
            let answer = match connect(source).await {
                Ok(mut connection) => ask(source, &mut connection).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error @ Error::Source { .. }) => errors.push(error),
                Err(error) => errors.push(of(source)(error)),
            }
        }
        Ok((answers, errors))
    }
}

/// Names the source in the error.
pub(crate) fn of(source: &Source) -> impl FnOnce(Error) -> Error {
    |error| Error::Source { name: source.name.clone(), error: Box::new(error) }
}

/// What is left to say when every source was asked.
///
/// # Errors
/// Those that failed, if any.
pub(crate) fn all_well(errors: Vec<Error>) -> Result<(), Error> {
    if errors.is_empty() { Ok(()) } else { Err(Error::Several(errors)) }
}

async fn connect(source: &Source) -> Result<PgConnection, Error> {
    timeout(CONNECTING, cluster::connect(&source.database))
        .await
        .unwrap_or(Err(crate::Error::PostgresSilent("connecting")))
        .map_err(|error| of(source)(Error::Relay(error)))
}
