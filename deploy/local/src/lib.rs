//! Settle on one machine: Postgres, Kafka, the relay and the services as child processes of one program.
//!
//! [`Stack`] is that machine. `settle up` runs one for a person, the end-to-end tests run one each.

mod cli;
mod datadir;
mod error;
mod guard;
mod infra;
mod jars;
mod kafka;
mod packages;
mod ports;
mod postgres;
mod process;
mod progress;
mod stack;

pub use cli::main;
pub use datadir::DataDir;
pub use error::{Error, Result};
pub use process::Part;
pub use progress::Progress;
pub use stack::{Options, Stack};
