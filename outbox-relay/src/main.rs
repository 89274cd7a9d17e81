//! The binary: parse the arguments and run.

use clap::Parser;
use outbox_relay::{Config, start};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Ok(start(Config::parse()).await?)
}
