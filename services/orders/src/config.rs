//! What orders can be told, by flag or environment variable.

use std::time::Duration;

use chassis::{cause::Coordination, config::duration};
use clap::{Parser, ValueEnum};

/// Takes orders and decides their fate.
#[derive(Clone, Debug, Parser)]
#[command(name = "orders", version)]
pub struct Config {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the command's own")]
    pub service: chassis::config::Config,

    /// Whether the stock is checked before an order is accepted.
    #[arg(long, env = "ORDERS_STOCK_CHECK", value_enum, default_value = "none")]
    pub stock_check: StockCheck,

    /// How the services come to agree about an order that does not say: choreography or orchestration.
    #[arg(long, env = "ORDERS_COORDINATION", default_value = "choreography")]
    pub coordination: Coordination,

    /// How long an order may stay pending before it is cancelled.
    #[arg(long, env = "ORDERS_DEADLINE", default_value = "24h", value_parser = duration)]
    pub deadline: Duration,

    /// Where products answers, for the live stock check and the reconciler.
    #[arg(long, env = "PRODUCTS_URL", default_value = "http://127.0.0.1:8085")]
    pub products_url: tonic::transport::Uri,

    /// Where delivery answers, for the reconciler.
    #[arg(long, env = "DELIVERY_URL", default_value = "http://127.0.0.1:8082")]
    pub delivery_url: tonic::transport::Uri,

    /// How often some orders are compared with what products and delivery have of them.
    #[arg(long, env = "RECONCILE_EVERY", default_value = "1m", value_parser = duration)]
    pub reconcile_every: Duration,

    /// How long an order must not have moved before it is compared.
    #[arg(long, env = "RECONCILE_AFTER", default_value = "5m", value_parser = duration)]
    pub reconcile_after: Duration,

    /// How long the live stock check may take.
    #[arg(long, env = "ORDERS_LIVE_CHECK_TIMEOUT", default_value = "2s", value_parser = duration)]
    pub live_check_timeout: Duration,
}

/// Whether the stock is checked before an order is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StockCheck {
    /// Accept every order; the saga decides.
    None,
    /// Refuse a shortage that orders' own replica knows of: available, and perhaps a little behind.
    Replica,
    /// Ask products, and refuse when it cannot be asked: consistent, and down when products is.
    Live,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        super::Config::command().debug_assert();
    }
}
