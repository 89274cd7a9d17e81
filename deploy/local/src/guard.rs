//! Processes that outlived their stack: found by their pid files, ended in order.
//!
//! A guard process waits on a pipe from the stack. The pipe closes when the stack's process ends in whatever way, and
//! the guard then ends what that process has left. A guard that was killed too is made up for by the next start.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::datadir::DataDir;
use crate::error::{Error, Result};
use crate::process::{Part, send};
use crate::progress::Progress;

const PATIENCE: Duration = Duration::from_secs(15);

/// The stack's end of the pipe.
#[derive(Debug)]
pub(crate) struct Guard {
    pipe: Option<ChildStdin>,
    process: Child,
}

impl Guard {
    /// Starts the guard of a data directory; `settle` is the program itself.
    pub(crate) fn start(settle: &Path, dir: &DataDir) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(settle);
        command.arg("guard").arg(dir.path());
        if dir.is_temporary() {
            command.arg("--remove");
        }
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let mut process =
            spawned.map_err(Error::io(format!("start the guard ({} guard)", settle.display())))?;
        Ok(Self { pipe: process.stdin.take(), process })
    }
}

impl Drop for Guard {
    /// Waits until everything has ended; after a clean stop nothing is left to end.
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.process.wait();
    }
}

/// The guard's own process: waits for the pipe to close, then ends what is left.
pub(crate) fn run(dir: &Path, remove: bool) -> Result<()> {
    let mut nothing = Vec::new();
    // An error on the pipe means what its end means.
    let _ = std::io::stdin().read_to_end(&mut nothing);
    end(&leftovers(dir));
    if remove {
        let _ = fs::remove_dir_all(dir);
    }
    Ok(())
}

/// A process of an earlier stack that still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) part: Part,
    pub(crate) pid: Pid,
}

/// What still runs in the data directory.
pub(crate) fn leftovers(dir: &Path) -> Vec<Leftover> {
    let recorded = |part: Part| {
        let ours = dir.join("run").join(format!("{}.pid", part.name()));
        // Somebody may have started Postgres here by hand.
        let its_own = (part == Part::Postgres).then(|| dir.join("postgres/postmaster.pid"));
        let pids = [Some(ours), its_own].into_iter().flatten().filter_map(|file| read_pid(&file));
        pids.filter(|&pid| runs_in(pid, dir)).map(|pid| Leftover { part, pid }).next()
    };
    Part::ALL.into_iter().rev().filter_map(recorded).collect()
}

/// Ends them, the last started first, and kills those that do not end.
pub(crate) fn end(leftovers: &[Leftover]) {
    for &Leftover { part, pid } in leftovers {
        // A paused process cannot end.
        let _ = send(pid, part.soft_signal()).and_then(|()| send(pid, Signal::SIGCONT));
        if !ends_within(pid, PATIENCE) {
            let _ = send(pid, Signal::SIGKILL);
            ends_within(pid, PATIENCE);
        }
    }
}

/// Ends what an earlier stack has left running, and says so.
pub(crate) async fn end_shown(dir: &Path, progress: &Progress) -> Result<()> {
    let leftovers = leftovers(dir);
    if leftovers.is_empty() {
        return Ok(());
    }
    let name = |left: &Leftover| format!("{} (process {})", left.part.name(), left.pid);
    let names = leftovers.iter().map(name).collect::<Vec<_>>().join(", ");
    let step = progress
        .step(format!("An earlier settle was killed; ending what it left running: {names}"));
    let ended = tokio::task::spawn_blocking(move || end(&leftovers)).await;
    ended.map_err(|error| Error::io("end what an earlier settle left running")(error.into()))?;
    step.done(format!("an earlier settle was killed; ended what it had left running: {names}"));
    Ok(())
}

