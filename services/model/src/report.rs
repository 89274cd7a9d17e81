//! What was found, as tables in Markdown.

use std::io::{self, Write};

use clap::ValueEnum as _;

use crate::{
    checking::World,
    mutants,
    network::Network,
    scenario::Scenario,
    seam::Rule,
    verdict::{self, Broken, Verdict},
};

/// Checks each scenario as it is in production, a line as soon as it is done. False where a property is broken.
pub fn proofs(
    out: &mut impl Write,
    scenarios: Vec<Scenario>,
    threads: usize,
) -> anyhow::Result<bool> {
    writeln!(out, "| what happens | network | states | different | depth | broken | seconds |")?;
    writeln!(out, "|---|---|---:|---:|---:|---|---:|")?;
    let mut holds = true;
    for scenario in scenarios {
        let (name, network) = (scenario.name, scenario.network.name());
        let Verdict { states, unique, depth, took, broken } =
            verdict::check(&World::new(scenario, None)?, threads);
        let property = broken.as_ref().map_or("nothing", |broken| broken.property);
        let seconds = took.as_secs_f64();
        writeln!(
            out,
            "| {name} | {network} | {states} | {unique} | {depth} | {property} | {seconds:.1} |"
        )?;
        if let Some(broken) = broken {
            holds = false;
            tell(out, &broken)?;
        }
    }
    Ok(holds)
}

/// Leaves out each rule in turn. False where one is not missed.
pub fn table(out: &mut impl Write, threads: usize) -> anyhow::Result<bool> {
    writeln!(out, "| left out | breaks | network | states looked at | steps |")?;
    writeln!(out, "|---|---|---|---:|---:|")?;
    let mut all = true;
    for rule in Rule::value_variants() {
        let title = mutants::title(*rule);
        match mutants::least_network(*rule, threads)? {
            Some((network, Verdict { unique, broken: Some(broken), .. })) => {
                let (property, network) = (broken.property, network.name());
                let steps = broken.steps.len();
                writeln!(out, "| {title} | {property} | {network} | {unique} | {steps} |")?;
            }
            _ => {
                all = false;
                writeln!(out, "| {title} | NOTHING: it is not missed | | | |")?;
            }
        }
    }
    Ok(all)
}

/// Tells the shortest way to break a property without a rule. False where there is none.
pub fn trace(out: &mut impl Write, rule: Rule, threads: usize) -> anyhow::Result<bool> {
    match mutants::least_network(rule, threads)? {
        Some((network, Verdict { broken: Some(broken), .. })) => {
            writeln!(
                out,
                "Without \"{}\", in the {} network:",
                mutants::title(rule),
                network.name()
            )?;
            tell(out, &broken)?;
            Ok(true)
        }
        _ => {
            let networks = Network::ALL.map(Network::name).join(", ");
            writeln!(out, "\"{}\" is not missed: {networks}", mutants::title(rule))?;
            Ok(false)
        }
    }
}

fn tell(out: &mut impl Write, broken: &Broken) -> io::Result<()> {
    writeln!(out, "  0. {}", broken.start)?;
    for (index, step) in broken.steps.iter().enumerate() {
        writeln!(out, " {:2}. {step}", index + 1)?;
    }
    writeln!(out, "  -> broken: {}", broken.property)
}
