//! The command line of `chaos`.

use std::{
    io::Write as _,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use local::Progress;
use tokio_util::sync::CancellationToken;

use crate::{
    arena::Arena,
    load::{self, Shape},
    report,
    run::{self, Outcome, Plan},
};

/// Runs the whole shop under load while its parts are killed, paused, cut off and set back; then lets it settle, and holds
/// every database and every topic against what was promised. Prints a report as Markdown.
///
/// Exit codes: 0 when nothing is wrong, 1 when something is, 2 when it could not be run. Ctrl-C ends load and faults, and the
/// report is of what there was until then.
#[derive(Debug, Parser)]
#[command(name = "chaos", version, max_term_width = 100)]
struct Cli {
    /// How long there are orders and faults: 30s, 2m, 10m.
    #[arg(long, default_value = "2m", value_parser = duration)]
    duration: Duration,

    /// About how long from one fault to the next.
    #[arg(long, default_value = "3s", value_parser = duration)]
    fault_every: Duration,

    /// Load alone, no faults.
    #[arg(long)]
    calm: bool,

    /// Repeats the plan of another run: the same orders and faults in the same order.
    #[arg(long)]
    seed: Option<u64>,

    /// How long the shop has to settle when everything is healed.
    #[arg(long, default_value = "3m", value_parser = duration)]
    patience: Duration,

    #[command(flatten)]
    shape: Shape,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "is written as 30s, 2m or 500ms".to_owned();
    let digits = text.find(|it: char| !it.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(60 * number.min(1_000_000)),
        _ => return Err(wrong()),
    };
    if duration.is_zero() { Err("is nothing".to_owned()) } else { Ok(duration) }
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(play(cli)) {
        Ok(outcome) if outcome.findings.is_empty() && outcome.unsettled.is_none() => {
            ExitCode::SUCCESS
        }
        Ok(_) => ExitCode::from(1),
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    say(&format!("{error:?}"));
    ExitCode::from(2)
}

async fn play(cli: Cli) -> anyhow::Result<Outcome> {
    let plan = Plan {
        shape: cli.shape,
        seed: cli.seed.unwrap_or_else(|| rand::random_range(0..1_000_000)),
        lasts: cli.duration,
        fault_every: (!cli.calm).then_some(cli.fault_every),
        patience: cli.patience,
    };
    let stop = CancellationToken::new();
    let outcome = tokio::select! {
        outcome = play_through(&plan, &stop) => outcome?,
        never = watch_for_ctrl_c(&stop) => never?,
    };
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let text = report::markdown(format!("chaos {command}").trim(), &plan, &outcome);
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(outcome)
}

/// The first Ctrl-C ends load and faults, the second everything.
async fn watch_for_ctrl_c(stop: &CancellationToken) -> anyhow::Result<Outcome> {
    tokio::signal::ctrl_c().await?;
    say("ending; once more for at once");
    stop.cancel();
    tokio::signal::ctrl_c().await?;
    anyhow::bail!("interrupted")
}

async fn play_through(plan: &Plan, stop: &CancellationToken) -> anyhow::Result<Outcome> {
    say(&format!("seed {}; starting the shop", plan.seed));
    let arena = Arc::new(Arena::open(&Progress::silent()).await?);
    load::stock_up(&arena, &plan.shape).await?;
    let begin = Instant::now();
    say(&format!("{:?} of orders and faults", plan.lasts));
    let outcome = run::run(&arena, plan, stop, &say).await;
    say(&format!("took {:.0} s in all", begin.elapsed().as_secs_f64()));
    arena.close().await?;
    outcome
}

/// Progress goes to stderr; a closed one is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_do_not_clash() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_duration_needs_a_number_and_a_unit() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert!(duration("10").is_err() && duration("m").is_err() && duration("0s").is_err());
    }
}
