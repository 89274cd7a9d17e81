//! The command line.

use std::{io::Write as _, num::NonZeroUsize, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{report, scenario, seam::Rule};

/// Looks at every state that the shop can get into, by the functions that decide in production.
///
/// Without a verb: checks that every property holds, and then that each rule of the saga is missed when it is left out.
#[derive(Debug, Parser)]
#[command(name = "model", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    effort: Effort,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check that every property holds in every state, with nothing left out.
    Check(Effort),
    /// Leave out each rule in turn, and print what that breaks in which network.
    Table(Effort),
    /// Leave out one rule, and tell the shortest way in which something breaks.
    Trace {
        /// The rule.
        rule: Rule,
    },
}

#[derive(Clone, Copy, Debug, clap::Args)]
struct Effort {
    /// Let everybody act in the races of two orders, too: millions of states, minutes in a release build.
    #[arg(long)]
    full: bool,
    /// Look with so many threads. With more than one, how many states are looked at before something is found differs.
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
}

/// Does what the command line says. Fails where a property is broken, or a rule is not missed.
pub fn run() -> ExitCode {
    match obey(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody may be there to read it.
            let _unread = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn obey(cli: Cli) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    let check = |out: &mut _, effort: Effort| {
        report::proofs(out, scenario::all(effort.full), effort.threads.get())
    };
    match cli.verb {
        Some(Verb::Check(effort)) => check(&mut out, effort),
        Some(Verb::Table(effort)) => report::table(&mut out, effort.threads.get()),
        Some(Verb::Trace { rule }) => report::trace(&mut out, rule, 1),
        None => {
            let holds = check(&mut out, cli.effort)?;
            writeln!(out)?;
            Ok(report::table(&mut out, cli.effort.threads.get())? && holds)
        }
    }
}
