//! The binary: parse the arguments and do what they say.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use outbox_relay::{cli::Cli, verbs};

/// A span is made on one thread and freed on another, which costs glibc's allocator twice as much.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    verbs::main(Cli::parse().verb).await
}
