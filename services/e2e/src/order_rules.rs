//! Every acknowledged order is there, once, and settled; and all services agree about it, in either style.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{
    finding::Finding,
    ledger::Entries,
    snapshot::{Order, Snapshot},
};

/// Everything that is wrong with the orders.
pub fn check(snapshot: &Snapshot, known: &Entries) -> Vec<Finding> {
    let mut findings = Vec::new();
    for order_id in known.orders.keys().filter(|it| !snapshot.orders.contains_key(it)) {
        findings.push(Finding::Lost { order_id: *order_id });
    }
    findings.extend(placed_twice(snapshot, known));
    findings.extend(snapshot.orders.values().filter_map(|order| judge(snapshot, order)));
    findings.extend(strangers(snapshot));
    findings.extend(done_twice(snapshot));
    findings
}

/// By what callers were told, and by the rows: each request has a customer of its own.
fn placed_twice(snapshot: &Snapshot, known: &Entries) -> Vec<Finding> {
    let mut by_request: BTreeMap<&str, BTreeSet<Uuid>> = BTreeMap::new();
    for (request_id, first, second) in &known.placed_twice {
        by_request.entry(request_id).or_default().extend([first, second]);
    }
    let requests: BTreeSet<&str> = known.orders.values().map(String::as_str).collect();
    for order in snapshot.orders.values() {
        if requests.contains(order.customer_id.as_str()) {
            by_request.entry(&order.customer_id).or_default().insert(order.order_id);
        }
    }
    let twice = by_request.into_iter().filter(|(_, orders)| orders.len() > 1);
    twice
        .map(|(request_id, orders)| Finding::PlacedTwice {
            request_id: request_id.to_owned(),
            order_ids: orders.into_iter().collect(),
        })
        .collect()
}

/// The worst that can be said about an order.
fn judge(snapshot: &Snapshot, order: &Order) -> Option<Finding> {
    let order_id = order.order_id;
    let reservation = snapshot.reservations.get(&order_id).map(|it| it.state.as_str());
    let delivery = snapshot.deliveries.get(&order_id).map(|it| it.state.as_str());
    let has_left = matches!(delivery, Some("dispatched" | "completed"));
    if has_left && order.state == "cancelled" {
        return Some(Finding::ShippedAndCancelled { order_id });
    }
    if has_left && reservation != Some("RESERVED") {
        return Some(Finding::ShippedWithoutStock { order_id });
    }
    if let Some(why) = waits(snapshot, order) {
        return Some(Finding::Unsettled { order_id, why });
    }
    let fits = match order.state.as_str() {
        "confirmed" => {
            reservation == Some("RESERVED") && matches!(delivery, Some("ready" | "dispatched"))
        }
        "completed" => reservation == Some("RESERVED") && delivery == Some("completed"),
        _ => {
            let given_back = matches!(reservation, Some("RELEASED" | "REJECTED" | "TOMBSTONE"));
            given_back && matches!(delivery, Some("cancelled" | "failed" | "tombstone") | None)
        }
    };
    let saga = snapshot.sagas.get(&order_id).map(|it| it.state.as_str());
    let saga_fits = match (order.coordination.as_str(), order.state.as_str()) {
        ("choreography", _) => saga.is_none(),
        (_, "confirmed") => saga == Some("FULFILLING"),
        (_, "completed") => saga == Some("DONE"),
        _ => matches!(saga, Some("CANCELLED" | "RESOLVED")),
    };
    (!fits || !saga_fits).then(|| Finding::RowsDisagree {
        order_id,
        rows: format!(
            "the order is {}, the reservation {reservation:?}, the delivery {delivery:?}, the saga {saga:?}",
            order.state
        ),
    })
}

fn waits(snapshot: &Snapshot, order: &Order) -> Option<String> {
    match (order.state.as_str(), order.cancel.as_str()) {
        ("pending", _) => return Some("it is pending".to_owned()),
        ("confirmed", "requested") => {
            return Some("its cancellation is not decided".to_owned());
        }
        _ => {}
    }
    let saga = snapshot.sagas.get(&order.order_id)?;
    if let Some(reason) = &saga.parked_reason {
        return Some(format!("its saga is parked: {reason}"));
    }
    let moves = !saga.finished && saga.state != "FULFILLING";
    moves.then(|| format!("its saga is {}", saga.state))
}

/// Rows about an order that orders does not know.
fn strangers(snapshot: &Snapshot) -> Vec<Finding> {
    let rows = [
        ("a reservation", snapshot.reservations.keys().collect::<Vec<_>>()),
        ("a delivery", snapshot.deliveries.keys().collect()),
        ("a saga", snapshot.sagas.keys().collect()),
    ];
    let strange = rows.into_iter().flat_map(|(what, ids)| {
        ids.into_iter().filter(|id| !snapshot.orders.contains_key(id)).map(move |id| {
            Finding::RowsDisagree { order_id: *id, rows: format!("there is {what}, and no order") }
        })
    });
    strange.collect()
}

/// What an event says was done; a reservation is made or refused, an order cancelled or completed: together once.
fn effect(event_type: &str) -> Option<&'static str> {
    Some(match event_type.rsplit('.').next()? {
        "OrderPlaced" => "placed",
        "OrderConfirmed" => "confirmed",
        "OrderCancelled" | "OrderCompleted" => "ended",
        "StockReserved" | "ProductOutOfStock" => "reserved or rejected",
        "DeliveryStarted" => "a delivery started",
        "DeliveryDispatched" => "dispatched",
        "DeliveryCompleted" => "delivered",
        "DeliveryCancelled" | "DeliveryFailed" => "a delivery ended",
        _ => return None,
    })
}

/// By the trails: an answer to a command that changed nothing is no effect.
fn done_twice(snapshot: &Snapshot) -> Vec<Finding> {
    let mut done: BTreeMap<(Uuid, &'static str), BTreeSet<Uuid>> = BTreeMap::new();
    for (row, emitted) in snapshot.emitted().filter(|(row, _)| row.outcome == "applied") {
        if let (Some(effect), Some(order_id)) = (effect(&emitted.r#type), row.correlation_id) {
            done.entry((order_id, effect)).or_default().insert(emitted.id);
        }
    }
    let twice = done.into_iter().filter(|(_, events)| events.len() > 1);
    twice
        .map(|((order_id, effect), events)| Finding::DoubleEffect {
            order_id,
            effect,
            event_ids: events.into_iter().collect(),
        })
        .collect()
}
