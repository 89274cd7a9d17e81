//! What products can be told, by flag or environment variable: nothing of its own so far.

use clap::Parser;

/// The catalogue, its stock, and what of it is reserved for which order.
#[derive(Clone, Debug, Parser)]
#[command(name = "products", version)]
pub struct Config {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the command's own")]
    pub service: chassis::config::Config,
}
