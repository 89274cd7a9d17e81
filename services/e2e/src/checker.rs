//! Holds a snapshot of the whole shop against its promises, and against what the outside knows. Pure: the same snapshot has
//! the same findings.

use std::collections::BTreeSet;

use crate::{
    event_rules,
    finding::Finding,
    ledger::{Entries, Place},
    order_rules, sequence_rules,
    snapshot::Snapshot,
    stock_rules,
};

/// Everything that is wrong, each thing once.
pub fn check(snapshot: &Snapshot, known: &Entries) -> Vec<Finding> {
    let mut snapshot = snapshot.clone();
    snapshot.topics.retain(|event| {
        let (topic, partition, offset) = (event.topic.clone(), event.partition, event.offset);
        !known.injected.contains(&Place { topic, partition, offset })
    });
    let mut findings = BTreeSet::new();
    findings.extend(order_rules::check(&snapshot, known));
    findings.extend(stock_rules::check(&snapshot, known));
    findings.extend(event_rules::check(&snapshot));
    findings.extend(sequence_rules::check(&snapshot));
    for messaging in &snapshot.messaging {
        let keys = messaging.parked.iter().cloned();
        findings.extend(keys.map(|key| Finding::LeftParked { service: messaging.service, key }));
    }
    findings.into_iter().collect()
}
