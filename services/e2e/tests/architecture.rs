//! Dependencies point one way: `proto <- chassis <- services`; services never depend on each other; the relay depends on
//! nothing of ours.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

#[test]
fn dependencies_point_one_way() -> Result<(), cargo_metadata::Error> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let ours: BTreeSet<&str> =
        metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let mut found = BTreeMap::new();
    for package in &metadata.packages {
        let production = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development);
        let within: BTreeSet<&str> = production
            .map(|dependency| dependency.name.as_str())
            .filter(|name| ours.contains(name))
            .collect();
        found.insert(package.name.as_str(), within.into_iter().collect::<Vec<_>>());
    }
    let allowed = BTreeMap::from([
        ("proto", vec![]),
        ("chassis", vec!["proto"]),
        ("orders", vec!["chassis", "proto"]),
        ("products", vec!["chassis", "proto"]),
        ("delivery", vec!["chassis", "proto"]),
        ("orchestrator", vec!["chassis", "proto"]),
        ("outbox-relay", vec![]),
        ("local", vec!["proto"]),
        ("e2e", vec![]),
    ]);
    assert_eq!(found, allowed);
    Ok(())
}

#[test]
fn the_relay_is_tested_without_the_rest_too() -> Result<(), cargo_metadata::Error> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let ours: BTreeSet<&str> =
        metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let relay = metadata.packages.iter().find(|package| package.name.as_str() == "outbox-relay");
    let within = relay
        .into_iter()
        .flat_map(|relay| &relay.dependencies)
        .filter(|it| ours.contains(it.name.as_str()));
    assert_eq!(within.count(), 0);
    Ok(())
}

#[test]
fn versions_are_written_in_one_place() -> Result<(), Box<dyn std::error::Error>> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    for package in &metadata.packages {
        let manifest = std::fs::read_to_string(&package.manifest_path)?;
        let sections = manifest.split("\n[").filter(|section| section.contains("dependencies]"));
        let lines = sections.flat_map(|section| section.lines().skip(1)).map(str::trim);
        let mut entries = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let own = entries.find(|entry| !entry.contains("workspace = true"));
        assert_eq!(own, None, "{} names a version of its own", package.name);
    }
    Ok(())
}
