//! What a stack runs, and where it finds and keeps things.

use std::path::PathBuf;
use std::str::FromStr;

use crate::datadir;
use crate::error::{Error, Result};
use crate::jaeger::Backend;
use crate::packages;
use crate::ports::Ports;
use crate::process::Part;

/// What a stack runs, and where it finds and keeps things.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory of the programs: `settle` itself, the relay and the services.
    pub programs: PathBuf,
    /// Where downloads are kept.
    pub cache: PathBuf,
    /// Where everything listens.
    pub ports: Ports,
    /// A Kafka that runs already, instead of one of our own.
    pub kafka: Option<String>,
    /// What takes and shows the traces, if anything does.
    pub jaeger: Option<Backend>,
    /// Whether the services allow their demonstration switches.
    pub demo: bool,
    /// What Postgres is started with beyond what we need of it.
    pub postgres_settings: Vec<Setting>,
    /// A second way to Kafka, for those who want to stand in it.
    pub kafka_detour: Option<Detour>,
}

/// A second address of Kafka's, behind a proxy: whoever asks there is sent on to the proxy and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detour {
    /// The port on loopback where Kafka listens for it.
    pub listen: u16,
    /// The port of the proxy, which Kafka tells its clients.
    pub advertised: u16,
}

/// One setting of Postgres, as its configuration file has it: `wal_level=logical`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting(String);

impl Setting {
    /// The text after Postgres' `-c`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Setting {
    type Err = String;

    /// Whether such a setting exists is for Postgres to say; that it is one is ours.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, _)) if !name.trim().is_empty() => Ok(Self(text.to_owned())),
            _ => Err("a setting is written name=value, for example wal_level=logical".to_owned()),
        }
    }
}

impl Options {
    /// Free ports, the user's cache, and the programs beside the running one; for tests.
    pub fn on_free_ports() -> Result<Self> {
        Ok(Self {
            programs: programs_beside_us()?,
            cache: datadir::default_cache_dir(),
            ports: Ports::FREE,
            kafka: None,
            jaeger: None,
            demo: false,
            postgres_settings: Vec::new(),
            kafka_detour: None,
        })
    }

    /// The parts among these that this stack runs itself.
    pub(crate) fn own(&self, parts: &[Part]) -> Vec<Part> {
        let is_own = |part: &Part| match part {
            Part::Kafka => self.kafka.is_none(),
            Part::Jaeger => self.jaeger == Some(Backend::Own),
            _ => true,
        };
        parts.iter().copied().filter(is_own).collect()
    }

    /// Fails where a program of ours was not built.
    pub(crate) fn check_programs(&self) -> Result<()> {
        let ours = Part::ALL.into_iter().filter(|part| part.is_ours());
        let missing: Vec<_> = ours
            .map(Part::name)
            .filter(|name| !packages::is_program(&self.programs.join(name)))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let dir = self.programs.display();
        let missing = missing.join(", ");
        Err(Error::Unfit(format!(
            "{missing} not found in {dir}: build with `cargo build --workspace --bins` first"
        )))
    }
}

/// Cargo puts tests one directory below the programs.
pub(crate) fn programs_beside_us() -> Result<PathBuf> {
    let us = std::env::current_exe().map_err(Error::io("find the running program"))?;
    let above = |path: PathBuf| path.parent().map(PathBuf::from).unwrap_or_default();
    let dir = above(us);
    Ok(if dir.ends_with("deps") { above(dir) } else { dir })
}
