//! What a process and the whole machine have used, as the kernel counts it.

use std::{fs, time::Duration};

use anyhow::Context as _;

/// The kernel counts in hundredths of a second, whatever its own clock does.
const TICKS_PER_SECOND: u32 = 100;

/// What one process has used since it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Processor time, in user and kernel mode, of all its threads.
    pub(crate) cpu: Duration,
    /// The most memory that was ever resident, in bytes.
    pub(crate) peak: u64,
}

impl Usage {
    /// Of a process that runs.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).with_context(|| format!("read {path}"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let cpu = cpu(&stat).with_context(|| format!("no times in {stat:?}"))?;
        let peak = peak(&status).context("no VmHWM in /proc/<pid>/status")?;
        Ok(Self { cpu, peak })
    }
}

/// How busy the whole machine was, from one look to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Busy {
    busy: u64,
    all: u64,
}

impl Busy {
    /// A look.
    pub(crate) fn now() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let times: Vec<u64> =
            line.split_whitespace().skip(1).take(8).filter_map(|time| time.parse().ok()).collect();
        let all = times.iter().sum();
        // The fourth and fifth are idle and waiting for the disk.
        let idle: u64 = times.iter().skip(3).take(2).sum();
        Ok(Self { busy: all - idle, all })
    }

    /// The share of all cores' time since an earlier look, 0 to 1.
    pub(crate) fn since(self, earlier: Self) -> f64 {
        let all = (self.all - earlier.all).max(1);
        (self.busy - earlier.busy) as f64 / all as f64
    }
}

/// The name of the program, in parentheses, may hold anything; what follows is fields 3 and on.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    Some(Duration::from_secs(ticks.into()) / TICKS_PER_SECOND)
}

fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}
