//! A whole machine: every process of Settle on loopback, started in order, stopped in the opposite order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use nix::sys::signal::Signal;
use tokio_util::task::TaskTracker;

use crate::datadir::DataDir;
use crate::error::{Error, Result};
use crate::guard::{self, Guard};
use crate::jaeger::{self, Backend, Jaeger};
use crate::jars::Runtime;
use crate::kafka::{self, Kafka};
use crate::options::Options;
use crate::postgres::{self, Postgres};
use crate::process::{Part, Process};
use crate::progress::Progress;
use crate::service::{self, Around, SERVICES};
use crate::{health, provision, seed};

const READY_LIMIT: Duration = Duration::from_secs(120);

/// Running processes of Settle. Dropped without [`Stack::stop`], they end all the same; the drop waits for it.
#[derive(Debug)]
pub struct Stack {
    options: Options,
    processes: Vec<Process>,
    /// What a test sets for one process, on top of what the stack sets.
    overrides: Mutex<BTreeMap<Part, BTreeMap<String, String>>>,
    tasks: TaskTracker,
    postgres: Postgres,
    kafka: Option<Kafka>,
    jaeger: Option<Jaeger>,
    // In this order: the guard ends what has not ended, then the directory is given up.
    _guard: Guard,
    dir: DataDir,
}

impl Stack {
    /// Starts Postgres and Kafka alone, and Jaeger where it is asked for.
    pub async fn infra(dir: DataDir, options: &Options, progress: &Progress) -> Result<Self> {
        Self::begin(dir, options, &[Part::Postgres, Part::Kafka, Part::Jaeger], progress).await
    }

    /// Starts everything, and waits until the services are ready and the catalogue is there.
    pub async fn up(dir: DataDir, options: &Options, progress: &Progress) -> Result<Self> {
        options.check_programs()?;
        let stack = Self::begin(dir, options, &Part::ALL, progress).await?;
        stack.provision().await?;
        try_join_all(SERVICES.iter().map(|&part| stack.start_shown(part, progress))).await?;
        stack.start_shown(Part::Relay, progress).await?;
        stack.start_shown(Part::Storefront, progress).await?;
        let step = progress.step("Filling the catalogue");
        stack.seed().await?;
        step.done("the catalogue is there, and orders knows it");
        Ok(stack)
    }

    /// Makes the databases, the roles and the topics; what exists stays.
    pub async fn provision(&self) -> Result<()> {
        let databases = provision::databases(self.options.ports.postgres);
        tokio::try_join!(databases, provision::topics(self.kafka_bootstrap())).map(|_| ())
    }

    /// Creates the products a new shop begins with, and waits until orders has heard of them; what exists stays.
    pub async fn seed(&self) -> Result<()> {
        seed::catalogue(&self.grpc_url(Part::Products), &self.grpc_url(Part::Orders)).await
    }

    /// Starts a process, if it does not run, and waits until it is ready.
    pub async fn start(&self, part: Part) -> Result<()> {
        self.spawn(part)?;
        let ports = &self.options.ports;
        self.process(part)
            .until_ready(READY_LIMIT, async || match part {
                Part::Postgres => self.postgres.answers().await,
                Part::Kafka => kafka::answers(self.kafka_bootstrap()).await,
                Part::Jaeger => jaeger::answers(ports).await,
                Part::Relay => health::ready_by_http(ports.relay).await,
                Part::Products | Part::Delivery | Part::Orchestrator | Part::Orders => {
                    health::serves_grpc(ports.of(part)).await
                }
                Part::Storefront => match ports.metrics_of(part) {
                    Some(port) => health::ready_by_http(port).await,
                    None => false,
                },
            })
            .await
    }

