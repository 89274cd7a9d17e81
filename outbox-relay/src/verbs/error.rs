//! Why a verb did not do what it was asked to, in words for whoever typed it.

use crate::error::postgres;

/// Why a verb stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The relay, a database or Kafka.
    #[error("{}{}", .0.chain(), advice(.0))]
    Relay(#[from] crate::Error),
    /// The same, of one among the sources.
    #[error("{name}: {error}")]
    Source {
        /// What the source is called.
        name: String,
        /// What went wrong there.
        #[source]
        error: Box<Error>,
    },
    /// What was asked for makes no sense here; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// Several sources, each with its own.
    #[error("{} sources failed", .0.len())]
    Several(Vec<Error>),
}

impl Error {
    /// One line for each thing that went wrong; none if it was all said before.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Several(errors) => errors.iter().flat_map(Self::lines).collect(),
            Self::Relay(_) | Self::Source { .. } | Self::Refused(_) => vec![self.to_string()],
        }
    }
}

/// Refuses with a sentence.
pub(crate) fn refuse<T>(sentence: impl Into<String>) -> Result<T, Error> {
    Err(Error::Refused(sentence.into()))
}

/// Turns an error of sqlx into one that names the action.
pub(crate) fn doing(action: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Relay(postgres(action)(source))
}

/// What to do about an error, as the end of the sentence that tells it
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn advice(error: &crate::Error) -> &'static str {
    let crate::Error::Postgres { source, .. } = error else {
        return if matches!(error, crate::Error::PostgresSilent(_)) { RUNNING } else { "" };
    };
    let sqlx::Error::Database(answer) = source else { return RUNNING };
    match answer.code().unwrap_or_default().as_ref() {
        "3F000" | "42P01" | "42703" | "42883" => {
            "; the outbox is not there or older than this relay: apply migrations/messaging/*.sql to this database"
        }
        "42501" => {
            "; connect as outbox_operator or outbox_relay, or grant what migrations/messaging/0005_relays.sql grants them"
        }
        "3D000" => "; is the database's name in --source right?",
        code if code.starts_with("28") => "; are the user and the password in --source right?",
        "57014" => "; the database was too busy to answer in time: try again",
        _ => "",
    }
}

const RUNNING: &str = "; is the database running, and is --source right?";
