//! What everything ran on, as far as it tells.

use std::{fs, process::Command};

use anyhow::Context as _;
use sqlx::ConnectOptions as _;

use crate::{debezium::Installation, relay, settings::Settings};

/// A line of the description: what, and which.
pub(crate) type Line = (&'static str, String);

/// The machine and the versions.
pub(crate) async fn describe(
    settings: &Settings,
    debezium: Option<&Installation>,
) -> anyhow::Result<Vec<Line>> {
    let (date, postgres) = postgres(settings).await?;
    let mut lines = vec![
        ("date", date),
        ("machine", hardware()),
        ("relay", with_commit(relay::version().await?)),
        ("Postgres", postgres),
        ("Kafka", format!("Apache Kafka {}, one node on this machine", settings.kafka_version)),
    ];
    if let Some(debezium) = debezium {
        let Installation { version, java, .. } = debezium;
        lines.push(("Debezium Server", format!("{version}, on Java {}", java.version)));
    }
    Ok(lines)
}

async fn postgres(settings: &Settings) -> anyhow::Result<(String, String)> {
    let mut connection = settings.postgres.connect().await.context("connect to Postgres")?;
    let found = sqlx::query_as(
        "select current_date::text,
                format('%s, fsync %s, wal_level %s, shared_buffers %s, on this machine',
                       current_setting('server_version'),
                       current_setting('fsync'),
                       current_setting('wal_level'),
                       current_setting('shared_buffers'))",
    );
    found.fetch_one(&mut connection).await.context("ask Postgres for its version")
}

fn hardware() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").and_then(|text| {
        text.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<u64>().ok())
    });
    let memory = memory.unwrap_or_default() >> 20;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, {memory} GiB, Linux {}", kernel.trim())
}

/// The first `name : value` of a file of the kernel's.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// With the commit that was checked out, where there is one.
fn with_commit(version: String) -> String {
    let asked = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    match asked {
        Ok(output) if output.status.success() => {
            format!("{version}, commit {}", String::from_utf8_lossy(&output.stdout).trim())
        }
        _ => version,
    }
}
