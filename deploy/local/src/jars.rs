//! Apache Kafka's own jars, fetched once by the ordinary Maven client and kept in the cache directory.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::datadir::make;
use crate::error::{Error, Result};
use crate::packages;
use crate::progress::Progress;

/// The version of the jars; deploy/compose.yaml runs the same.
pub const KAFKA_VERSION: &str = "4.1.1";
const LOG4J_VERSION: &str = "2.25.3";
const OLDEST_JAVA: u32 = 17;

/// What is needed to run Kafka.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    pub(crate) java: PathBuf,
    pub(crate) jars: PathBuf,
}

/// Finds or fetches Java and the jars.
pub(crate) async fn fetch(cache: &Path, progress: &Progress) -> Result<Runtime> {
    let java =
        packages::require("Java", "default-jre-headless", || packages::in_path("java"), progress)
            .await?;
    match java_version(&java) {
        Some(version) if version >= OLDEST_JAVA => {}
        version => {
            let version =
                version.map_or("of an unknown version".to_owned(), |version| version.to_string());
            return Err(Error::Unfit(format!(
                "Java {version} at {} is too old for Kafka: install {OLDEST_JAVA} or newer, for example with \
                 `sudo apt-get install openjdk-{OLDEST_JAVA}-jre-headless`",
                java.display()
            )));
        }
    }
    let jars = cache.join(format!("kafka-{KAFKA_VERSION}"));
    if !jars.is_dir() {
        download(cache, &jars, progress).await?;
    }
    Ok(Runtime { java, jars })
}

/// Downloads beside the final place and renames at the end, so that what is there is whole.
async fn download(cache: &Path, jars: &Path, progress: &Progress) -> Result<()> {
    let maven = packages::require("Maven", "maven", || packages::in_path("mvn"), progress).await?;
    let step = progress.step(format!("Downloading Apache Kafka {KAFKA_VERSION} (45 MB)"));
    make(cache)?;
    let work = tempfile::tempdir_in(cache)
        .map_err(Error::io(format!("write into {}", cache.display())))?;
    let pom = work.path().join("pom.xml");
    fs::write(&pom, pom_xml()).map_err(Error::io(format!("write {}", pom.display())))?;
    let new = work.path().join("jars");
    let mut command = Command::new(maven);
    command
        .args(["--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime", "--file"])
        .arg(&pom)
        .arg(format!("-DoutputDirectory={}", new.display()));
    packages::run_shown(command, "download Apache Kafka (mvn dependency:copy-dependencies)", &step)
        .await?;
    match fs::rename(&new, jars) {
        // Another stack was faster.
        Err(_) if jars.is_dir() => {}
        renamed => {
            renamed.map_err(Error::io(format!("move Kafka's jars to {}", jars.display())))?
        }
    }
    step.done(format!("Apache Kafka {KAFKA_VERSION} is in {}", jars.display()));
    Ok(())
}

fn pom_xml() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>\n"
        )
    };
    [
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n",
        "  <groupId>settle</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>\n",
        "  <dependencies>\n",
        &dependency("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        &dependency("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
        &dependency("org.apache.logging.log4j", "log4j-core", LOG4J_VERSION),
        "  </dependencies>\n</project>\n",
    ]
    .concat()
}

/// `openjdk version "17.0.15" 2025-04-15` is 17; so is `"17"`; `"1.8.0"` is 1, which is old enough.
fn java_version(java: &Path) -> Option<u32> {
    let output = std::process::Command::new(java).arg("-version").output().ok()?;
    let text = String::from_utf8(output.stderr).ok()?;
    text.split('"').nth(1)?.split(['.', '-', '+']).next()?.parse().ok()
}
