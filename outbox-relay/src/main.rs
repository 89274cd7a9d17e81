//! The binary: parse the arguments and do what they say.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use outbox_relay::{cli::Cli, verbs};

/// It halved what spans cost while one thread made and another freed them, and cost nothing where there were none; what it is
/// worth since they are encoded where they end was not measured.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    verbs::main(Cli::parse().verb).await
}
