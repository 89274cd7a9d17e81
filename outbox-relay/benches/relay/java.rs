//! A Java that is new enough for Debezium Server; the machine's default one often is not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

/// What Debezium Server's classes are compiled for.
const OLDEST: u32 = 21;

/// A Java and its version.
#[derive(Debug, Clone)]
pub(crate) struct Java {
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

impl Java {
    /// The one that was named, or the newest on the machine.
    pub(crate) fn find(named: Option<&Path>) -> anyhow::Result<Self> {
        let candidates = match named {
            Some(program) => vec![program.to_owned()],
            None => installed(),
        };
        let newest = candidates
            .into_iter()
            .filter_map(|program| version(&program).map(|version| Self { program, version }))
            .max_by_key(Self::major);
        match newest {
            Some(java) if java.major() >= Some(OLDEST) => Ok(java),
            found => bail!(
                "Debezium Server needs Java {OLDEST} or newer, and there is {}: install one and name it with \
                 BENCH_JAVA=/path/to/bin/java, or leave Debezium out: BENCH_ONLY=drain,latency,polls",
                found.map_or("none".to_owned(), |java| format!("only Java {}", java.version))
            ),
        }
    }

    /// `17.0.15` is 17.
    fn major(&self) -> Option<u32> {
        self.version.split(['.', '-', '+']).next()?.parse().ok()
    }
}

fn installed() -> Vec<PathBuf> {
    let machines = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let programs = machines.map(|machine| machine.path().join("bin/java"));
    programs.filter(|program| program.is_file()).chain([PathBuf::from("java")]).collect()
}

/// `openjdk version "17.0.15" 2025-04-15` is 17.0.15.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("-version").output().ok()?;
    Some(String::from_utf8(output.stderr).ok()?.split('"').nth(1)?.to_owned())
}

/// The Maven client, which fetches Debezium Server.
pub(crate) fn maven(arguments: &[String]) -> anyhow::Result<()> {
    let output = Command::new("mvn")
        .arg("--batch-mode")
        .args(arguments)
        .output()
        .context("run mvn: install Maven, for example with `deploy/setup mvn`")?;
    if !output.status.success() {
        bail!("mvn {} failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}
