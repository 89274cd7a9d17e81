//! The relay under test: inside the test's process, or as the real binary where it is to be killed.

use std::time::Duration;

use clap::Parser;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use outbox_relay::{Config, Error};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::database::Database;

/// Patient enough for a machine that runs many tests at once: no retry, and so no duplicate, by mere slowness.
const PATIENT: [&str; 6] = ["--delivery-timeout", "15s", "--lease", "20s", "--drain", "20s"];

fn arguments(sources: &[(&str, &str)], kafka: &str, more: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["outbox-relay", "--kafka", kafka, "--listen", "127.0.0.1:0"].map(Into::into).into();
    for (name, url) in sources {
        arguments.extend(["--source".to_owned(), format!("{name}={url}")]);
    }
    if more.contains(&"--exactly-once") && !more.contains(&"--markers-topic") {
        // Of its own, by the first database's name: what one test leaves open must not hold back another.
        let database = sources[0].1.rsplit('/').next().unwrap();
        arguments.extend(["--markers-topic".to_owned(), format!("{database}.markers")]);
    }
    if !more.contains(&"--lease") {
        arguments.extend(PATIENT.map(Into::into));
    }
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    arguments
}

pub(crate) fn config(database: &Database, kafka: &str, more: &[&str]) -> Config {
    let config =
        Config::try_parse_from(arguments(&[("test", &database.relay_url())], kafka, more)).unwrap();
    config.check().unwrap();
    config
}

/// A relay in this process.
pub(crate) struct Relay {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinSet<Result<(), Error>>,
}

impl Relay {
    pub(crate) async fn start(database: &Database, kafka: &str, more: &[&str]) -> Self {
        Self::of(&[("test", &database.relay_url())], kafka, more).await
    }

    pub(crate) async fn of(sources: &[(&str, &str)], kafka: &str, more: &[&str]) -> Self {
        let config = Config::try_parse_from(arguments(sources, kafka, more)).unwrap();
        config.check().unwrap();
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(outbox_relay::run(config, listener, stop.clone()));
        Self { address, stop, task }
    }

    /// The status and the body of one of its pages.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The sum of the samples of one of its metrics.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, metrics) = self.page("/metrics").await;
        let samples = metrics.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    pub(crate) async fn says(&self, state: &str) {
        let mut last = String::new();
        let sentence = format!("the relay says {state:?}");
        let said = crate::eventually(&sentence, async || {
            last = self.page("/readyz").await.1;
            last.contains(state)
        });
        if tokio::time::timeout(Duration::from_secs(55), said).await.is_err() {
            panic!("not within a minute: {sentence}, but {last:?}");
        }
    }

    /// Stops it as SIGTERM does.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap()
    }
}

/// The binary.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(database: &Database, kafka: &str, more: &[&str]) -> Self {
        Self::of(&[("test", &database.relay_url())], kafka, more)
    }

    pub(crate) fn of(sources: &[(&str, &str)], kafka: &str, more: &[&str]) -> Self {
        let arguments = arguments(sources, kafka, more);
        let child = Command::new(env!("CARGO_BIN_EXE_outbox-relay"))
            .arg("run")
            .args(&arguments[1..])
            .env("RUST_LOG", "warn")
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self(child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// The exit code once it has ended, None after a signal that killed it.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        tokio::time::timeout(Duration::from_secs(30), self.0.wait()).await.unwrap().unwrap().code()
    }
}