/// Removes a `postmaster.pid` whose Postgres is gone: Postgres itself takes any process with that number for it.
pub(crate) fn remove_stale_postmaster(dir: &Path) -> Result<bool> {
    let file = dir.join("postgres/postmaster.pid");
    match read_pid(&file) {
        Some(pid) if !runs_in(pid, dir) => {
            fs::remove_file(&file).map_err(Error::io(format!("remove {}", file.display())))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn read_pid(file: &Path) -> Option<Pid> {
    fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok().map(Pid::from_raw)
}

/// Whether the process lives and works inside `dir`: a pid alone may long belong to another.
fn runs_in(pid: Pid, dir: &Path) -> bool {
    let Ok(dir) = dir.canonicalize() else { return false };
    fs::read_link(PathBuf::from(format!("/proc/{pid}/cwd"))).is_ok_and(|cwd| cwd.starts_with(dir))
        && !has_ended(pid)
}

/// Whether it has ended; a zombie, which its parent has not asked about yet, has.
fn has_ended(pid: Pid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // The state follows the program's name, which is in parentheses and may hold anything.
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

fn ends_within(pid: Pid, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while !has_ended(pid) {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that works in a directory until it is told to end.
    struct Sleeper(Child);

    impl Sleeper {
        fn start(dir: &Path) -> Self {
            Self(Command::new("sleep").arg("600").current_dir(dir).spawn().unwrap())
        }

        fn pid(&self) -> Pid {
            Pid::from_raw(self.0.id().try_into().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn data_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("run")).unwrap();
        fs::create_dir_all(dir.path().join("postgres")).unwrap();
        dir
    }

    #[test]
    fn a_recorded_process_that_works_in_the_directory_is_ended() {
        let dir = data_dir();
        let sleeper = Sleeper::start(dir.path());
        fs::write(dir.path().join("run/orders.pid"), format!("{}\n", sleeper.pid())).unwrap();
        let found = leftovers(dir.path());
        assert_eq!(found, [Leftover { part: Part::Orders, pid: sleeper.pid() }]);
        end(&found);
        assert_eq!(leftovers(dir.path()), []);
    }

    #[test]
    fn a_paused_process_is_ended_too() {
        let dir = data_dir();
        let sleeper = Sleeper::start(dir.path());
        send(sleeper.pid(), Signal::SIGSTOP).unwrap();
        end(&[Leftover { part: Part::Kafka, pid: sleeper.pid() }]);
        assert!(has_ended(sleeper.pid()));
    }

    #[test]
    fn a_process_that_is_gone_is_not_waited_for() {
        let dir = data_dir();
        let mut sleeper = Sleeper::start(dir.path());
        let pid = sleeper.pid();
        sleeper.0.kill().unwrap();
        sleeper.0.wait().unwrap();
        let begin = Instant::now();
        end(&[Leftover { part: Part::Kafka, pid }]);
        assert!(begin.elapsed() < PATIENCE);
    }

    #[test]
    fn a_process_that_only_has_the_number_is_left_alone() {
        let (dir, elsewhere) = (data_dir(), data_dir());
        let stranger = Sleeper::start(elsewhere.path());
        fs::write(dir.path().join("run/orders.pid"), format!("{}\n", stranger.pid())).unwrap();
        assert_eq!(leftovers(dir.path()), []);
    }

    #[test]
    fn a_postmaster_pid_of_a_stranger_is_removed_and_that_of_a_postgres_is_kept() {
        let (dir, elsewhere) = (data_dir(), data_dir());
        let file = dir.path().join("postgres/postmaster.pid");
        let stranger = Sleeper::start(elsewhere.path());
        fs::write(&file, format!("{}\n/somewhere\n", stranger.pid())).unwrap();
        assert!(remove_stale_postmaster(dir.path()).unwrap());
        assert!(!file.exists());

        let ours = Sleeper::start(&dir.path().join("postgres"));
        fs::write(&file, format!("{}\n", ours.pid())).unwrap();
        assert!(!remove_stale_postmaster(dir.path()).unwrap());
        assert_eq!(leftovers(dir.path()), [Leftover { part: Part::Postgres, pid: ours.pid() }]);
    }
}
