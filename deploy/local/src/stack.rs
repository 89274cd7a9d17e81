//! A whole machine: every process of Settle on loopback, started in order, stopped in the opposite order.

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::datadir::{self, DataDir};
use crate::error::{Error, Result, TakenPort};
use crate::guard::{self, Guard};
use crate::kafka::{self, Kafka};
use crate::ports;
use crate::postgres::Postgres;
use crate::process::{Part, Process};
use crate::progress::Progress;

const READY_LIMIT: Duration = Duration::from_secs(60);

/// What a stack runs, and where it finds and keeps things. Port 0 means any free one.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the programs are: `settle` itself, the relay and the services.
    pub programs: PathBuf,
    /// Where downloads are kept.
    pub cache: PathBuf,
    /// Postgres' port.
    pub postgres_port: u16,
    /// Kafka's port.
    pub kafka_port: u16,
}

impl Options {
    /// Free ports, the user's cache, and the programs beside the running one; for tests.
    pub fn on_free_ports() -> Result<Self> {
        let programs = programs_beside_us()?;
        Ok(Self { programs, cache: datadir::default_cache_dir(), postgres_port: 0, kafka_port: 0 })
    }
}

/// Running processes of Settle. Dropped without [`Stack::stop`], they end all the same, less gracefully.
#[derive(Debug)]
pub struct Stack {
    processes: Vec<Process>,
    tasks: TaskTracker,
    postgres: Postgres,
    kafka: Kafka,
    // Dropped last but for the directory: it ends what has not ended by then.
    _guard: Guard,
    dir: DataDir,
}

impl Stack {
    /// Starts Postgres and Kafka alone.
    pub async fn infra(dir: DataDir, options: &Options, progress: &Progress) -> Result<Self> {
        end_leftovers(&dir, progress).await?;
        let postgres_port = ports::or_free(options.postgres_port);
        let kafka_port = ports::or_free(options.kafka_port);
        ports::check([
            TakenPort { port: postgres_port, purpose: "Postgres", flag: "--postgres-port" },
            TakenPort { port: kafka_port, purpose: "Kafka", flag: "--kafka-port" },
        ])?;
        let guard = Guard::start(&options.programs.join("settle"), &dir)?;
        let (postgres, kafka) = tokio::try_join!(
            Postgres::prepare(&dir, postgres_port, progress),
            Kafka::prepare(&dir, &options.cache, kafka_port, progress),
        )?;
        let processes = Part::ALL.map(|part| Process::new(part, &dir)).into();
        let stack =
            Self { processes, tasks: TaskTracker::new(), postgres, kafka, _guard: guard, dir };
        tokio::try_join!(
            stack.start_shown(Part::Postgres, progress),
            stack.start_shown(Part::Kafka, progress)
        )?;
        Ok(stack)
    }

    /// The superuser's URL of Postgres.
    pub fn postgres_url(&self) -> String {
        self.postgres.url()
    }

    /// Kafka's bootstrap address.
    pub fn kafka_bootstrap(&self) -> &str {
        self.kafka.bootstrap()
    }

    /// Where everything is kept.
    pub fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// Starts a process and waits until it is ready.
    pub async fn start(&self, part: Part) -> Result<()> {
        let process = self.process(part);
        match part {
            Part::Postgres => {
                guard::remove_stale_postmaster(self.dir.path())?;
                process.start(self.postgres.spec(), &self.tasks)?;
                process.until_ready(READY_LIMIT, async || self.postgres.answers().await).await
            }
            Part::Kafka => {
                process.start(self.kafka.spec(), &self.tasks)?;
                process
                    .until_ready(READY_LIMIT, async || kafka::answers(self.kafka.bootstrap()).await)
                    .await
            }
            _ => Err(Error::NotRunning(part.name())),
        }
    }

    /// Stops everything in order: services, relay, Kafka, Postgres.
    pub async fn stop(self, progress: &Progress) -> Result<()> {
        for process in self.processes.iter().rev().filter(|process| process.pid().is_ok()) {
            let name = process.part().name();
            let step = progress.step(format!("Stopping {name}"));
            let status = process.end(process.part().soft_signal()).await?;
            step.done(format!("{name} stopped ({status})"));
        }
        Ok(())
    }

    /// Waits until a process ends that nobody asked to.
    pub async fn died(&self) -> Error {
        let any = self.processes.iter().map(|process| Box::pin(process.died()));
        futures::future::select_all(any).await.0
    }

    async fn start_shown(&self, part: Part, progress: &Progress) -> Result<()> {
        let step = progress.step(format!("Starting {}", part.name()));
        self.start(part).await?;
        step.done(format!("{} is ready", part.name()));
        Ok(())
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "there is a process for every part, in their order"
    )]
    fn process(&self, part: Part) -> &Process {
        &self.processes[part as usize]
    }
}

/// Ends what a killed stack has left running in the directory.
async fn end_leftovers(dir: &DataDir, progress: &Progress) -> Result<()> {
    let leftovers = guard::leftovers(dir.path());
    if leftovers.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = leftovers
        .iter()
        .map(|leftover| format!("{} (process {})", leftover.part.name(), leftover.pid))
        .collect();
    let names = names.join(", ");
    let step = progress
        .step(format!("An earlier `settle` was killed; ending what it left running: {names}"));
    let ended = tokio::task::spawn_blocking(move || guard::end(&leftovers)).await;
    ended.map_err(|error| Error::io("end what an earlier `settle` left running")(error.into()))?;
    step.done(format!("ended what an earlier `settle` left running: {names}"));
    Ok(())
}

/// Cargo puts tests one directory below the programs.
fn programs_beside_us() -> Result<PathBuf> {
    let us = std::env::current_exe().map_err(Error::io("find the running program"))?;
    let dir = us.parent().map(PathBuf::from).unwrap_or_default();
    Ok(if dir.ends_with("deps") {
        dir.parent().map(PathBuf::from).unwrap_or_default()
    } else {
        dir
    })
}
