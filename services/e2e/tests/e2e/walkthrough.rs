//! The labs of the tutorial: order, cancel, roll back, and what else can befall an order.

use anyhow::Context as _;
use local::{Event, Part, SERVICES};
use proto::{
    delivery::v1::{
        CompleteDeliveryRequest, DeliveryState, DispatchDeliveryRequest, FailDeliveryRequest,
    },
    operations::v1::{GetTrailRequest, TrailOutcome},
    orders::v1::{CancelReason, Coordination, OrderState, WatchOrderRequest, WatchOrderResponse},
};
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;

use crate::shop::{Shop, request};

pub(crate) async fn confirm_and_cancel(shop: Shop) -> anyhow::Result<()> {
    // The seeded one, or one of this scenario's own where others have been.
    let product = &shop.by_style("tv".to_owned(), shop.product(10).await?);
    let before = shop.stock(product).await?;
    assert_eq!((before, shop.replica(product).await?), (10, 10));

    let order = shop.place(product, 1).await?;
    assert_eq!((order.state(), order.revision), (OrderState::Pending, 1));
    assert_eq!(order.total.context("total")?.units, 10_000);
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    shop.until_delivery(&order.order_id, DeliveryState::Ready).await?;
    assert_eq!(shop.stock(product).await?, 9);
    shop.until_replica(product, 9).await?;

    let cancelling = shop.cancel(&order.order_id).await?;
    assert_eq!(cancelling.state(), OrderState::Cancelling);
    let cancelled = shop.until_order(&order.order_id, OrderState::Cancelled).await?;
    assert_eq!(cancelled.cancel_reason(), CancelReason::Customer);
    shop.until_delivery(&order.order_id, DeliveryState::Cancelled).await?;
    shop.until_stock(product, 10).await?;
    shop.until_replica(product, 10).await?;

    let events = until_all_told(&shop, &order.order_id).await?;
    let (called_off, cancelled_by) = shop
        .by_style(("OrderCancelRequested", "DeliveryCancelled"), ("CancelDelivery", "CancelOrder"));
    assert_caused(&events, "OrderCancelled", cancelled_by);
    assert_caused(&events, "DeliveryCancelled", called_off);
    let states: Vec<_> =
        cancelled.transitions.iter().map(|it| (it.state(), it.cause.as_str())).collect();
    assert_eq!(states[0], (OrderState::Pending, "PlaceOrder"));
    assert_eq!(states[1].0, OrderState::Confirmed);
    assert_eq!(states[2], (OrderState::Cancelling, "CancelOrder"));
    assert_eq!(states[3], (OrderState::Cancelled, cancelled_by));
    assert!(
        cancelled.transitions.iter().all(|it| it.trace_id.len() == 32),
        "{:?}",
        cancelled.transitions
    );
    Ok(())
}

/// Everything about an order that was confirmed and then cancelled.
pub(crate) async fn until_all_told(shop: &Shop, order_id: &str) -> anyhow::Result<Vec<Event>> {
    let facts = [
        "OrderPlaced",
        "StockReserved",
        "ProductChanged",
        "DeliveryStarted",
        "OrderConfirmed",
        "OrderCancelRequested",
        "DeliveryCancelled",
        "OrderCancelled",
        "ProductChanged",
    ];
    let commands = [
        "ReserveStock",
        "StartDelivery",
        "ConfirmOrder",
        "ReadyDelivery",
        "DeliveryReady",
        "CancelDelivery",
        "CancelOrder",
        "ReleaseStock",
        "StockReleased",
    ];
    let told = [facts.as_slice(), shop.by_style(&[], &commands)].concat();
    shop.until_events(order_id, &told).await
}

pub(crate) async fn dispatch_and_complete(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let order = shop.place(&product, 2).await?;
    let order_id = order.order_id;
    shop.until_order(&order_id, OrderState::Confirmed).await?;
    shop.until_delivery(&order_id, DeliveryState::Ready).await?;
    let dispatch = DispatchDeliveryRequest { order_id: order_id.clone(), ..Default::default() };
    shop.delivery.clone().dispatch_delivery(dispatch).await?;

    let cancelling = shop.cancel(&order_id).await?;
    assert_eq!(cancelling.state(), OrderState::Cancelling);
    let kept = shop.until_order(&order_id, OrderState::Confirmed).await?;
    assert!(kept.cancel_refused, "{kept:?}");
    let again = shop.cancel(&order_id).await.expect_err("a refused cancel stays refused");
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert_eq!(again.get_details_error_info().context("error info")?.reason, "CANCEL_REFUSED");

    let complete = CompleteDeliveryRequest { order_id: order_id.clone(), ..Default::default() };
    shop.delivery.clone().complete_delivery(complete).await?;
    shop.until_order(&order_id, OrderState::Completed).await?;
    assert_eq!(shop.stock(&product).await?, 3);
    let after = shop.cancel(&order_id).await.expect_err("a completed order is not cancelled");
    assert_eq!(after.get_details_error_info().context("error info")?.reason, "ORDER_COMPLETED");
    Ok(())
}

