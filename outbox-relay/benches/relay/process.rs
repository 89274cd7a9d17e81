//! One measured process, its output in a file, ended in order or with us.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::usage::Usage;

const PATIENCE: Duration = Duration::from_secs(60);
const LAST_LINES: usize = 20;

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    pid: u32,
    log: PathBuf,
    /// Its working directory, removed with it.
    _directory: TempDir,
}

impl Process {
    /// Starts it in a directory that it has to itself.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        directory: TempDir,
    ) -> anyhow::Result<Self> {
        let log = directory.path().join("log");
        let output = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let child = command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let pid = child.id().with_context(|| format!("{name} ended at once"))?;
        Ok(Self { name, child, pid, log, _directory: directory })
    }

    /// What it has used so far. An error with its last words when it has ended.
    pub(crate) fn usage(&mut self) -> anyhow::Result<Usage> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended by itself ({status}):\n{}", self.name, self.last_words());
        }
        Usage::of(self.pid)
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Asks it to end and waits for that.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid)?), Signal::SIGTERM)
            .with_context(|| format!("stop {}", self.name))?;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.with_context(|| format!("{} did not end:\n{}", self.name, self.last_words()))??;
        Ok(())
    }
}
