//! The process `orchestrator`.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    orchestrator::start(orchestrator::config::Config::parse()).await
}
