//! One child process: started, watched, signalled. Its output goes straight into its own log file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::datadir::DataDir;
use crate::error::{Error, Result};

/// How long a process may take to end when asked to.
const PATIENCE: Duration = Duration::from_secs(30);
const LOG_TAIL: u64 = 4096;

/// The processes of a stack; they stop in the opposite order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The one Postgres of all services, a database each.
    Postgres,
    /// One Apache Kafka node.
    Kafka,
    /// Keeps and shows the traces; only where it is asked for.
    Jaeger,
    /// Ships the outboxes to Kafka.
    Relay,
    /// The stock.
    Products,
    /// The deliveries.
    Delivery,
    /// The sagas of orders that are pinned to orchestration.
    Orchestrator,
    /// The orders.
    Orders,
    /// The web page.
    Storefront,
}

impl Part {
    /// Every part, in the order of their definition.
    pub const ALL: [Self; 9] = [
        Self::Postgres,
        Self::Kafka,
        Self::Jaeger,
        Self::Relay,
        Self::Products,
        Self::Delivery,
        Self::Orchestrator,
        Self::Orders,
        Self::Storefront,
    ];

    /// The name of its log, and of its program where that is ours.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::Jaeger => "jaeger",
            Self::Relay => "outbox-relay",
            Self::Products => "products",
            Self::Delivery => "delivery",
            Self::Orchestrator => "orchestrator",
            Self::Orders => "orders",
            Self::Storefront => "storefront",
        }
    }

    /// Whether this workspace builds its program.
    pub(crate) const fn is_ours(self) -> bool {
        !matches!(self, Self::Postgres | Self::Kafka | Self::Jaeger)
    }

    /// The signal that asks it to end in order. Postgres would wait for its clients on a SIGTERM.
    pub(crate) const fn soft_signal(self) -> Signal {
        match self {
            Self::Postgres => Signal::SIGINT,
            _ => Signal::SIGTERM,
        }
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(String, String)>,
    /// Where it runs; inside the data directory, which is how a leftover is recognised.
    pub(crate) dir: PathBuf,
    /// Another user than ours.
    pub(crate) user: Option<(Uid, Gid)>,
}

impl Spec {
    /// The command, without its output.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().cloned())
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        // The output goes into a file.
        command.env("NO_COLOR", "1");
        // A Ctrl-C reaches us alone: we end the others, in order.
        command.process_group(0);
        if let Some((uid, gid)) = self.user {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    Idle,
    Running { pid: Pid, asked: bool },
    Ended { status: ExitStatus, asked: bool },
}

/// A process that can be started again and again.
#[derive(Debug)]
pub(crate) struct Process {
    part: Part,
    log: PathBuf,
    pid_file: PathBuf,
    state: watch::Sender<State>,
}

impl Process {
    pub(crate) fn new(part: Part, dir: &DataDir) -> Self {
        let log = dir.logs().join(format!("{}.log", part.name()));
        // The log of the stack before is kept, those before that are not. There may be none.
        let _ = fs::rename(&log, log.with_extension("previous.log"));
        let pid_file = dir.run().join(format!("{}.pid", part.name()));
        Self { part, log, pid_file, state: watch::Sender::new(State::Idle) }
    }

    pub(crate) fn part(&self) -> Part {
        self.part
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it; does nothing while it runs.
    pub(crate) fn start(&self, spec: &Spec, tasks: &TaskTracker) -> Result<()> {
        if self.pid().is_ok() {
            return Ok(());
        }
        let name = self.part.name();
        let log = || {
            let file = File::options().create(true).append(true).open(&self.log);
            file.map_err(Error::io(format!("open {}", self.log.display())))
        };
        let mut child = spec
            .command()
            .stdout(log()?)
            .stderr(log()?)
            .spawn()
            .map_err(Error::io(format!("start {name} ({})", spec.program.display())))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let pid = pid.ok_or(Error::NotRunning(name))?;
        fs::write(&self.pid_file, format!("{pid}\n"))
            .map_err(Error::io(format!("write {}", self.pid_file.display())))?;
        self.state.send_replace(State::Running { pid, asked: false });
        let state = self.state.clone();
        tasks.spawn(async move {
            if let Ok(status) = child.wait().await {
                state.send_modify(|state| {
                    let asked = matches!(state, State::Running { asked: true, .. });
                    *state = State::Ended { status, asked };
                });
            }
        });
        Ok(())
    }

    /// Its process id while it runs.
    pub(crate) fn pid(&self) -> Result<Pid> {
        match *self.state.borrow() {
            State::Running { pid, .. } => Ok(pid),
            _ => Err(Error::NotRunning(self.part.name())),
        }
    }

    /// Waits until it has ended, if it was ever started.
    pub(crate) async fn ended(&self) -> Result<ExitStatus> {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| !matches!(state, State::Running { .. })).await;
        match ended.as_deref() {
            Ok(State::Ended { status, .. }) => Ok(*status),
            _ => Err(Error::NotRunning(self.part.name())),
        }
    }

    /// Waits until it ends without having been asked to.
    pub(crate) async fn died(&self) -> Error {
        let mut state = self.state.subscribe();
        let died = state.wait_for(|state| matches!(state, State::Ended { asked: false, .. })).await;
        match died.as_deref() {
            Ok(State::Ended { status, .. }) => Error::Died {
                name: self.part.name(),
                status: *status,
                log: self.log.clone(),
                tail: tail(&self.log),
            },
            _ => Error::NotRunning(self.part.name()),
        }
    }

    /// Repeats `probe` until it is true.
    pub(crate) async fn until_ready(
        &self,
        limit: Duration,
        mut probe: impl AsyncFnMut() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        let ready = async {
            while !probe().await {
                sleep(Duration::from_millis(25)).await;
            }
        };
        tokio::select! {
            died = self.died() => Err(died),
            () = ready => Ok(()),
            () = tokio::time::sleep_until(deadline) => Err(Error::NotReady {
                name: self.part.name(),
                limit,
                log: self.log.clone(),
                tail: tail(&self.log),
            }),
        }
    }

    /// Sends a signal that is not meant to end it.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        send(self.pid()?, signal)
            .map_err(Error::io(format!("send {signal} to {}", self.part.name())))
    }

    /// Sends a signal that ends it, and waits for that. One that does not end in time is killed.
    pub(crate) async fn end(&self, signal: Signal) -> Result<ExitStatus> {
        self.state.send_if_modified(|state| {
            if let State::Running { asked, .. } = state {
                *asked = true;
            }
            false
        });
        self.signal(signal)?;
        // A paused process cannot end.
        self.signal(Signal::SIGCONT)?;
        if let Ok(ended) = timeout(PATIENCE, self.ended()).await {
            return ended;
        }
        self.signal(Signal::SIGKILL)?;
        self.ended().await
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().rev().take(15).map(|line| format!("    {line}")).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Sends a signal; a process that is gone already is no error.
pub(crate) fn send(pid: Pid, signal: Signal) -> std::io::Result<()> {
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
