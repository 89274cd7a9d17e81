//! The relay against the machine's own limits and against Debezium Server, over one Postgres and one Kafka. Run by
//! `make bench-relay`; everything is real processes, and what counts is the ratio of two numbers of one run.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it prints progress and its table")]

mod settings;

mod event;
mod outbox;

mod database;
mod topic;

mod process;
mod usage;

mod debezium;
mod java;
mod relay;
mod wal;

mod drain;
mod latency;
mod limits;
mod moves;
mod polls;

mod bell;
mod generator;
mod listener;
mod schedule;

mod machine;
mod report;
mod table;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{debezium::Installation, report::Report, settings::Settings};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    settings.check()?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    // Dropping the work ends every process that it has started.
    tokio::select! {
        done = Box::pin(run(&settings)) => done,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("told to stop"),
    }
}

async fn run(settings: &Settings) -> anyhow::Result<()> {
    let debezium = Installation::prepare(settings)?;
    let mut report = Report::new(settings, machine::describe(settings, debezium.as_ref()).await?);
    let measured = measure(settings, debezium.as_ref(), &mut report).await;
    println!("{}", report.render(settings));
    // What was measured before something failed is shown, not kept.
    measured?;
    report.keep(settings)
}

async fn measure(
    settings: &Settings,
    debezium: Option<&Installation>,
    report: &mut Report,
) -> anyhow::Result<()> {
    drain::run(settings, debezium, report).await?;
    latency::run(settings, debezium, report).await?;
    polls::run(settings, report).await?;
    moves::run(settings, report).await
}

/// Says what is being done, while it is done.
fn say(line: impl std::fmt::Display) {
    eprintln!("bench: {line}");
}
