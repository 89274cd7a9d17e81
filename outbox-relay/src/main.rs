//! The binary: parse the arguments and do what they say.

use std::process::ExitCode;

use clap::Parser;
use outbox_relay::{cli::Cli, verbs};

#[tokio::main]
async fn main() -> ExitCode {
    verbs::main(Cli::parse().verb).await
}
