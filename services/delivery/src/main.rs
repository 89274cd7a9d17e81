//! The process `delivery`.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    delivery::start(delivery::config::Config::parse()).await
}
