//! Debezium Server as its project releases it, fetched once by Maven, run as a process with the configuration in
//! `benches/debezium`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    database::Database,
    java::{self, Java},
    process::Process,
    say,
    settings::{Part, Settings},
    wal::Slot,
};

const POM: &str = include_str!("../debezium/pom.xml");
const SERVER: &str = include_str!("../debezium/server.properties");
const TUNED: &str = include_str!("../debezium/tuned.properties");

/// How it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// As it comes, with Java's own heap: a quarter of the machine's memory.
    Default,
    /// For speed, with a bounded heap.
    Tuned,
}

impl Variant {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Default, Self::Tuned];

    /// A word for names.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Tuned => "tuned",
        }
    }

    /// What the table calls it.
    pub(crate) fn label(self, settings: &Settings) -> String {
        match self {
            Self::Default => "Debezium, default (Java's default heap)".to_owned(),
            Self::Tuned => format!("Debezium, tuned (-Xmx{})", settings.debezium_heap),
        }
    }
}

/// Where Debezium Server is, and the Java that runs it.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    pub(crate) version: String,
    pub(crate) java: Java,
    home: PathBuf,
}

impl Installation {
    /// Finds Java and fetches Debezium Server, or does nothing where it is not wanted.
    pub(crate) fn prepare(settings: &Settings) -> anyhow::Result<Option<Self>> {
        if !settings.wants(Part::Debezium) {
            return Ok(None);
        }
        let java = Java::find(settings.java.as_deref())?;
        let version = version()?;
        let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("debezium-{version}"));
        if !kept.is_dir() {
            download(&version, &kept)?;
        }
        Ok(Some(Self { version, java, home: kept.join("debezium-server") }))
    }

    /// Starts it on a slot of a database.
    pub(crate) fn start(
        &self,
        settings: &Settings,
        variant: Variant,
        database: &Database,
        slot: &Slot,
    ) -> anyhow::Result<Process> {
        let directory = TempDir::new()?;
        let config = directory.path().join("config");
        fs::create_dir(&config)?;
        let properties = properties(settings, variant, database, slot);
        fs::write(config.join("application.properties"), properties)?;
        Process::start("Debezium Server", self.command(settings, variant)?, directory)
    }

    /// What its own run.sh runs, without the optional parts.
    fn command(&self, settings: &Settings, variant: Variant) -> anyhow::Result<Command> {
        let classes = [self.home.join(runner(&self.version)), self.home.join("lib/*")];
        let mut command = Command::new(&self.java.program);
        if variant == Variant::Tuned {
            command.arg(format!("-Xmx{}", settings.debezium_heap));
        }
        command.arg("-cp").arg(std::env::join_paths(classes)?).arg("io.debezium.server.Main");
        Ok(command)
    }
}

/// By which name it delivers one of our headers: the router gives the event's id a name of its own.
pub(crate) fn header(ours: &'static str) -> &'static str {
    if ours == "ce_id" { "id" } else { ours }
}

/// The version in the pom.
fn version() -> anyhow::Result<String> {
    let found = || {
        let (_, after) = POM.split_once("debezium-server-dist</artifactId>")?;
        Some(after.split_once("<version>")?.1.split_once("</version>")?.0)
    };
    Ok(found().context("benches/debezium/pom.xml names no version")?.to_owned())
}

/// Unpacks beside the final place and renames at the end, so that what is there is whole. Only what runs with Postgres
/// and Kafka: the other folders are for other databases.
fn download(version: &str, kept: &Path) -> anyhow::Result<()> {
    say(format_args!("downloading Debezium Server {version} (780 MB, once)"));
    let above = kept.parent().context("no directory for Debezium Server")?;
    fs::create_dir_all(above)?;
    let new = tempfile::tempdir_in(above)?;
    let pom = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/debezium/pom.xml");
    let directory = new.path().display();
    java::maven(&[
        format!("--file={pom}"),
        "dependency:copy".to_owned(),
        format!("-Ddirectory={directory}"),
    ])?;
    let archive = new.path().join(format!("debezium-server-dist-{version}.tar.gz"));
    let unpacked = std::process::Command::new("tar")
        .arg("--extract")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(new.path())
        .args(["debezium-server/lib", &format!("debezium-server/{}", runner(version))])
        .status()
        .context("run tar")?;
    ensure!(unpacked.success(), "{} could not be unpacked: {unpacked}", archive.display());
    fs::remove_file(archive)?;
    fs::rename(new.keep(), kept).with_context(|| format!("move Debezium to {}", kept.display()))
}

fn runner(version: &str) -> String {
    format!("debezium-server-dist-{version}-runner.jar")
}

fn properties(settings: &Settings, variant: Variant, database: &Database, slot: &Slot) -> String {
    let server = &settings.postgres;
    let tuned = if variant == Variant::Tuned { TUNED } else { "" };
    format!(
        "{SERVER}
{tuned}
debezium.source.database.hostname={host}
debezium.source.database.port={port}
debezium.source.database.user={user}
debezium.source.database.password=
debezium.source.database.dbname={name}
debezium.source.publication.name=bench
debezium.source.slot.name={slot}
debezium.sink.kafka.producer.bootstrap.servers={kafka}
",
        host = server.get_host(),
        port = server.get_port(),
        user = server.get_username(),
        name = database.name,
        slot = slot.name,
        kafka = settings.kafka,
    )
}
