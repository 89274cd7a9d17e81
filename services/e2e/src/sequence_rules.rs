//! Events of one key lie in their topic in the order in which they were committed. What was committed before what is known
//! from three sides: the revisions of orders and the versions of products, the trails, and what is left in the outboxes.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    finding::Finding,
    snapshot::{Emitted, Snapshot, Trail},
};

/// Longer than one transaction takes to note what it has handled.
const ONE_TRANSACTION: TimeDelta = TimeDelta::milliseconds(100);

/// Every two events that have changed places.
pub fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let places = Places::new(snapshot);
    let mut findings = by_revision(snapshot, &places);
    findings.extend(by_version(snapshot));
    findings.extend(by_trail(snapshot, &places));
    findings.extend(by_outbox(snapshot, &places));
    findings
}

/// Where each event first lies in its topic: what is sent again later changes no order.
struct Places<'a>(HashMap<(&'a str, Uuid), (i32, i64)>);

impl<'a> Places<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let mut places = HashMap::new();
        for event in &snapshot.topics {
            if let Ok(id) = Uuid::parse_str(&event.id) {
                let place = (event.partition, event.offset);
                let first = places.entry((event.topic.as_str(), id)).or_insert(place);
                *first = place.min(*first);
            }
        }
        Self(places)
    }

    /// A finding where the second lies before the first, or in another partition. What is not there is found elsewhere.
    fn compare(&self, topic: &str, key: &str, first: Uuid, second: Uuid) -> Option<Finding> {
        let (one, other) = (self.0.get(&(topic, first))?, self.0.get(&(topic, second))?);
        let is_right = one.0 == other.0 && one.1 <= other.1;
        (!is_right).then(|| Finding::OutOfOrder {
            topic: topic.to_owned(),
            key: key.to_owned(),
            first,
            second,
        })
    }
}

fn by_revision(snapshot: &Snapshot, places: &Places<'_>) -> Vec<Finding> {
    let told: Vec<_> =
        snapshot.transitions.iter().filter_map(|it| Some((it.order_id, it.event_id?))).collect();
    let pairs = told.windows(2).filter_map(|pair| match pair {
        [(order, first), (same, second)] if order == same => {
            places.compare(proto::event::ORDERS_EVENTS, &order.to_string(), *first, *second)
        }
        _ => None,
    });
    pairs.collect()
}

/// A product's versions grow along its partition; one that came again does not count.
fn by_version(snapshot: &Snapshot) -> Vec<Finding> {
    let catalogue = snapshot.topics.iter().filter(|it| it.topic == proto::event::PRODUCTS_CATALOG);
    let mut latest: BTreeMap<&str, (i64, Uuid)> = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    let mut findings = Vec::new();
    for event in catalogue {
        let (Some(key), Ok(id)) = (event.key.as_deref(), Uuid::parse_str(&event.id)) else {
            continue;
        };
        let version = event.payload["version"].as_str().and_then(|it| it.parse().ok());
        let Some(version) = version.filter(|_| seen.insert(id)) else { continue };
        match latest.get(key) {
            Some((before, earlier)) if *before > version => findings.push(Finding::OutOfOrder {
                topic: event.topic.clone(),
                key: key.to_owned(),
                first: id,
                second: *earlier,
            }),
            _ => {
                latest.insert(key, (version, id));
            }
        }
    }
    findings
}

/// One event of a key, as the trail of its service has it.
struct Noted<'a> {
    row: &'a Trail,
    emitted: &'a Emitted,
    index: usize,
}

/// Rows of a key are locked from loading to committing, so what was noted later was committed later. Only within one
/// transaction the times say nothing: there the offsets do, of messages from one partition.
fn by_trail(snapshot: &Snapshot, places: &Places<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for messaging in &snapshot.messaging {
        let mut by_key: BTreeMap<(&str, &str), Vec<Noted<'_>>> = BTreeMap::new();
        for row in &messaging.trail {
            for (index, emitted) in row.emitted.iter().enumerate() {
                // Its versions tell it better.
                if emitted.topic != proto::event::PRODUCTS_CATALOG {
                    let noted = Noted { row, emitted, index };
                    by_key.entry((&emitted.topic, &emitted.key)).or_default().push(noted);
                }
            }
        }
        for ((topic, key), mut noted) in by_key {
            // Of a command that is sent again, the first time counts.
            noted.sort_by_key(|it| (it.row.handled_at, it.index));
            let mut seen = std::collections::HashSet::new();
            noted.retain(|it| seen.insert(it.emitted.id));
            findings.extend(in_commit_order(&noted).filter_map(|(first, second)| {
                places.compare(topic, key, first.emitted.id, second.emitted.id)
            }));
        }
    }
    findings
}

/// The pairs of neighbours of which it is known which was committed first.
fn in_commit_order<'a>(
    noted: &'a [Noted<'a>],
) -> impl Iterator<Item = (&'a Noted<'a>, &'a Noted<'a>)> {
    noted.windows(2).filter_map(|pair| {
        let [one, other] = pair else { return None };
        if std::ptr::eq(one.row, other.row) || !in_one_transaction(one.row, other.row) {
            return Some((one, other));
        }
        let (topics, offsets) = (
            [(&one.row.topic, one.row.partition), (&other.row.topic, other.row.partition)],
            (one.row.offset?, other.row.offset?),
        );
        if topics[0] != topics[1] {
            return None;
        }
        Some(if offsets.0 < offsets.1 { (one, other) } else { (other, one) })
    })
}

fn in_one_transaction(one: &Trail, other: &Trail) -> bool {
    let near = |a: DateTime<Utc>, b: DateTime<Utc>| (a - b).abs() < ONE_TRANSACTION;
    one.received_at == other.received_at && near(one.handled_at, other.handled_at)
}

/// Answers that are told again have a row each, of which the first may be gone: they are left to the trail.
fn by_outbox(snapshot: &Snapshot, places: &Places<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for messaging in &snapshot.messaging {
        let mut last: HashMap<(&str, &str), Uuid> = HashMap::new();
        for row in messaging.outbox.iter().filter(|row| row.event_id.get_version_num() != 5) {
            let before = last.insert((&row.topic, &row.key), row.event_id);
            let changed =
                before.and_then(|first| places.compare(&row.topic, &row.key, first, row.event_id));
            findings.extend(changed);
        }
    }
    findings
}
