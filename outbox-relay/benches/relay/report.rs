//! The page of tables: printed at the end, and kept in `BENCHMARKS.md` when nothing was made smaller for a trial.

use std::fs;

use anyhow::Context as _;
use hdrhistogram::Histogram;

use crate::{
    drain::Drain,
    latency::Latency,
    limits::Limit,
    machine::Line,
    polls::Cost,
    say,
    settings::Settings,
    table::{Table, count, mebibytes, millis, percent, ratio, seconds},
};

const INTRODUCTION: &str = include_str!("introduction.md");

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    rows: u64,
    machine: Vec<Line>,
    limits: Vec<Limits>,
    drains: Vec<(usize, String, Drain)>,
    latencies: Vec<(u64, String, Latency)>,
    costs: Vec<Cost>,
}

/// What the machine can do with one size of payload.
#[derive(Debug)]
struct Limits {
    payload: usize,
    copy: Limit,
    produce: Limit,
}

impl Report {
    /// Nothing measured yet.
    pub(crate) fn new(settings: &Settings, machine: Vec<Line>) -> Self {
        let rows = settings.rows;
        Self { rows, machine, limits: vec![], drains: vec![], latencies: vec![], costs: vec![] }
    }

    /// What the machine can do.
    pub(crate) fn limits(&mut self, payload: usize, copy: Limit, produce: Limit) {
        self.limits.push(Limits { payload, copy, produce });
    }

    /// A backlog shipped by one system.
    pub(crate) fn drain(&mut self, payload: usize, label: String, drain: Drain) {
        self.drains.push((payload, label, drain));
    }

    /// One system's latency at one rate.
    pub(crate) fn latency(&mut self, rate: u64, label: String, latency: Latency) {
        self.latencies.push((rate, label, latency));
    }

    /// A statement's cost, and which earlier one it is compared with; returns its place for later ones.
    pub(crate) fn cost(
        &mut self,
        label: &str,
        took: Histogram<u64>,
        against: Option<usize>,
    ) -> usize {
        let place = self.costs.len();
        say(format_args!("{label}: p50 {:.3} ms", took.value_at_quantile(0.5) as f64 / 1e6));
        self.costs.push(Cost { label: label.to_owned(), took, against: against.unwrap_or(place) });
        place
    }

    /// Keeps the page where it belongs.
    pub(crate) fn keep(&self, settings: &Settings) -> anyhow::Result<()> {
        let text = self.render(settings);
        match settings.kept_at() {
            Some(path) => {
                fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
                say(format_args!("kept in {}", path.display()));
            }
            None => say("not kept: a trial, smaller than the defaults"),
        }
        Ok(())
    }

    /// The page.
    pub(crate) fn render(&self, settings: &Settings) -> String {
        let mut text = INTRODUCTION.to_owned();
        text.push_str(&self.machine(settings));
        let mut payloads: Vec<_> = self.limits.iter().collect();
        payloads.sort_by_key(|limits| limits.payload);
        for limits in payloads {
            text.push_str(&self.drain_table(limits));
        }
        if !self.latencies.is_empty() {
            text.push_str(&self.latency_table());
        }
        if !self.costs.is_empty() {
            text.push_str(&self.cost_table());
        }
        text
    }

    fn machine(&self, settings: &Settings) -> String {
        let mut table = Table::new(&["", "of this run"]);
        for (what, which) in &self.machine {
            table.row(vec![(*what).to_owned(), which.clone()]);
        }
        let Settings { rows, repeats, seconds, backlog, .. } = settings;
        let command = format!(
            "`BENCH_ROWS={rows} BENCH_REPEATS={repeats} BENCH_SECONDS={seconds} BENCH_BACKLOG={backlog} make bench-relay`"
        );
        table.row(vec!["command".to_owned(), command]);
        format!("\n{}", table.render())
    }

    fn drain_table(&self, limits: &Limits) -> String {
        let Limits { payload, copy, produce } = limits;
        let drains: Vec<_> = self.drains.iter().filter(|(size, ..)| size == payload).collect();
        let ours = drains.first().map_or(0.0, |(.., drain)| drain.rate);
        let mut table = Table::new(&[
            &format!("{} rows of {payload} B", count(self.rows as f64)),
            "events/s",
            "the relay against it",
            "processor s per 1M",
            "all cores busy",
            "peak memory",
            "first event after",
        ]);
        let limit = |label: &str, rate: f64, busy: String| {
            let empty = String::new;
            vec![label.to_owned(), count(rate), ratio(ours, rate), empty(), busy, empty(), empty()]
        };
        table.row(limit("limit: COPY out of the outbox", copy.rate, percent(copy.busy)));
        table.row(limit("limit: produce from memory", produce.rate, percent(produce.busy)));
        table.row(limit("limit: both at once on these cores", copy.both(*produce), String::new()));
        for (_, label, drain) in drains {
            let per_million = drain.cpu.as_secs_f64() / self.rows as f64 * 1e6;
            let repeated = repeated(drain.repeated);
            table.row(vec![
                format!("{label}{repeated}"),
                count(drain.rate),
                ratio(ours, drain.rate),
                format!("{per_million:.1}"),
                percent(drain.busy),
                mebibytes(drain.peak),
                seconds(drain.first_after),
            ]);
        }
        format!("\n## Draining a backlog, payloads of {payload} B\n\n{}", table.render())
    }

    fn latency_table(&self) -> String {
        let mut table = Table::new(&[
            "",
            "events/s",
            "p50",
            "p99",
            "p99.9",
            "max",
            "p50 against the relay's",
            "the commit alone, p50",
            "the commit alone, p99",
            "cores used",
            "all cores busy",
            "peak memory",
        ]);
        let mut rows: Vec<_> = self.latencies.iter().collect();
        rows.sort_by_key(|(rate, ..)| *rate);
        for (rate, label, latency) in rows {
            let at = |histogram: &Histogram<u64>, quantile| {
                millis(histogram.value_at_quantile(quantile))
            };
            // The relay is measured first.
            let first = self.latencies.iter().find(|(other, ..)| other == rate);
            let ours = first.map_or(&latency.received, |(.., first)| &first.received);
            let p50 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.5) as f64;
            table.row(vec![
                format!("{label}{}", repeated(latency.repeated)),
                count(*rate as f64),
                at(&latency.received, 0.5),
                at(&latency.received, 0.99),
                at(&latency.received, 0.999),
                millis(latency.received.max()),
                ratio(p50(&latency.received), p50(ours)),
                at(&latency.committed, 0.5),
                at(&latency.committed, 0.99),
                format!("{:.2}", latency.cpu),
                percent(latency.busy),
                mebibytes(latency.peak),
            ]);
        }
        format!("\n## From commit to consumer\n\n{}", table.render())
    }

    fn cost_table(&self) -> String {
        let mut table = Table::new(&["", "p50", "p99", "p50 against the first of its kind"]);
        for cost in &self.costs {
            let at = |cost: &Cost, quantile| cost.took.value_at_quantile(quantile) as f64;
            let milliseconds = |nanos: f64| format!("{:.3} ms", nanos / 1e6);
            let against = self.costs.get(cost.against).unwrap_or(cost);
            table.row(vec![
                cost.label.clone(),
                milliseconds(at(cost, 0.5)),
                milliseconds(at(cost, 0.99)),
                ratio(at(cost, 0.5), at(against, 0.5)),
            ]);
        }
        format!("\n## What polls and moves of the cursor cost\n\n{}", table.render())
    }
}

fn repeated(events: u64) -> String {
    if events == 0 { String::new() } else { format!(" ({events} sent twice)") }
}
