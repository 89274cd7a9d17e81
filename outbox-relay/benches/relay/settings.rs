//! What to measure and how much of it. Every setting is an argument and an environment variable; the defaults are what
//! `BENCHMARKS.md` is made with.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use clap::{Parser, ValueEnum};
use sqlx::postgres::PgConnectOptions;

/// Measures the relay, Debezium Server and the limits of the machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "relay", about)]
pub(crate) struct Settings {
    /// A superuser's URL of a Postgres with wal_level=logical.
    #[arg(long, env = "SETTLE_TEST_POSTGRES", hide_env_values = true)]
    pub(crate) postgres: PgConnectOptions,

    /// Kafka's bootstrap address.
    #[arg(long, env = "SETTLE_TEST_KAFKA")]
    pub(crate) kafka: String,

    /// Which Kafka that is, for the table.
    #[arg(long, env = "SETTLE_TEST_KAFKA_VERSION", default_value = "of an unknown version")]
    pub(crate) kafka_version: String,

    /// What to measure.
    #[arg(long, env = "BENCH_ONLY", value_delimiter = ',')]
    #[arg(default_value = "drain,latency,polls,debezium")]
    pub(crate) only: Vec<Part>,

    /// How many rows a backlog has.
    #[arg(long, env = "BENCH_ROWS", default_value_t = 1_000_000)]
    pub(crate) rows: u64,

    /// How many bytes a payload has.
    #[arg(long, env = "BENCH_PAYLOADS", value_delimiter = ',', default_value = "200,1000")]
    pub(crate) payloads: Vec<usize>,

    /// How often the limits and the relay's drain are measured; the table shows the median.
    #[arg(long, env = "BENCH_REPEATS", default_value_t = 3)]
    pub(crate) repeats: usize,

    /// Events per second whose latency is measured; multiples of 1000, since there are 1000 commits a second.
    #[arg(long, env = "BENCH_RATES", value_delimiter = ',', default_value = "1000,5000")]
    pub(crate) rates: Vec<u64>,

    /// How many seconds of each rate are measured, after a warm-up of half of that.
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 30)]
    pub(crate) seconds: u64,

    /// How many rows the outbox holds while polls are measured.
    #[arg(long, env = "BENCH_BACKLOG", default_value_t = 10_000_000)]
    pub(crate) backlog: u64,

    /// The heap of the tuned Debezium Server; the default one has Java's own.
    #[arg(long, env = "BENCH_DEBEZIUM_HEAP", default_value = "1g")]
    pub(crate) debezium_heap: String,

    /// The Java for Debezium Server [default: the newest on the machine].
    #[arg(long, env = "BENCH_JAVA")]
    pub(crate) java: Option<PathBuf>,

    /// Where the table is kept [default: outbox-relay/BENCHMARKS.md, if nothing is smaller than by default].
    #[arg(long, env = "BENCH_OUTPUT")]
    pub(crate) output: Option<PathBuf>,

    /// Given by cargo.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The limits, and draining a backlog.
    Drain,
    /// From commit to consumer.
    Latency,
    /// The cost of a poll.
    Polls,
    /// Debezium Server beside the relay.
    Debezium,
}

impl Settings {
    /// Refuses what cannot be measured.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let whole = self.rates.iter().all(|rate| *rate > 0 && rate % 1000 == 0);
        ensure!(whole, "BENCH_RATES are multiples of 1000, not {:?}", self.rates);
        let least = crate::event::SMALLEST_PAYLOAD;
        let room = self.payloads.iter().all(|bytes| *bytes >= least);
        ensure!(room, "BENCH_PAYLOADS are at least {least} bytes, not {:?}", self.payloads);
        ensure!(self.rows >= 1000, "BENCH_ROWS is at least 1000, not {}", self.rows);
        ensure!(
            self.repeats > 0 && self.seconds > 0,
            "BENCH_REPEATS and BENCH_SECONDS are above 0"
        );
        Ok(())
    }

    /// Whether this part is wanted.
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.only.contains(&part)
    }

    /// How long each rate is measured.
    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// How long each rate runs before it is measured.
    pub(crate) fn warm_up(&self) -> Duration {
        self.measured() / 2
    }

    /// Where the table is kept: a trial's nowhere, unless told.
    pub(crate) fn kept_at(&self) -> Option<PathBuf> {
        let ours = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/BENCHMARKS.md"));
        self.output.clone().or_else(|| self.is_whole().then_some(ours))
    }

    fn is_whole(&self) -> bool {
        self.only.len() == Part::value_variants().len()
            && self.rows >= 1_000_000
            && self.payloads.len() >= 2
            && self.repeats >= 3
            && self.rates.len() >= 2
            && self.seconds >= 30
            && self.backlog >= 10_000_000
    }
}
