//! No event without its change of state, and no change of state without its event: the trails say what was emitted, the
//! topics what was told, and the rows what is so. Who repeats a command is told again under the same id, perhaps of another
//! type; such ids are of version 5.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use local::Event;
use uuid::Uuid;

use crate::{finding::Finding, snapshot::Snapshot};

const CATALOG: &str = proto::event::PRODUCTS_CATALOG;

/// Everything that is wrong between states and events.
pub fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let told = Told::new(snapshot);
    let mut findings = untold(snapshot, &told);
    findings.extend(unfounded(snapshot));
    findings.extend(missing_by_the_rows(snapshot, &told));
    findings.extend(catalogue(snapshot));
    findings
}

/// What the topics tell.
struct Told<'a> {
    ids: HashSet<Uuid>,
    /// The short types, by key.
    types: HashMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Told<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let mut told = Self { ids: HashSet::new(), types: HashMap::new() };
        for event in &snapshot.topics {
            told.ids.extend(Uuid::parse_str(&event.id));
            let key = event.key.as_deref().unwrap_or_default();
            told.types.entry(key).or_default().insert(event.short_type());
        }
        told
    }

    fn has(&self, key: &str, event_type: &str) -> bool {
        self.types.get(key).is_some_and(|types| types.contains(event_type))
    }
}

