//! One Apache Kafka node in KRaft mode, on loopback, with a bounded heap and no automatic topics.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::process::Command;
use uuid::Uuid;

use crate::datadir::{DataDir, make};
use crate::error::{Error, Result};
use crate::jars::{self, Runtime};
use crate::options::{Detour, Options};
use crate::packages;
use crate::ports;
use crate::process::Spec;
use crate::progress::Progress;

const LOG4J: &str = "\
Configuration:
  Appenders:
    Console:
      name: out
      PatternLayout:
        pattern: \"%d{ISO8601} %p %m (%c)%n%throwable\"
  Loggers:
    Root:
      level: WARN
      AppenderRef:
        ref: out
    Logger:
      - name: kafka.server.KafkaRaftServer
        level: INFO
";

/// A Kafka node, ready to be started on a data directory.
#[derive(Debug, Clone)]
pub(crate) struct Kafka {
    bootstrap: String,
    runtime: Runtime,
    spec: Spec,
}

impl Kafka {
    /// Fetches Kafka where it is missing, writes its configuration, and formats its storage once.
    pub(crate) async fn prepare(
        dir: &DataDir,
        options: &Options,
        progress: &Progress,
    ) -> Result<Self> {
        let port = options.ports.kafka;
        let runtime = jars::fetch(&options.cache, progress).await?;
        let home = dir.kafka();
        make(&home)?;
        let write = |name: &str, text: &str| {
            let file = home.join(name);
            fs::write(&file, text).map_err(Error::io(format!("write {}", file.display())))
        };
        write("server.properties", &server_properties(&home, port, options.kafka_detour))?;
        write("log4j2.yaml", LOG4J)?;
        let (java, server) = (runtime.java.clone(), java_arguments(&runtime, &home, "kafka.Kafka"));
        if !home.join("data/meta.properties").exists() {
            format(&runtime, &home, progress).await?;
        }
        let mut args = server;
        args.push(home.join("server.properties").into_os_string());
        let spec = Spec { program: java, args, env: Vec::new(), dir: home, user: None };
        Ok(Self { bootstrap: format!("127.0.0.1:{port}"), runtime, spec })
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What it was made from.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

/// Whether a broker answers at that address.
pub(crate) async fn answers(bootstrap: &str) -> bool {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("socket.connection.setup.timeout.ms", "1000");
    // Until the broker is up, a client tries again in the order of these.
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "100");
    let asked = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = config.create().ok()?;
        let metadata = client.fetch_metadata(None, Duration::from_secs(2)).ok()?;
        Some(!metadata.brokers().is_empty())
    });
    asked.await.ok().flatten().unwrap_or(false)
}

fn java_arguments(runtime: &Runtime, home: &Path, main: &str) -> Vec<OsString> {
    let mut logging = OsString::from("-Dlog4j2.configurationFile=");
    logging.push(home.join("log4j2.yaml"));
    let mut arguments: Vec<OsString> = [
        "-Xms256m",
        "-Xmx512m",
        "-XX:+UseG1GC",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
    ]
    .map(OsString::from)
    .into();
    arguments.extend([logging, "-cp".into(), runtime.jars.join("*").into_os_string(), main.into()]);
    arguments
}

async fn format(runtime: &Runtime, home: &Path, progress: &Progress) -> Result<()> {
    let step = progress.step("Formatting Kafka's storage");
    let mut command = Command::new(&runtime.java);
    command
        .args(java_arguments(runtime, home, "kafka.tools.StorageTool"))
        .args(["format", "--ignore-formatted", "--cluster-id", &cluster_id(), "--config"])
        .arg(home.join("server.properties"))
        .current_dir(home);
    packages::run_shown(command, "format Kafka's storage (StorageTool)", &step).await?;
    step.done(format!("Kafka has a data directory: {}", home.display()));
    Ok(())
}

/// Any word without a leading dash will do; a random one keeps clusters apart.
fn cluster_id() -> String {
    format!("settle{}", &Uuid::new_v4().simple().to_string()[..16])
}

fn server_properties(home: &Path, port: u16, detour: Option<Detour>) -> String {
    // Nobody but the node itself talks to its controller, so its port may change with every start.
    let controller = ports::or_free(0);
    let detour_at = |port: u16| format!(",DETOUR://127.0.0.1:{port}");
    let listen = detour.map(|detour| detour_at(detour.listen)).unwrap_or_default();
    let advertised = detour.map(|detour| detour_at(detour.advertised)).unwrap_or_default();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listen}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,DETOUR:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
",
        home.join("data").display()
    )
}
