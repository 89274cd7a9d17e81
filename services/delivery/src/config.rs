//! What delivery can be told, by flag or environment variable.

use clap::Parser;

/// The delivery service: opens a delivery for every order, and arbitrates between cancelling and shipping.
#[derive(Clone, Debug, Parser)]
#[command(name = "delivery", version)]
pub struct Config {
    /// What every service can be told.
    #[command(flatten)]
    pub shared: chassis::config::Config,

    /// Beginnings of addresses that no carrier delivers to, separated by commas; deliveries to them fail at once.
    #[arg(long, env = "DELIVERY_NO_CARRIER", value_delimiter = ',')]
    pub no_carrier: Vec<String>,
}
