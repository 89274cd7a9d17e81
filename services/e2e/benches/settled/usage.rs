//! What has been used of the processors, and whether any span was lost.

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use local::Stack;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::OURS;

/// What has been used so far.
pub(crate) struct Usage {
    /// Of each of our programs.
    pub(crate) ours: [Duration; OURS.len()],
    /// Of everything that runs for this benchmark: Kafka, Postgres and the benchmark itself too.
    pub(crate) all: Duration,
}

impl Usage {
    pub(crate) fn now(stack: &Stack) -> anyhow::Result<Self> {
        let processes = processes()?;
        let mut ours = [Duration::ZERO; OURS.len()];
        for (time, part) in ours.iter_mut().zip(OURS) {
            *time = processes.get(&stack.pid(part)?).context("it runs")?.used;
        }
        let us = i32::try_from(std::process::id())?;
        let is_below = |&pid: &i32| {
            let parent = |pid: &i32| Some(processes.get(pid)?.parent);
            std::iter::successors(Some(pid), parent).any(|above| above == us)
        };
        let below = processes.iter().filter(|(pid, _)| is_below(pid));
        Ok(Self { ours, all: below.map(|(_, process)| process.used).sum() })
    }
}

struct Process {
    parent: i32,
    /// Together with the children that have ended; in hundredths of a second, as Linux counts it.
    used: Duration,
}

/// All that run, by their ids.
fn processes() -> anyhow::Result<HashMap<i32, Process>> {
    let mut processes = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        // It may have ended meanwhile.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks =
            fields[11..15].iter().map(|ticks| ticks.parse::<u64>()).sum::<Result<u64, _>>()?;
        let used = Duration::from_millis(10 * ticks);
        processes.insert(pid, Process { parent: fields[1].parse()?, used });
    }
    Ok(processes)
}

/// How many spans all of them have dropped.
pub(crate) async fn dropped_spans(stack: &Stack) -> anyhow::Result<usize> {
    let mut dropped = 0;
    for part in OURS {
        let metrics = metrics(&stack.http_url(part).context("it has metrics")?).await?;
        let lines =
            metrics.lines().filter(|line| line.starts_with("telemetry_spans_dropped_total"));
        let counts = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        dropped += counts.sum::<f64>() as usize;
    }
    Ok(dropped)
}

async fn metrics(url: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: it\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
