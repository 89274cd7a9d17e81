//! Programs the machine has to have. What is missing comes from Debian's packages where we may install them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::unistd::geteuid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::error::{Error, Result};
use crate::progress::{Progress, Step};

/// How many lines of a failed command are shown.
const SHOWN_LINES: usize = 15;

/// Finds a program, installing its package where it is missing and we are root.
pub(crate) async fn require<T>(
    program: &'static str,
    package: &str,
    find: impl Fn() -> Option<T>,
    progress: &Progress,
) -> Result<T> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let missing = || Error::Missing { program, install: format!("sudo apt-get install {package}") };
    if !geteuid().is_root() || in_path("apt-get").is_none() {
        return Err(missing());
    }
    let step = progress.step(format!("Installing {program}: Debian's package {package}"));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run_shown(apt(&["update"]), "read Debian's list of packages (apt-get update)", &step).await?;
    let install = apt(&["install", "--yes", "--no-install-recommends", package]);
    run_shown(install, &format!("install {package} (apt-get install)"), &step).await?;
    step.done(format!("{program} installed: Debian's package {package}"));
    find().ok_or_else(missing)
}

/// Where a program is, by the PATH.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_program(file))
}

pub(crate) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs a command to its end, its newest line shown beside the step; its last lines are in the error.
pub(crate) async fn run_shown(mut command: Command, action: &str, step: &Step) -> Result<()> {
    let failed = |source| Error::Io { action: action.to_owned(), source };
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(failed)?)
        .stderr(writer)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    // The command holds our end of the pipe, which would otherwise never close.
    drop(command);
    let reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).map_err(failed)?;
    let mut lines = BufReader::new(reader).lines();
    let mut last = std::collections::VecDeque::new();
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        step.detail(&line);
        last.push_back(format!("    {line}"));
        if last.len() > SHOWN_LINES {
            last.pop_front();
        }
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Command { action: action.to_owned(), status, output: Vec::from(last).join("\n") })
}
