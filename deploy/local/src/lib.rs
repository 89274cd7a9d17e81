//! Settle on one machine: Postgres, Kafka, the relay and the services as child processes of one program.
//!
//! [`Stack`] is that machine. `settle up` runs one for a person, the end-to-end tests run one each.

mod cli;
mod datadir;
mod demo;
mod error;
mod events;
mod feed;
mod guard;
mod health;
mod infra;
mod jaeger;
mod jars;
mod kafka;
mod options;
mod packages;
mod ports;
mod postgres;
mod process;
mod progress;
mod provision;
mod reset;
mod seed;
mod service;
mod shop;
mod signals;
mod stack;
mod trace;
mod up;

pub use cli::main;
pub use datadir::DataDir;
pub use error::{Error, Result, TakenPort};
pub use feed::{Event, Feed, From, all_topics, everything};
pub use jaeger::{Backend, JAEGER_VERSION};
pub use jars::KAFKA_VERSION;
pub use options::{Detour, Options, Setting};
pub use ports::Ports;
pub use process::Part;
pub use progress::Progress;
pub use service::SERVICES;
pub use stack::Stack;
