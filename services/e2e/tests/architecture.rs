//! Dependencies point one way: `proto <- chassis <- services <- model, fuzz`; services never depend on each other; the relay
//! depends on nothing outside its folder.

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
        ("chassis", vec!["otlp", "proto"]),
        ("orders", vec!["chassis", "proto"]),
        ("products", vec!["chassis", "proto"]),
        ("delivery", vec!["chassis", "proto"]),
        ("orchestrator", vec!["chassis", "proto"]),
        ("storefront", vec!["causality", "chassis", "proto"]),
        ("otlp", vec![]),
        ("outbox-relay", vec!["otlp"]),
        ("causality", vec!["proto"]),
        ("local", vec!["causality", "proto"]),
        ("model", vec!["chassis", "delivery", "orchestrator", "orders", "products", "proto"]),
        ("fuzz", vec!["chassis", "delivery", "orchestrator", "orders", "products", "proto"]),
        ("e2e", vec!["local", "proto"]),
    ]);
    assert_eq!(found, allowed);
    Ok(())
}

#[test]
fn the_relay_needs_nothing_outside_its_folder_for_its_tests_either() -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let folder = metadata.workspace_root.join("outbox-relay");
    let relay = metadata.packages.iter().filter(|it| it.manifest_path.starts_with(&folder));
    let needed = relay.flat_map(|package| &package.dependencies).filter_map(|it| it.path.as_ref());
    let needed: BTreeSet<_> = needed.collect();
    assert_eq!(needed, BTreeSet::from([&folder.join("otlp")]));
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
