//! What a run came to, as Markdown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::run::{Outcome, Plan};

/// The report; `command` is what was typed.
pub fn markdown(command: &str, plan: &Plan, outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(&mut text, command, plan, outcome);
    text
}

fn write_all(text: &mut String, command: &str, plan: &Plan, outcome: &Outcome) -> std::fmt::Result {
    writeln!(text, "`{command}`, seed {}\n", plan.seed)?;
    writeln!(
        text,
        "{:.0} s of load at {} orders a second; healed and settled {:.1} s after its end.",
        outcome.lasted.as_secs_f64(),
        plan.shape.rate,
        outcome.settling.as_secs_f64()
    )?;
    table(text, "orders", &orders(outcome))?;
    table(
        text,
        "customers and warehouse",
        &outcome.figures.counts.iter().map(|(what, count)| (*what, *count)).collect::<Vec<_>>(),
    )?;
    latencies(text, outcome)?;
    table(text, "faults", &faults(outcome))?;
    table(text, "absorbed", &absorbed(outcome))?;
    findings(text, outcome)
}

fn table<K: AsRef<str>>(text: &mut String, what: &str, counts: &[(K, u64)]) -> std::fmt::Result {
    writeln!(text, "\n| {what} | |\n|---|---:|")?;
    for (name, count) in counts {
        writeln!(text, "| {} | {count} |", name.as_ref())?;
    }
    Ok(())
}

fn orders(outcome: &Outcome) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for order in outcome.snapshot.orders.values() {
        *counts.entry(format!("{}, {}", order.coordination, order.state)).or_default() += 1;
    }
    counts.into_iter().collect()
}

fn faults(outcome: &Outcome) -> Vec<(&'static str, u64)> {
    let mut counts = BTreeMap::new();
    for entry in &outcome.faults {
        *counts.entry(entry.fault.kind()).or_default() += 1;
    }
    let troubles = outcome.faults.iter().filter(|entry| entry.trouble.is_some()).count() as u64;
    if troubles > 0 {
        counts.insert("of them not carried out to the end", troubles);
    }
    counts.into_iter().collect()
}

/// What came twice, and what had waited behind a poison.
fn absorbed(outcome: &Outcome) -> Vec<(&'static str, u64)> {
    let trail = outcome.snapshot.messaging.iter().flat_map(|messaging| &messaging.trail);
    let again = trail.map(|row| u64::try_from(row.deliveries - 1).unwrap_or_default()).sum();
    let topics = &outcome.snapshot.topics;
    let ids: BTreeSet<_> = topics.iter().map(|event| &event.id).collect();
    let redriven = outcome.faults.iter().map(|entry| entry.redriven as u64).sum();
    vec![
        ("messages in the topics", topics.len() as u64),
        ("of them of an id that was there before", (topics.len() - ids.len()) as u64),
        ("deliveries of a message that was handled before", again),
        ("messages handled that had waited behind a poison", redriven),
    ]
}

fn latencies(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(text, "\n| from when it was due, ms | p50 | p99 | p99.9 | longest |")?;
    writeln!(text, "|---|---:|---:|---:|---:|")?;
    for (name, times) in
        [("to accepted", &outcome.figures.accept), ("to settled", &outcome.figures.settle)]
    {
        let at = |quantile| millis(times.value_at_quantile(quantile));
        let longest = millis(times.max());
        let row = [at(0.5), at(0.99), at(0.999), longest];
        let [p50, p99, p999, longest] = row.map(|value| format!("{value:.1}"));
        writeln!(text, "| {name} | {p50} | {p99} | {p999} | {longest} |")?;
    }
    Ok(())
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

fn findings(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    if let Some(unsettled) = &outcome.unsettled {
        writeln!(text, "\nNot everything settled in time: {unsettled}")?;
    }
    if outcome.findings.is_empty() {
        return writeln!(text, "\nFindings of the checker: none.");
    }
    writeln!(text, "\nFindings of the checker: {}\n", outcome.findings.len())?;
    for finding in &outcome.findings {
        writeln!(text, "* {finding}")?;
    }
    Ok(())
}
