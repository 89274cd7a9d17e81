//! Each thing that the checker can find, planted by hand in the databases, the topics or what the outside knows: it is named,
//! and nothing else is. Afterwards it is taken away again.

use e2e::{customer::Wish, finding::Finding, ledger::Place, sender::headers_of};
use local::{Event, Part};
use uuid::Uuid;

use crate::small::{PRODUCT, STOCK, Small, name};

pub(crate) async fn nothing(small: Small) -> anyhow::Result<()> {
    assert_eq!(small.findings().await?, []);
    Ok(())
}

pub(crate) async fn lost(small: Small) -> anyhow::Result<()> {
    let order_id = Uuid::now_v7();
    let mut known = small.arena.ledger.entries();
    known.orders.insert(order_id, "nobody".to_owned());
    assert_eq!(small.findings_by(&known).await?, [Finding::Lost { order_id }]);
    Ok(())
}

pub(crate) async fn unsettled(small: Small) -> anyhow::Result<()> {
    let order_id = small.order(Wish::Keep, false);
    let set = |state| format!("update orders set state = '{state}' where order_id = '{order_id}'");
    let found = small.plant(Part::Orders, &set("pending"), &set("confirmed")).await?;
    assert_eq!(found, [Finding::Unsettled { order_id, why: "it is pending".to_owned() }]);
    Ok(())
}

pub(crate) async fn undecided(small: Small) -> anyhow::Result<()> {
    let order_id = small.order(Wish::Keep, true);
    let set =
        |cancel| format!("update orders set cancel = '{cancel}' where order_id = '{order_id}'");
    let found = small.plant(Part::Orders, &set("requested"), &set("none")).await?;
    let why = "its cancellation is not decided".to_owned();
    assert_eq!(found, [Finding::Unsettled { order_id, why }]);
    Ok(())
}

pub(crate) async fn parked_saga(small: Small) -> anyhow::Result<()> {
    let order_id = small.order(Wish::Keep, true);
    let set = |why| format!("update sagas set parked_reason = {why} where saga_id = '{order_id}'");
    let found = small.plant(Part::Orchestrator, &set("'tired'"), &set("null")).await?;
    assert_eq!(
        found,
        [Finding::Unsettled { order_id, why: "its saga is parked: tired".to_owned() }]
    );
    Ok(())
}

pub(crate) async fn placed_twice(small: Small) -> anyhow::Result<()> {
    let (one, other) = (small.order(Wish::Keep, false), small.order(Wish::Dispatch, false));
    let set = |wish| {
        let customer = name(wish, false);
        format!("update orders set customer_id = '{customer}' where order_id = '{other}'")
    };
    let found = small.plant(Part::Orders, &set(Wish::Keep), &set(Wish::Dispatch)).await?;
    let request_id = name(Wish::Keep, false);
    assert_eq!(found, [Finding::PlacedTwice { request_id, order_ids: vec![one, other] }]);
    Ok(())
}

/// Another StockReserved, in the trail and in the topic.
pub(crate) async fn reserved_twice(small: Small) -> anyhow::Result<()> {
    let order_id = small.order(Wish::Keep, false);
    let topic = proto::event::PRODUCTS_EVENTS;
    let first = small.events(order_id, topic).await?.swap_remove(0);
    let second = Event { id: Uuid::now_v7().to_string(), ..first.clone() };
    let handled = Uuid::now_v7();
    let trail = noted(handled, order_id, &second);
    let place = send(&small, &second).await?;
    let undo = format!("delete from messaging.trail where event_id = '{handled}'");
    let found = small.plant(Part::Products, &trail, &undo).await?;
    small.arena.ledger.injected(place);
    let event_ids = vec![Uuid::parse_str(&first.id)?, Uuid::parse_str(&second.id)?];
    let effect = "reserved or rejected";
    assert_eq!(found, [Finding::DoubleEffect { order_id, effect, event_ids }]);
    Ok(())
}

