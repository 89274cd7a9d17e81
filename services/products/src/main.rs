//! The products service: the catalogue, its stock, and what of it is reserved.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    products::start(products::config::Config::parse()).await
}
