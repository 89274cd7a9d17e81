//! What the orchestrator can be told, by flag or environment variable.

use std::time::Duration;

use chassis::config::duration;
use clap::Parser;

use crate::patience::Patience;

/// The saga manager: drives orders that are pinned to orchestration by commands, and keeps where each saga stands.
#[derive(Clone, Debug, Parser)]
#[command(name = "orchestrator", version)]
pub struct Config {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the command's own")]
    pub service: chassis::config::Config,

    /// How long to wait for the answer to a command before it is sent again; then twice as long each time.
    #[arg(long, env = "STEP_TIMEOUT", default_value = "5s", value_parser = duration)]
    pub step_timeout: Duration,

    /// The longest time between two sendings.
    #[arg(long, env = "STEP_TIMEOUT_MAX", default_value = "1m", value_parser = duration)]
    pub step_timeout_max: Duration,

    /// How often a command that undoes is sent before its saga is parked for a person. Others are sent without end.
    #[arg(long, env = "COMPENSATION_ATTEMPTS", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub compensation_attempts: i32,
}

impl Config {
    /// How long answers are waited for.
    pub fn patience(&self) -> Patience {
        Patience {
            first: self.step_timeout,
            longest: self.step_timeout_max.max(self.step_timeout),
            attempts: self.compensation_attempts,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn flags_and_variables_do_not_clash() {
        super::Config::command().debug_assert();
    }
}