pub(crate) async fn stock(small: Small) -> anyhow::Result<()> {
    let change =
        |by: &str| format!("update products set stock = stock {by} where product_id = '{PRODUCT}'");
    // orders' copy has it too, so that nothing else is wrong.
    let copy = change("+ 1").replace("products", "product_replicas");
    small.run(Part::Orders, &copy).await?;
    let found = small.plant(Part::Products, &change("+ 1"), &change("- 1")).await;
    small.run(Part::Orders, &copy.replace("+ 1", "- 1")).await?;
    match found?.as_slice() {
        [Finding::StockNotConserved { product_id, initial, free, held }] => {
            assert_eq!((product_id.as_str(), *initial), (PRODUCT, STOCK));
            assert_eq!(free + held, STOCK + 1);
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

pub(crate) async fn replica(small: Small) -> anyhow::Result<()> {
    let change = |by: &str| {
        format!("update product_replicas set version = version {by} where product_id = '{PRODUCT}'")
    };
    let found = small.plant(Part::Orders, &change("- 1"), &change("+ 1")).await?;
    let is_named = matches!(
        found.as_slice(),
        [Finding::ReplicaDiffers { product_id, product, replica: Some(replica) }]
            if product_id == PRODUCT && product.1 == replica.1 + 1
    );
    assert!(is_named, "{found:?}");
    Ok(())
}

/// With all that tells of it: the delivery's row, its trail and its events.
pub(crate) async fn shipped_and_cancelled(small: Small) -> anyhow::Result<()> {
    let order_id = small.order(Wish::CancelLater, false);
    let before = small.events(order_id, proto::event::DELIVERY_EVENTS).await?;
    let cancelled = before.iter().find(|it| it.short_type() == "DeliveryCancelled").unwrap();
    let mut known = small.arena.ledger.entries();
    known.injected.insert(place_of(cancelled));
    let dispatched = as_dispatched(cancelled);
    let place = send(&small, &dispatched).await?;
    let keep =
        format!("create table kept as select * from deliveries where order_id = '{order_id}'");
    small.run(Part::Delivery, &format!("{keep}; {}", instead(cancelled, &dispatched))).await?;
    let plant = format!(
        "update deliveries set state = 'dispatched', decision_event_id = null where order_id = '{order_id}'"
    );
    small.run(Part::Delivery, &plant).await?;
    let found = small.findings_by(&known).await;
    let undo = format!(
        "update deliveries set state = kept.state, decision_event_id = kept.decision_event_id
         from kept where deliveries.order_id = kept.order_id;
         drop table kept; {}",
        instead(&dispatched, cancelled)
    );
    small.run(Part::Delivery, &undo).await?;
    small.arena.ledger.injected(place);
    assert_eq!(found?, [Finding::ShippedAndCancelled { order_id }]);
    Ok(())
}

/// The reservation of dispatched goods is released, and the stock is back.
pub(crate) async fn shipped_without_stock(small: Small) -> anyhow::Result<()> {
    let order_id = small.order(Wish::Dispatch, true);
    let set = |state: &str, by: &str| {
        format!(
            "update products set stock = stock {by} where product_id = '{PRODUCT}';
             update reservations set state = '{state}' where order_id = '{order_id}'"
        )
    };
    let copy = |by: &str| {
        format!("update product_replicas set stock = stock {by} where product_id = '{PRODUCT}'")
    };
    small.run(Part::Orders, &copy("+ 2")).await?;
    let found = small.plant(Part::Products, &set("RELEASED", "+ 2"), &set("RESERVED", "- 2")).await;
    small.run(Part::Orders, &copy("- 2")).await?;
    assert_eq!(found?, [Finding::ShippedWithoutStock { order_id }]);
    Ok(())
}

pub(crate) async fn rows(small: Small) -> anyhow::Result<()> {
    let order_id = small.order(Wish::Keep, false);
    let set =
        |state| format!("update deliveries set state = '{state}' where order_id = '{order_id}'");
    let found = small.plant(Part::Delivery, &set("started"), &set("ready")).await?;
    assert_disagree(&found, order_id, "delivery Some(\"started\")");
    Ok(())
}

pub(crate) async fn saga(small: Small) -> anyhow::Result<()> {
    let order_id = small.order(Wish::Complete, true);
    let set = |state| format!("update sagas set state = '{state}' where saga_id = '{order_id}'");
    let found = small.plant(Part::Orchestrator, &set("CANCELLED"), &set("DONE")).await?;
    assert_disagree(&found, order_id, "saga Some(\"CANCELLED\")");
    Ok(())
}

fn assert_disagree(found: &[Finding], order: Uuid, about: &str) {
    match found {
        [Finding::RowsDisagree { order_id, rows }] => {
            assert_eq!(*order_id, order);
            assert!(rows.contains(about), "{rows}");
        }
        other => panic!("{other:?}"),
    }
}

/// The first event of an order is taken away and sent again, behind the second.
pub(crate) async fn order_of_events(small: Small) -> anyhow::Result<()> {
    let order_id = small.order(Wish::Keep, false);
    let topic = proto::event::ORDERS_EVENTS;
    let events = small.events(order_id, topic).await?;
    let [placed, confirmed] = events.as_slice() else { panic!("{events:?}") };
    let place = send(&small, placed).await?;
    let mut known = small.arena.ledger.entries();
    known.injected.insert(place_of(placed));
    let found = small.findings_by(&known).await?;
    small.arena.ledger.injected(place);
    let named = Finding::OutOfOrder {
        topic: topic.to_owned(),
        key: order_id.to_string(),
        first: Uuid::parse_str(&placed.id)?,
        second: Uuid::parse_str(&confirmed.id)?,
    };
    assert_eq!(found, [named]);
    Ok(())
}

pub(crate) async fn event_without_change(small: Small) -> anyhow::Result<()> {
    let order_id = small.order(Wish::Keep, true);
    let topic = proto::event::ORDERS_EVENTS;
    let events = small.events(order_id, topic).await?;
    let confirmed = events.iter().find(|it| it.short_type() == "OrderConfirmed").unwrap();
    let ghost = Event { id: Uuid::now_v7().to_string(), ..confirmed.clone() };
    let place = send(&small, &ghost).await?;
    let found = small.findings().await?;
    small.arena.ledger.injected(place);
    let named = Finding::EventWithoutChange {
        topic: topic.to_owned(),
        key: order_id.to_string(),
        event_type: "OrderConfirmed".to_owned(),
        event_id: ghost.id,
    };
    assert_eq!(found, [named]);
    Ok(())
}

/// The trail says that something was emitted, and no topic has it.
pub(crate) async fn change_without_event(small: Small) -> anyhow::Result<()> {
    let order_id = small.order(Wish::Keep, false);
    let topic = proto::event::ORDERS_EVENTS;
    let mut lost = small.events(order_id, topic).await?.swap_remove(0);
    lost.id = Uuid::now_v7().to_string();
    lost.r#type = "shop.orders.v1.OrderCancelRequested".to_owned();
    let handled = Uuid::now_v7();
    let undo = format!("delete from messaging.trail where event_id = '{handled}'");
    let found = small.plant(Part::Orders, &noted(handled, order_id, &lost), &undo).await?;
    let untold = format!("{} {}", lost.r#type, lost.id);
    assert_eq!(found, [Finding::ChangeWithoutEvent { key: order_id.to_string(), untold }]);
    Ok(())
}

/// A product has moved on, and only orders' copy with it.
pub(crate) async fn version_without_event(small: Small) -> anyhow::Result<()> {
    let change = |by: &str| {
        format!("update products set version = version {by} where product_id = '{PRODUCT}'")
    };
    let copy = change("+ 1").replace("products", "product_replicas");
    small.run(Part::Orders, &copy).await?;
    let found = small.plant(Part::Products, &change("+ 1"), &change("- 1")).await;
    small.run(Part::Orders, &copy.replace("+ 1", "- 1")).await?;
    match found?.as_slice() {
        [Finding::ChangeWithoutEvent { key, untold }] => {
            assert_eq!(key, PRODUCT);
            assert!(untold.starts_with("its version "), "{untold}");
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

pub(crate) async fn parked(small: Small) -> anyhow::Result<()> {
    let plant = "insert into messaging.inbox_parked
                     (consumer, key, topic, partition, \"offset\", kafka_time, headers, reason)
                 values ('delivery', 'stuck', 'shop.orders.events', 0, -1, now(), '[]', 'planted')";
    let undo = "delete from messaging.inbox_parked where key = 'stuck'";
    let found = small.plant(Part::Delivery, plant, undo).await?;
    assert_eq!(found, [Finding::LeftParked { service: "delivery", key: "stuck".to_owned() }]);
    Ok(())
}

/// The same event as of a dispatch.
fn as_dispatched(event: &Event) -> Event {
    Event {
        id: Uuid::now_v7().to_string(),
        r#type: "shop.delivery.v1.DeliveryDispatched".to_owned(),
        ..event.clone()
    }
}

/// A row of the trail by which an event was emitted, behind all others.
fn noted(handled: Uuid, order_id: Uuid, event: &Event) -> String {
    let Event { id, r#type, topic, .. } = event;
    format!(
        "insert into messaging.trail
             (slot, event_id, consumer, kind, type, correlation_id, source, created_at, received_at, outcome, emitted)
         values (0, '{handled}', 'planted', 'timer', 'Planted', '{order_id}', 'planted', now(), now(), 'applied',
                 '[{{\"id\": \"{id}\", \"type\": \"{type}\", \"topic\": \"{topic}\", \"key\": \"{order_id}\"}}]')"
    )
}

/// Lets the trail say that another event was emitted.
fn instead(of: &Event, that: &Event) -> String {
    format!(
        "update messaging.trail
         set emitted = replace(replace(emitted::text, '{}', '{}'), '{}', '{}')::jsonb
         where emitted::text like '%{}%'",
        of.id, that.id, of.r#type, that.r#type, of.id
    )
}

async fn send(small: &Small, event: &Event) -> anyhow::Result<Place> {
    let (key, payload) = (event.key.clone().unwrap_or_default(), event.payload.to_string());
    // Nobody is to handle it: it is there to be read by the checker.
    let mut headers = headers_of(event);
    headers.retain(|(name, _)| *name != "ce_type");
    headers.push(("ce_type", event.r#type.clone()));
    small.arena.sender.send(&event.topic, &key, &headers, payload.as_bytes()).await
}

fn place_of(event: &Event) -> Place {
    Place { topic: event.topic.clone(), partition: event.partition, offset: event.offset }
}
