//! An accepted order: one row, one event with its cause, one line of the trail, one transition.

use chassis::telemetry::TraceContext;
use proto::orders::v1::{
    Coordination, OrderPlaced, OrderState, OrderView, PlaceOrderResponse,
    order_service_server::OrderService as _,
};
use serde_json::Value;
use tonic::Request;
use uuid::Uuid;

use crate::shop::{Shop, id, wants, won};

#[tokio::test]
async fn a_placed_order_is_pending_and_told_of_once_with_its_cause() {
    let shop = Shop::open().await;
    let mut request = Request::new(wants(&[("tv", 2), ("clock", 3)]));
    let trace = TraceContext::random();
    request.extensions_mut().insert(trace.clone());
    let PlaceOrderResponse { order } = shop.api.place_order(request).await.unwrap().into_inner();
    let order = order.unwrap();
    assert_eq!(order.state(), OrderState::Pending);
    assert_eq!(order.coordination(), Coordination::Choreography);
    assert_eq!((order.revision, order.etag.as_str()), (1, "r1"));
    assert_eq!(order.total, Some(won(50_000)));
    assert_eq!(order.settle_time, None);
    let create = order.create_time.unwrap().seconds;
    assert_eq!(order.deadline_time.unwrap().seconds - create, 24 * 3600);

    // The event.
    let order_id = id(&order);
    let (headers, payload, key, topic): (Value, Vec<u8>, String, String) =
        sqlx::query_as("select headers, payload, key, topic from messaging.outbox")
            .fetch_one(shop.pool())
            .await
            .unwrap();
    let header = |name: &str| headers[name].as_str().unwrap_or_default().to_owned();
    assert_eq!((key.as_str(), topic.as_str()), (order.order_id.as_str(), "shop.orders.events"));
    assert_eq!(header("ce_type"), "shop.orders.v1.OrderPlaced");
    assert_eq!(header("ce_source"), "orders");
    assert_eq!(header("ce_specversion"), "1.0");
    assert_eq!(header("ce_subject"), order.order_id);
    assert_eq!(header("ce_partitionkey"), order.order_id);
    assert_eq!(header("ce_correlationid"), order.order_id);
    assert_eq!(header("ce_coordination"), "choreography");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("traceparent").split('-').nth(1), trace.trace_id().as_deref());
    assert_eq!(header("ce_traceparent"), header("traceparent"));
    let call: Uuid = header("ce_causationid").parse().unwrap();
    assert_eq!(header("ce_causalpath"), format!("orders/PlaceOrder/{call}"));
    let event: OrderPlaced = serde_json::from_slice(&payload).unwrap();
    assert_eq!((event.lines, event.customer), (order.lines.clone(), order.customer.clone()));
    assert_eq!(event.total, order.total);

    // The trail.
    let trail: Vec<(Uuid, String, String, String, Uuid, String, Value)> = sqlx::query_as(
        "select event_id, kind, consumer, outcome, correlation_id, trace_id, emitted
         from messaging.trail",
    )
    .fetch_all(shop.pool())
    .await
    .unwrap();
    let [(caller, kind, method, outcome, correlation, traced, emitted)] = &trail[..] else {
        panic!("{trail:?}")
    };
    assert_eq!((*caller, *correlation), (call, order_id));
    assert_eq!(
        (kind.as_str(), method.as_str(), outcome.as_str()),
        ("call", "PlaceOrder", "applied")
    );
    assert_eq!(Some(traced.as_str()), trace.trace_id().as_deref());
    assert_eq!(emitted.as_array().unwrap().len(), 1);
    assert_eq!(emitted[0]["id"], header("ce_id"));

    // The transition.
    let full = shop.order(order_id).await;
    let [first] = &full.transitions[..] else { panic!("{:?}", full.transitions) };
    assert_eq!((first.revision, first.state()), (1, OrderState::Pending));
    assert_eq!((first.cause.as_str(), &first.cause_id), ("PlaceOrder", &call.to_string()));
    assert_eq!(first.event_id, header("ce_id"));
    assert_eq!(Some(first.trace_id.as_str()), trace.trace_id().as_deref());
}

#[tokio::test]
async fn the_transitions_of_an_order_say_what_caused_them() {
    let mut shop = Shop::open().await;
    let order_id = shop.placed().await;
    shop.hears(order_id, "DeliveryStarted").await;
    let reserved = shop.others.tell(order_id, "StockReserved");
    shop.hear(std::slice::from_ref(&reserved)).await;
    shop.cancel(order_id).await.unwrap();
    shop.hears(order_id, "DeliveryCancelled").await;

    let order = shop.order(order_id).await;
    let states: Vec<_> = order
        .transitions
        .iter()
        .map(|it| (it.revision, it.state().as_str_name(), it.cause.as_str()))
        .collect();
    assert_eq!(
        states,
        [
            (1, "ORDER_STATE_PENDING", "PlaceOrder"),
            (2, "ORDER_STATE_CONFIRMED", "StockReserved"),
            (3, "ORDER_STATE_CANCELLING", "CancelOrder"),
            (4, "ORDER_STATE_CANCELLED", "DeliveryCancelled"),
        ]
    );
    let header = |name: &str| {
        let value = reserved.headers.iter().find(|(header, _)| header == name);
        String::from_utf8(value.unwrap().1.clone().unwrap()).unwrap()
    };
    let confirmed = &order.transitions[1];
    assert_eq!(confirmed.cause_id, header("ce_id"));
    assert_eq!(Some(confirmed.trace_id.as_str()), header("traceparent").split('-').nth(1));
    // Every event of the order is named by the transition it tells of, in order.
    let events: Vec<String> =
        sqlx::query_scalar("select event_id::text from messaging.outbox order by seq")
            .fetch_all(shop.pool())
            .await
            .unwrap();
    let told: Vec<_> = order.transitions.iter().map(|it| it.event_id.clone()).collect();
    assert_eq!(told, events);
    assert_eq!(order.settle_time, order.transitions[1].create_time);
    let basic = shop.api.get_order(Request::new(proto::orders::v1::GetOrderRequest {
        order_id: order_id.to_string(),
        view: OrderView::Basic.into(),
    }));
    assert_eq!(basic.await.unwrap().into_inner().order.unwrap().transitions, []);
}