/// What was emitted, and what a row names as told, must be in a topic.
fn untold(snapshot: &Snapshot, told: &Told<'_>) -> Vec<Finding> {
    let emitted = snapshot.emitted().map(|(_, it)| (it.key.clone(), it.r#type.as_str(), it.id));
    let transitions = snapshot.transitions.iter().filter_map(|it| {
        Some((it.order_id.to_string(), "the event of a transition", it.event_id?))
    });
    let reservations = snapshot.reservations.values().filter_map(|it| {
        Some((it.order_id.to_string(), "the decision of a reservation", it.decision_event_id?))
    });
    let deliveries = snapshot.deliveries.values().filter_map(|it| {
        Some((it.order_id.to_string(), "the decision of a delivery", it.decision_event_id?))
    });
    let all = emitted.chain(transitions).chain(reservations).chain(deliveries);
    let missing: BTreeMap<Uuid, (String, &str)> = all
        .filter(|(_, _, id)| !told.ids.contains(id))
        .map(|(key, what, id)| (id, (key, what)))
        .collect();
    missing
        .into_iter()
        .map(|(id, (key, what))| Finding::ChangeWithoutEvent {
            key,
            untold: format!("{what} {id}"),
        })
        .collect()
}

/// What is in a topic must have been emitted, and be so.
fn unfounded(snapshot: &Snapshot) -> Vec<Finding> {
    let emitted: HashMap<Uuid, &str> =
        snapshot.emitted().map(|(_, it)| (it.id, it.r#type.as_str())).collect();
    let confirmed: HashSet<Uuid> = snapshot
        .transitions
        .iter()
        .filter(|it| it.state == "confirmed")
        .map(|it| it.order_id)
        .collect();
    let founded = |event: &Event| {
        let Ok(id) = Uuid::parse_str(&event.id) else { return false };
        let is_told = match emitted.get(&id) {
            Some(event_type) => *event_type == event.r#type || id.get_version_num() == 5,
            None => false,
        };
        is_told && is_so(snapshot, &confirmed, event)
    };
    let unfounded = snapshot.topics.iter().filter(|event| !founded(event));
    unfounded
        .map(|event| Finding::EventWithoutChange {
            topic: event.topic.clone(),
            key: event.key.clone().unwrap_or_default(),
            event_type: event.short_type().to_owned(),
            event_id: event.id.clone(),
        })
        .collect()
}

/// Whether the rows are what an event says they have become; rows move forward only, and these are where they end.
fn is_so(snapshot: &Snapshot, confirmed: &HashSet<Uuid>, event: &Event) -> bool {
    let Some(Ok(order_id)) = event.key.as_deref().map(Uuid::parse_str) else {
        return event.topic == CATALOG;
    };
    let order = snapshot.orders.get(&order_id).map(|it| it.state.as_str());
    let reservation = snapshot.reservations.get(&order_id).map(|it| it.state.as_str());
    let delivery = snapshot.deliveries.get(&order_id).map(|it| it.state.as_str());
    match event.short_type() {
        "OrderPlaced" => order.is_some(),
        "OrderConfirmed" => confirmed.contains(&order_id),
        "OrderCancelled" => order == Some("cancelled"),
        "OrderCompleted" => order == Some("completed"),
        "StockReserved" => matches!(reservation, Some("RESERVED" | "RELEASED")),
        "ProductOutOfStock" => reservation == Some("REJECTED"),
        "DeliveryStarted" | "DeliveryReady" => !matches!(delivery, None | Some("tombstone")),
        "DeliveryDispatched" => matches!(delivery, Some("dispatched" | "completed")),
        "DeliveryCompleted" => delivery == Some("completed"),
        "DeliveryCancelled" => matches!(delivery, Some("cancelled" | "tombstone")),
        "DeliveryFailed" => delivery == Some("failed"),
        _ => true,
    }
}

/// What the rows have become must have been told.
fn missing_by_the_rows(snapshot: &Snapshot, told: &Told<'_>) -> Vec<Finding> {
    let orders = snapshot.orders.values().flat_map(|it| {
        let end: &[&str] = match it.state.as_str() {
            "confirmed" | "completed" => &["OrderPlaced", "OrderConfirmed"],
            "cancelled" => &["OrderPlaced", "OrderCancelled"],
            _ => &["OrderPlaced"],
        };
        end.iter().map(move |event| (it.order_id, *event))
    });
    let deliveries = snapshot.deliveries.values().flat_map(|it| {
        let end: &[&str] = match it.state.as_str() {
            "dispatched" => &["DeliveryStarted", "DeliveryDispatched"],
            "completed" => &["DeliveryStarted", "DeliveryDispatched", "DeliveryCompleted"],
            "cancelled" => &["DeliveryStarted", "DeliveryCancelled"],
            "failed" => &["DeliveryFailed"],
            "tombstone" => &[],
            _ => &["DeliveryStarted"],
        };
        end.iter().map(move |event| (it.order_id, *event))
    });
    let missing = orders
        .chain(deliveries)
        .filter(|(order_id, event)| !told.has(&order_id.to_string(), event));
    missing
        .map(|(order_id, event)| Finding::ChangeWithoutEvent {
            key: order_id.to_string(),
            untold: format!("there is no {event}"),
        })
        .collect()
}

/// Every version of a product was told, and none that it never had.
fn catalogue(snapshot: &Snapshot) -> Vec<Finding> {
    let mut versions: HashMap<&str, BTreeSet<i64>> = HashMap::new();
    let mut findings = Vec::new();
    for event in snapshot.topics.iter().filter(|event| event.topic == CATALOG) {
        let key = event.key.as_deref().unwrap_or_default();
        let version = event.payload["version"].as_str().and_then(|it| it.parse().ok());
        let current = snapshot.products.get(key).map_or(0, |it| it.version);
        match version {
            Some(version) if version <= current => {
                versions.entry(key).or_default().insert(version);
            }
            _ => findings.push(Finding::EventWithoutChange {
                topic: event.topic.clone(),
                key: key.to_owned(),
                event_type: event.short_type().to_owned(),
                event_id: event.id.clone(),
            }),
        }
    }
    for product in snapshot.products.values() {
        let told = versions.remove(product.product_id.as_str()).unwrap_or_default();
        for version in (1..=product.version).filter(|version| !told.contains(version)) {
            findings.push(Finding::ChangeWithoutEvent {
                key: product.product_id.clone(),
                untold: format!("its version {version}"),
            });
        }
    }
    findings
}
