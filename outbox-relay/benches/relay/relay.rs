//! The relay as a process: the program that this crate builds, with the settings that it has by default.

use std::process::Stdio;

use tokio::process::Command;

use crate::{database::Database, process::Process, settings::Settings};

/// The command line, here and nowhere else.
fn command(settings: &Settings, database: &Database) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-relay"));
    command
        .arg("run")
        .args(["--source", &format!("bench={}", database.relay_url())])
        .args(["--kafka", &settings.kafka])
        .args(["--listen", "127.0.0.1:0"])
        .env("RUST_LOG", "warn");
    command
}

/// Starts it on a database.
pub(crate) fn start(settings: &Settings, database: &Database) -> anyhow::Result<Process> {
    Process::start("the relay", command(settings, database), tempfile::tempdir()?)
}

/// What it calls itself.
pub(crate) async fn version() -> anyhow::Result<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-relay"));
    let output = command.arg("--version").stderr(Stdio::inherit()).output().await?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
