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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_is_sound_and_tells_what_the_service_is_for() {
        let command = Config::command();
        command.clone().debug_assert();
        assert!(command.get_about().is_some_and(|about| about.to_string().contains("catalogue")));
    }
}