    /// Starts a process, if it does not run, and does not wait.
    pub fn spawn(&self, part: Part) -> Result<()> {
        let mut spec = match part {
            Part::Postgres => {
                guard::remove_stale_postmaster(self.dir.path())?;
                self.postgres.spec().clone()
            }
            Part::Kafka => {
                self.kafka.as_ref().ok_or(Error::NotRunning(part.name()))?.spec().clone()
            }
            Part::Jaeger => {
                self.jaeger.as_ref().ok_or(Error::NotRunning(part.name()))?.spec().clone()
            }
            _ => {
                let Options { programs, ports, .. } = &self.options;
                let (otlp, jaeger) = (self.otlp_url(), self.pages_of_traces());
                let around = Around {
                    bootstrap: self.kafka_bootstrap(),
                    otlp: otlp.as_deref(),
                    jaeger: jaeger.as_deref(),
                    demo: self.options.demo,
                };
                service::spec(part, programs, &self.dir, ports, &around)
            }
        };
        let overrides = self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        spec.env.extend(overrides.get(&part).cloned().unwrap_or_default());
        self.process(part).start(&spec, &self.tasks)
    }

    /// Sets an environment variable for the next start of a process.
    pub fn set_env(&self, part: Part, name: impl Into<String>, value: impl Into<String>) {
        let mut overrides = self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        overrides.entry(part).or_default().insert(name.into(), value.into());
    }

    /// Takes back what [`Stack::set_env`] set, for the next start of a process.
    pub fn unset_env(&self, part: Part, name: &str) {
        let mut overrides = self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        overrides.entry(part).or_default().remove(name);
    }

    /// Kills a process at once (SIGKILL) and waits for its end.
    pub async fn kill9(&self, part: Part) -> Result<ExitStatus> {
        self.process(part).end(Signal::SIGKILL).await
    }

    /// Asks a process to end (SIGTERM; Postgres gets SIGINT, its fast shutdown) and waits for its end.
    pub async fn sigterm(&self, part: Part) -> Result<ExitStatus> {
        self.process(part).end(part.soft_signal()).await
    }

    /// Ends a process by SIGQUIT, and waits for its end: Postgres' immediate shutdown, which its next start recovers from.
    pub async fn quit(&self, part: Part) -> Result<ExitStatus> {
        self.process(part).end(Signal::SIGQUIT).await
    }

    /// Freezes a process (SIGSTOP).
    pub fn pause(&self, part: Part) -> Result<()> {
        self.process(part).signal(Signal::SIGSTOP)
    }

    /// Lets a frozen process go on (SIGCONT).
    pub fn resume(&self, part: Part) -> Result<()> {
        self.process(part).signal(Signal::SIGCONT)
    }

    /// Stops everything in order: services, relay, Jaeger, Kafka, Postgres.
    pub async fn stop(&self, progress: &Progress) -> Result<()> {
        for process in self.processes.iter().rev().filter(|process| process.pid().is_ok()) {
            let name = process.part().name();
            let step = progress.step(format!("Stopping {name}"));
            process.end(process.part().soft_signal()).await?;
            step.done(format!("{name} has stopped"));
        }
        Ok(())
    }

    /// Kills everything at once.
    pub async fn kill(&self) {
        for process in self.processes.iter().filter(|process| process.pid().is_ok()) {
            let _ = process.end(Signal::SIGKILL).await;
        }
    }

    /// Waits until a process ends that nobody asked to.
    pub async fn died(&self) -> Error {
        let any = self.processes.iter().map(|process| Box::pin(process.died()));
        futures::future::select_all(any).await.0
    }

    /// The superuser's URL of Postgres.
    pub fn postgres_url(&self) -> String {
        self.postgres.url()
    }

    /// The URL of a service's database, as the service itself connects.
    pub fn database_url(&self, part: Part) -> String {
        postgres::url(self.options.ports.postgres, part.name(), part.name())
    }

    /// What Kafka was made from, unless it is somebody else's.
    pub(crate) fn kafka_runtime(&self) -> Option<&Runtime> {
        self.kafka.as_ref().map(Kafka::runtime)
    }

