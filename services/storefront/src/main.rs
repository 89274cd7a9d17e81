//! The process `storefront`.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    storefront::start(storefront::config::Config::parse()).await
}
