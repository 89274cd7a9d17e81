//! What can go wrong on a developer's machine. Every message says what to do next.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::process::Part;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the stack could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading, writing or starting something failed.
    #[error("cannot {action}")]
    Io {
        /// What was being done.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another stack holds the data directory.
    #[error("another `settle` (process {pid}) is using {}: stop it first, or give this one its own --data-dir", dir.display())]
    Busy {
        /// The data directory.
        dir: PathBuf,
        /// The process that holds its lock.
        pid: String,
    },
    /// One or several ports are not free.
    #[error("{}", taken(.0))]
    PortsTaken(Vec<TakenPort>),
    /// A program is missing and cannot be installed from here.
    #[error("{program} is missing: install it first, for example with `{install}`")]
    Missing {
        /// What is missing.
        program: &'static str,
        /// The command that would install it.
        install: String,
    },
    /// What is installed is too old or does not fit the data.
    #[error("{0}")]
    Unfit(String),
    /// A command that prepares something failed.
    #[error("cannot {action}: it ended with {status}\n{output}")]
    Command {
        /// What the command was for.
        action: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        output: String,
    },
    /// A process of the stack ended by itself.
    #[error("{name} ended by itself ({status}); the last lines of {}:\n{tail}", log.display())]
    Died {
        /// The process.
        name: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A process did not become ready in time.
    #[error("{name} is not ready after {limit:?}; the last lines of {}:\n{tail}", log.display())]
    NotReady {
        /// The process.
        name: &'static str,
        /// How long it was waited for.
        limit: Duration,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A process was asked for that is not running.
    #[error("{0} is not running")]
    NotRunning(&'static str),
    /// Postgres refused something.
    #[error("cannot {action}")]
    Postgres {
        /// What was being done.
        action: String,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// Kafka refused something.
    #[error("cannot {action}")]
    Kafka {
        /// What was being done.
        action: String,
        /// Why it failed.
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// A service refused a call or could not be reached.
    #[error("cannot {action}")]
    Call {
        /// What was being done.
        action: String,
        /// Why it failed.
        #[source]
        source: Box<tonic::Status>,
    },
    /// An address is none.
    #[error("cannot use the address {url}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
    /// A person asked for the end while it was still starting.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Wraps an I/O error with the action that met it.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

/// A port that something else listens on.
#[derive(Debug, Clone)]
pub struct TakenPort {
    /// The port.
    pub port: u16,
    /// Who was to listen on it.
    pub part: Part,
    /// What for, where that is not the part's main purpose.
    pub(crate) what: &'static str,
    /// The flag that chooses another.
    pub(crate) flag: &'static str,
}

fn taken(ports: &[TakenPort]) -> String {
    let mut text =
        String::from("nothing was started, because other programs listen on ports it needs:");
    for TakenPort { port, part, what, flag } in ports {
        let name = part.name();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n  {port}, wanted for the {what}{name}: free it, or choose another with {flag}"
        );
    }
    text
}
