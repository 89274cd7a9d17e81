//! Messages that nobody of ours would send like that: again, in the wrong order, of unknown types, and broken.

use anyhow::{Context as _, bail};
use e2e::sender::{Sender, headers_of};
use local::{Event, Part, SERVICES};
use proto::{
    operations::v1::{GetTrailRequest, ListParkedRequest, ParkedMessage, SkipParkedRequest},
    orders::v1::OrderState,
};
use uuid::Uuid;

use crate::{
    pages::until_metric,
    shop::{Shop, until},
};

pub(crate) async fn duplicates(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let order = shop.place(&product, 2).await?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    shop.cancel(&order.order_id).await?;
    let settled = shop.until_order(&order.order_id, OrderState::Cancelled).await?;
    shop.until_stock(&product, 5).await?;
    let events = settled_events(&shop, &order.order_id).await?;

    // Everything again, backwards, and then forwards.
    let sender = Sender::new(shop.stack.kafka_bootstrap())?;
    for event in events.iter().rev().chain(&events) {
        sender
            .send(
                &event.topic,
                &order.order_id,
                &headers_of(event),
                event.payload.to_string().as_bytes(),
            )
            .await?;
    }
    for part in [Part::Orders, Part::Products, Part::Delivery] {
        until(&format!("{part:?} has absorbed every duplicate"), async || {
            let request = GetTrailRequest { order_id: order.order_id.clone() };
            let trail = shop.operations(part)?.get_trail(request).await?.into_inner().entries;
            let messages: Vec<_> = trail.iter().filter(|it| !it.topic.is_empty()).collect();
            assert!(!messages.is_empty());
            match messages.iter().find(|it| it.deliveries != 3) {
                Some(missing) => {
                    bail!("{} was delivered {} times", missing.r#type, missing.deliveries)
                }
                None => Ok(()),
            }
        })
        .await?;
    }
    let after = shop.order(&order.order_id).await?;
    assert_eq!((after.state(), after.revision), (OrderState::Cancelled, settled.revision));
    assert_eq!((shop.stock(&product).await?, shop.replica(&product).await?), (5, 5));
    Ok(())
}

/// By topic: a type that is sent broken, one that is sound behind it, and who parks both.
type Poison = [(&'static str, &'static str, &'static str, &'static [Part])];

const POISON_EVENTS: &Poison = &[(
    "shop.orders.events",
    "shop.orders.v1.OrderPlaced",
    "shop.orders.v1.OrderCancelled",
    &[Part::Products, Part::Delivery],
)];
const POISON_COMMANDS: &Poison = &[
    // The orchestrator first: it is to be free again when the others answer what waited behind.
    (
        "shop.orders.events",
        // Types that nobody else reacts to.
        "shop.orders.v1.OrderCompleted",
        "shop.orders.v1.OrderCancelRefused",
        &[Part::Orchestrator],
    ),
    (
        "shop.products.commands",
        "shop.products.v1.ReserveStock",
        "shop.products.v1.ReleaseStock",
        &[Part::Products],
    ),
    (
        "shop.delivery.commands",
        "shop.delivery.v1.StartDelivery",
        "shop.delivery.v1.CancelDelivery",
        &[Part::Delivery],
    ),
];

pub(crate) async fn poison(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(2).await?;
    let sender = Sender::new(shop.stack.kafka_bootstrap())?;
    let stuck = Uuid::now_v7().to_string();
    let mut parked_by = Vec::new();
    for (topic, broken, sound, parts) in shop.by_style(POISON_EVENTS, POISON_COMMANDS) {
        let style = ("ce_coordination", shop.by_style("choreography", "orchestration").to_owned());
        let headers_of_broken = [("ce_type", (*broken).to_owned()), style.clone()];
        sender.send(topic, &stuck, &headers_of_broken, b"{ this is not JSON").await?;
        // A later message of the key is sound, and waits behind it all the same.
        let mut headers_of_sound = headers(sound, &stuck);
        headers_of_sound.push(style);
        let payload = format!(r#"{{"orderId": "{stuck}", "reason": "CANCEL_REASON_CUSTOMER"}}"#);
        sender.send(topic, &stuck, &headers_of_sound, payload.as_bytes()).await?;
        parked_by.extend(*parts);
    }

    let order = shop.place(&product, 1).await?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    for part in parked_by.clone() {
        let both = format!("{part:?} has parked both");
        let parked = until(&both, async || {
            let parked = parked(&shop, part, &stuck).await?;
            if parked.len() == 2 { Ok(parked) } else { bail!("it has parked {parked:?}") }
        });
        let first = parked.await?.into_iter().next().context("the first of two")?;
        assert!(first.reason.contains("ce_specversion"), "{}", first.reason);
        until_metric(&shop, part, "inbox_parked", |parked| parked == 2.0).await?;
        until_metric(&shop, part, "inbox_parked_keys", |keys| keys == 1.0).await?;
        let skip = SkipParkedRequest {
            key: stuck.clone(),
            parked_id: first.parked_id,
            reason: "a scenario sent it".to_owned(),
        };
        let answer = shop.operations(part)?.skip_parked(skip).await?.into_inner();
        assert_eq!(answer.handled, 1, "the one behind it was sound");
        assert!(parked_now(&shop, part, &stuck).await?);
    }
    for part in parked_by {
        until_metric(&shop, part, "inbox_parked", |parked| parked == 0.0).await?;
    }
    assert_eq!(shop.stock(&product).await?, 1);
    Ok(())
}

pub(crate) async fn unknown(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(2).await?;
    let sender = Sender::new(shop.stack.kafka_bootstrap())?;
    let order = shop.place(&product, 1).await?;
    let confirmed = shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    let commands = ["shop.orders.commands", "shop.products.commands", "shop.delivery.commands"];
    let events = ["shop.orders.events", "shop.products.events", "shop.delivery.events"];
    for topic in events.into_iter().chain(shop.by_style(None, Some(commands)).into_iter().flatten())
    {
        let mut unheard_of = headers("shop.weather.v1.RainStarted", &order.order_id);
        let style = shop.by_style("choreography", "orchestration").to_owned();
        unheard_of.push(("ce_coordination", style));
        sender.send(topic, &order.order_id, &unheard_of, b"{}").await?;
    }
    // Behind them in the same partitions, so that they have been passed when this one is handled.
    shop.cancel(&order.order_id).await?;
    let cancelled = shop.until_order(&order.order_id, OrderState::Cancelled).await?;
    assert_eq!(cancelled.revision, confirmed.revision + 2);
    shop.until_stock(&product, 2).await?;
    for part in SERVICES {
        assert_eq!(parked(&shop, part, &order.order_id).await?, []);
    }
    Ok(())
}

async fn parked_now(shop: &Shop, part: Part, key: &str) -> anyhow::Result<bool> {
    Ok(parked(shop, part, key).await?.is_empty())
}

pub(crate) async fn parked(
    shop: &Shop,
    part: Part,
    key: &str,
) -> anyhow::Result<Vec<ParkedMessage>> {
    let request = ListParkedRequest { key: key.to_owned(), ..Default::default() };
    Ok(shop.operations(part)?.list_parked(request).await?.into_inner().messages)
}

async fn settled_events(shop: &Shop, order_id: &str) -> anyhow::Result<Vec<Event>> {
    let events = shop
        .until_events(
            order_id,
            &[
                "OrderPlaced",
                "StockReserved",
                "ProductChanged",
                "DeliveryStarted",
                "OrderConfirmed",
                "OrderCancelRequested",
                "DeliveryCancelled",
                "OrderCancelled",
                "ProductChanged",
            ],
        )
        .await?;
    Ok(events)
}

/// The headers as a service would set them.
pub(crate) fn headers<'a>(event_type: &str, order_id: &str) -> Vec<(&'a str, String)> {
    vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", Uuid::now_v7().to_string()),
        ("ce_type", event_type.to_owned()),
        ("ce_source", "orders".to_owned()),
        (
            "ce_time",
            chrono::DateTime::from_timestamp(1_790_000_000, 0).unwrap_or_default().to_rfc3339(),
        ),
        ("ce_correlationid", order_id.to_owned()),
        ("content-type", "application/json".to_owned()),
    ]
}