pub(crate) async fn out_of_stock(shop: Shop) -> anyhow::Result<()> {
    let product = &shop.by_style("tv".to_owned(), shop.product(10).await?);
    shop.until_stock(product, 10).await?;
    let order = shop.place(product, 100).await?;
    assert_eq!(order.state(), OrderState::Pending);
    let cancelled = shop.until_order(&order.order_id, OrderState::Cancelled).await?;
    assert_eq!(cancelled.cancel_reason(), CancelReason::OutOfStock);

    assert_eq!(shop.stock(product).await?, 10);
    assert_eq!(shop.replica(product).await?, 10);
    if shop.style == Coordination::Orchestration {
        let chain = [
            "OrderPlaced",
            "ReserveStock",
            "ProductOutOfStock",
            "CancelOrder",
            "OrderCancelled",
            "ReleaseStock",
            "StockReleased",
        ];
        let events = shop.until_events(&order.order_id, &chain).await?;
        for pair in chain.windows(2) {
            assert_caused(&events, pair[1], pair[0]);
        }
        let saga = shop.until_saga(&order.order_id, "CANCELLED").await?;
        assert_eq!(saga.cancel_reason, "OUT_OF_STOCK");
        return Ok(());
    }

    let chain = [
        "OrderPlaced",
        "DeliveryStarted",
        "ProductOutOfStock",
        "OrderCancelled",
        "DeliveryCancelled",
    ];
    let events = shop.until_events(&order.order_id, &chain).await?;
    assert_caused(&events, "DeliveryStarted", "OrderPlaced");
    assert_caused(&events, "ProductOutOfStock", "OrderPlaced");
    assert_caused(&events, "OrderCancelled", "ProductOutOfStock");
    assert_caused(&events, "DeliveryCancelled", "OrderCancelled");

    // products knows this cancellation for the consequence of its own decision.
    let outcomes = crate::shop::until("products has handled OrderCancelled", async || {
        let request = GetTrailRequest { order_id: order.order_id.clone() };
        let trail = shop.operations(Part::Products)?.get_trail(request).await?.into_inner();
        let of = |name: &str| {
            trail.entries.iter().find(|it| it.r#type.ends_with(name)).map(|it| it.outcome())
        };
        Ok((of("OrderPlaced").context("placed")?, of("OrderCancelled").context("cancelled")?))
    });
    assert_eq!(outcomes.await?, (TrailOutcome::Applied, TrailOutcome::OwnOrigin));
    Ok(())
}

pub(crate) async fn all_or_nothing(shop: Shop) -> anyhow::Result<()> {
    let (plenty, scarce) = (shop.product(10).await?, shop.product(1).await?);
    let too_much = shop.place_request(request(&[(&plenty, 3), (&scarce, 2)])).await?;
    shop.until_order(&too_much.order_id, OrderState::Cancelled).await?;
    assert_eq!((shop.stock(&plenty).await?, shop.stock(&scarce).await?), (10, 1));

    let fits = shop.place_request(request(&[(&plenty, 3), (&scarce, 1)])).await?;
    assert_eq!(fits.total.context("total")?.units, 40_000);
    shop.until_order(&fits.order_id, OrderState::Confirmed).await?;
    assert_eq!((shop.stock(&plenty).await?, shop.stock(&scarce).await?), (7, 0));
    Ok(())
}

pub(crate) async fn delivery_fails(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(4).await?;
    let order = shop.place(&product, 4).await?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    let fail = FailDeliveryRequest {
        order_id: order.order_id.clone(),
        reason: "the bridge is out".to_owned(),
        ..Default::default()
    };
    shop.delivery.clone().fail_delivery(fail).await?;
    let cancelled = shop.until_order(&order.order_id, OrderState::Cancelled).await?;
    assert_eq!(cancelled.cancel_reason(), CancelReason::DeliveryFailed);
    shop.until_stock(&product, 4).await
}

pub(crate) async fn watch(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(1).await?;
    let order = shop.place(&product, 1).await?;
    let order_id = order.order_id;
    let follow = |after_revision| WatchOrderRequest { order_id: order_id.clone(), after_revision };
    let mut stream = shop.orders.clone().watch_order(follow(0)).await?.into_inner();
    let mut seen = vec![next(&mut stream).await?];
    while seen.last() != Some(&(OrderState::Confirmed, 2)) {
        seen.push(next(&mut stream).await?);
    }
    drop(stream);

    let mut stream = shop.orders.clone().watch_order(follow(2)).await?.into_inner();
    shop.cancel(&order_id).await?;
    assert_eq!(next(&mut stream).await?, (OrderState::Cancelling, 3));
    assert_eq!(next(&mut stream).await?, (OrderState::Cancelled, 4));
    assert!(stream.message().await?.is_none(), "a cancelled order's watch ends");

    // Everything again, from the beginning of what was seen.
    let mut stream = shop.orders.clone().watch_order(follow(1)).await?.into_inner();
    for revision in 2..=4 {
        assert_eq!(next(&mut stream).await?.1, revision);
    }
    assert!(stream.message().await?.is_none());
    Ok(())
}

async fn next(stream: &mut Streaming<WatchOrderResponse>) -> anyhow::Result<(OrderState, i64)> {
    let order = stream.message().await?.context("the watch ended")?.order.context("no order")?;
    Ok((order.state(), order.revision))
}

pub(crate) async fn trail(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(1).await?;
    let order = shop.place(&product, 1).await?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    // What orders, products, delivery and the orchestrator heard of it; and the call.
    let heard = shop.by_style([3, 1, 2, 0], [4, 2, 4, 5]).iter().sum::<usize>();
    let entries = crate::shop::until("all of it is handled", async || {
        let mut entries = Vec::new();
        for part in SERVICES {
            let request = GetTrailRequest { order_id: order.order_id.clone() };
            entries.extend(shop.operations(part)?.get_trail(request).await?.into_inner().entries);
        }
        if entries.len() == heard + 1 { Ok(entries) } else { anyhow::bail!("{entries:?}") }
    })
    .await?;
    // One tree: everything but the call was emitted by something else in it.
    let emitted: Vec<_> =
        entries.iter().flat_map(|it| &it.emitted).map(|it| it.event_id.as_str()).collect();
    let (roots, handled): (Vec<_>, Vec<_>) =
        entries.iter().partition(|it| it.r#type == "PlaceOrder");
    assert_eq!((roots.len(), handled.len()), (1, heard), "{entries:?}");
    for entry in handled {
        assert!(emitted.contains(&entry.event_id.as_str()), "{entry:?}");
        assert!(entries.iter().any(|cause| cause.event_id == entry.causation_id), "{entry:?}");
        assert_eq!(entry.deliveries, 1, "{entry:?}");
    }
    Ok(())
}

/// `settle trace` of an order, as a person and as a program reads it.
pub(crate) async fn causes(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(1).await?;
    let order = shop.place(&product, 1).await?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    let told = crate::shop::until("every event is seen", async || {
        let told = shop.settle("trace", &[&order.order_id]).await?;
        let confirmed = told.0.lines().skip_while(|line| !line.contains("OrderConfirmed"));
        anyhow::ensure!(
            confirmed.skip(1).any(|line| line.contains("delivery applied")),
            "{told:?}"
        );
        Ok(told.0)
    })
    .await?;
    assert!(told.contains("call PlaceOrder: orders applied"), "{told}");
    assert!(!told.contains("not asked"), "{told}");

    let linked = ["--json", "--jaeger-url", "http://jaeger:16686/", &order.order_id];
    let document: serde_json::Value =
        serde_json::from_str(&shop.settle("trace", &linked).await?.0)?;
    let placed = &document["roots"][0]["emitted"][0];
    assert_eq!(
        (placed["type"].as_str(), placed["seen"].as_bool()),
        (Some("shop.orders.v1.OrderPlaced"), Some(true))
    );
    let link = document["links"][0].as_str().unwrap_or_default();
    assert_eq!(
        Some(link.trim_start_matches("http://jaeger:16686/trace/")),
        document["traceIds"][0].as_str()
    );

    shop.stack.sigterm(Part::Delivery).await?;
    let (told, _) = shop.settle("trace", &[&order.order_id]).await?;
    shop.stack.start(Part::Delivery).await?;
    assert!(told.contains("not asked: delivery, http://127.0.0.1:"), "{told}");

    let nobody = uuid::Uuid::new_v4().to_string();
    let (_, refused) = shop.settle("trace", &[&nobody]).await?;
    assert!(refused.contains("has handled anything of order"), "{refused}");
    let (_, refused) = shop.settle("trace", &["order-1"]).await?;
    assert!(refused.contains("invalid value 'order-1'"), "{refused}");
    Ok(())
}

pub(crate) async fn demo(shop: Shop) -> anyhow::Result<()> {
    // As the shop coordinates orders that do not say.
    let style = shop.by_style("choreography", "orchestration");
    shop.stack.set_env(Part::Orders, "ORDERS_COORDINATION", style);
    shop.restart(Part::Orders).await?;
    let (text, error) = shop.settle("demo", &["--kafka", shop.stack.kafka_bootstrap()]).await?;
    shop.stack.set_env(Part::Orders, "ORDERS_COORDINATION", "choreography");
    shop.restart(Part::Orders).await?;
    assert!(error.is_empty(), "{text}\n{error}");
    let in_its_style = shop.by_style("DeliveryStarted", "ReleaseStock");
    for told in
        ["OrderConfirmed", "DeliveryCancelRefused", "ProductOutOfStock", "grpcurl", in_its_style]
    {
        assert!(text.contains(told), "{told} is not shown:\n{text}");
    }
    Ok(())
}

/// The event's cause is the other one.
pub(crate) fn assert_caused(events: &[Event], event: &str, cause: &str) {
    let find = |name: &str| events.iter().find(|it| it.short_type() == name).expect(name);
    assert_eq!(
        find(event).cause.as_deref(),
        Some(find(cause).id.as_str()),
        "{event} was not caused by {cause}"
    );
}
