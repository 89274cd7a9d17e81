//! The process `orders`.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    orders::start(orders::config::Config::parse()).await
}