    /// Kafka's bootstrap address.
    pub fn kafka_bootstrap(&self) -> &str {
        let external = self.options.kafka.as_deref();
        external.or_else(|| self.kafka.as_ref().map(Kafka::bootstrap)).unwrap_or_default()
    }

    /// The Jaeger of this stack.
    pub(crate) fn jaeger(&self) -> Option<&Jaeger> {
        self.jaeger.as_ref()
    }

    /// The URL of the pages and the API of this stack's Jaeger.
    pub fn jaeger_url(&self) -> Option<String> {
        self.jaeger.as_ref().map(|_| jaeger::url(&self.options.ports))
    }

    /// The same, where that Jaeger has pages to link to.
    fn pages_of_traces(&self) -> Option<String> {
        self.jaeger.as_ref().filter(|jaeger| jaeger.has_pages()).and_then(|_| self.jaeger_url())
    }

    /// The URL of the web page.
    pub fn storefront_url(&self) -> String {
        service::grpc_url(&self.options.ports, Part::Storefront)
    }

    /// Where the spans of all programs go, if anywhere.
    pub fn otlp_url(&self) -> Option<String> {
        match self.options.jaeger.as_ref()? {
            Backend::Own => Some(jaeger::otlp_url(&self.options.ports)),
            Backend::At(url) => Some(url.clone()),
        }
    }

    /// The URL of a service's gRPC calls.
    pub fn grpc_url(&self, part: Part) -> String {
        service::grpc_url(&self.options.ports, part)
    }

    /// The URL below which a service or the relay answers /metrics and /healthz.
    pub fn http_url(&self, part: Part) -> Option<String> {
        self.options.ports.metrics_of(part).map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// The process id of a running process.
    pub fn pid(&self, part: Part) -> Result<i32> {
        self.process(part).pid().map(nix::unistd::Pid::as_raw)
    }

    /// The log of a process.
    pub fn log(&self, part: Part) -> PathBuf {
        self.process(part).log().to_owned()
    }

    /// Where everything is kept.
    pub fn dir(&self) -> &DataDir {
        &self.dir
    }

    async fn begin(
        dir: DataDir,
        options: &Options,
        parts: &[Part],
        progress: &Progress,
    ) -> Result<Self> {
        guard::end_shown(dir.path(), progress).await?;
        let options = Options { ports: options.ports.chosen(), ..options.clone() };
        let parts = options.own(parts);
        options.ports.check(&parts)?;
        let jaeger = own_jaeger(&dir, &options).await?;
        let guard = Guard::start(&options.programs.join("settle"), &dir)?;
        let (postgres, kafka) = tokio::try_join!(
            Postgres::prepare(&dir, &options, progress),
            own_kafka(&dir, &options, progress),
        )?;
        let processes = Part::ALL.map(|part| Process::new(part, &dir)).into();
        let overrides = Mutex::default();
        let tasks = TaskTracker::new();
        let stack = Self {
            options,
            processes,
            overrides,
            tasks,
            postgres,
            kafka,
            jaeger,
            _guard: guard,
            dir,
        };
        let foundation = parts.into_iter().filter(|part| !part.is_ours());
        try_join_all(foundation.map(|part| stack.start_shown(part, progress))).await?;
        Ok(stack)
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

async fn own_kafka(dir: &DataDir, options: &Options, progress: &Progress) -> Result<Option<Kafka>> {
    match &options.kafka {
        None => Kafka::prepare(dir, options, progress).await.map(Some),
        Some(address) if kafka::answers(address).await => Ok(None),
        Some(address) => Err(Error::Unfit(format!(
            "no Kafka answers at {address}, the address given by --kafka"
        ))),
    }
}

async fn own_jaeger(dir: &DataDir, options: &Options) -> Result<Option<Jaeger>> {
    match &options.jaeger {
        None => Ok(None),
        Some(Backend::Own) => Jaeger::prepare(dir, &options.cache, &options.ports).map(Some),
        Some(Backend::At(url)) => jaeger::takes_spans(url).await.map(|()| None),
    }
}
