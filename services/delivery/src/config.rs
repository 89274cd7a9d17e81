//! What delivery can be told, by flag or environment variable.

use clap::Parser;

/// The delivery service: opens a delivery for every order, and arbitrates between cancelling and shipping.
#[derive(Clone, Debug, Parser)]
#[command(name = "delivery", version)]
pub struct Config {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the command's own")]
    pub service: chassis::config::Config,

    /// Beginnings of addresses that no carrier delivers to, separated by commas; deliveries to them fail at once.
    #[arg(long, env = "DELIVERY_NO_CARRIER", value_delimiter = ',')]
    pub no_carrier: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags_and_variables_do_not_clash() {
        Config::command().debug_assert();
    }

    #[test]
    fn addresses_without_a_carrier_are_separated_by_commas() {
        let args = [
            "delivery",
            "--database-url=postgres://localhost/delivery",
            "--listen=127.0.0.1:8082",
            "--no-carrier=Atlantis,El Dorado",
        ];
        assert_eq!(Config::parse_from(args).no_carrier, ["Atlantis", "El Dorado"]);
    }
}
