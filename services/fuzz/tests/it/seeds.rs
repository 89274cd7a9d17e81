//! What every corpus begins with: real messages, under their names. `SETTLE_SEEDS=write cargo test -p fuzz` writes them anew.

use std::fs;

use chassis::page_token;
use fuzz::{
    payloads::{KINDS, ORCHESTRATED, PROTOBUF},
    requests::{METHODS, answer},
};
use prost::Message;
use proto::{
    delivery::v1 as delivery, operations::v1 as operations, orchestrator::v1 as orchestrator,
    orders::v1 as orders, products::v1 as products,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::corpus::corpus;

const ORDER: &str = "0198c0de-7a3f-7000-8000-000000000001";

#[test]
fn the_seeds_are_real_messages() {
    for (target, name, input) in all() {
        let file = corpus(target).join(name);
        if std::env::var_os("SETTLE_SEEDS").is_some() {
            fs::create_dir_all(corpus(target)).unwrap();
            fs::write(&file, &input).unwrap();
        }
        let kept = fs::read(&file).unwrap_or_default();
        assert!(same(&kept, &input), "{} is not the seed that it should be", file.display());
    }
}

#[test]
fn every_request_among_the_seeds_is_accepted() {
    let seeds: Vec<_> = requests().into_iter().filter_map(|(_, input)| answer(&input)).collect();
    assert_eq!(seeds.len(), METHODS.len());
    for (method, answer) in seeds {
        assert!(answer.is_ok(), "{method}: {answer:?}");
    }
}

#[test]
fn every_payload_among_the_seeds_is_decoded() {
    let seeds = messages();
    assert_eq!(seeds.len(), KINDS.len());
    for (name, payload) in seeds {
        let (_, same) = KINDS[kind(name)];
        let payload = payload.to_string();
        assert_eq!(
            same(chassis::envelope::ContentType::Json, payload.as_bytes()),
            Ok(()),
            "{name}"
        );
    }
}

/// In JSON, fields may come in any order: it depends on what else is built with us.
fn same(kept: &[u8], input: &[u8]) -> bool {
    let fields = |seed: &[u8]| serde_json::from_slice::<Value>(seed.get(2..)?).ok();
    let is_json = fields(kept).is_some() && kept.get(..2) == input.get(..2);
    kept == input || is_json && fields(kept) == fields(input)
}

type Seed = (&'static str, String, Vec<u8>);

fn all() -> Vec<Seed> {
    let requests = requests().into_iter().map(|(name, input)| ("requests", name.to_owned(), input));
    let filters = filters().into_iter().map(|(name, input)| ("filters", name.to_owned(), input));
    let tokens = tokens().into_iter().map(|(name, input)| ("page_tokens", name.to_owned(), input));
    let headers = headers().map(|(name, input)| ("headers", name.to_owned(), input.into()));
    requests.chain(filters).chain(tokens).chain(headers).chain(payloads()).collect()
}

fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let act = json!({"actor": "kim", "reason": "by hand", "expectedVersion": 4});
    let price = json!({"currencyCode": "KRW", "units": 990_000});
    let saga = json!({"sagaId": ORDER, "act": act, "step": "CancelDelivery"});
    let parcel = json!({"orderId": ORDER, "requestId": "r1", "reason": "lost"});
    let product = json!({
        "requestId": "r1", "productId": "tv", "name": "TV", "price": price, "stock": 10,
        "imageUrl": "https://example.org/tv.png", "options": [{"name": "55", "description": "inch"}],
    });
    let changes = json!({"productId": "tv", "price": price, "options": {"options": []}});
    let lines = json!({"lines": [{"productId": "tv", "quantity": 2}, {"productId": "radio", "quantity": 1}]});
    let place = json!({
        "requestId": "r1", "coordination": "COORDINATION_ORCHESTRATION", "lines": lines["lines"],
        "customer": {"customerId": "1@uengine.org", "name": "홍길동", "address": "서울시"},
    });
    let full = json!({"orderId": ORDER, "view": "ORDER_VIEW_FULL", "afterRevision": 2});
    let whole = json!({"sagaId": ORDER, "view": "SAGA_VIEW_FULL", "afterVersion": 2});
    let key = json!({"key": ORDER, "parkedId": 7, "reason": "never sent", "pageSize": 20});
    let (page, some) = (json!({"pageSize": 20}), json!({"orderIds": [ORDER]}));
    let since = json!({"state": "ORDER_STATE_PENDING", "pendingFor": "60s"});
    vec![
        request::<orders::PlaceOrderRequest>("PlaceOrder", &place),
        request::<orders::CancelOrderRequest>(
            "CancelOrder",
            &json!({"orderId": ORDER, "etag": "r2"}),
        ),
        request::<orders::GetOrderRequest>("GetOrder", &full),
        request::<orders::ListOrdersRequest>("ListOrders", &since),
        request::<orders::WatchOrderRequest>("WatchOrder", &full),
        request::<orders::ListProductReplicasRequest>("ListProductReplicas", &page),
        request::<products::CreateProductRequest>("CreateProduct", &product),
        request::<products::UpdateProductRequest>("UpdateProduct", &changes),
        request::<products::AdjustStockRequest>(
            "AdjustStock",
            &json!({"productId": "tv", "delta": -1}),
        ),
        request::<products::GetProductRequest>("GetProduct", &json!({"productId": "tv"})),
        request::<products::ListProductsRequest>("ListProducts", &page),
        request::<products::CheckAvailabilityRequest>("CheckAvailability", &lines),
        request::<delivery::GetDeliveryRequest>("GetDelivery", &parcel),
        request::<delivery::ListDeliveriesRequest>("ListDeliveries", &page),
        request::<delivery::DispatchDeliveryRequest>("DispatchDelivery", &parcel),
        request::<delivery::CompleteDeliveryRequest>("CompleteDelivery", &parcel),
        request::<delivery::FailDeliveryRequest>("FailDelivery", &parcel),
        request::<orchestrator::GetSagaRequest>("GetSaga", &whole),
        request::<orchestrator::ListSagasRequest>("ListSagas", &json!({"state": "RESERVING"})),
        request::<orchestrator::WatchSagaRequest>("WatchSaga", &whole),
        request::<orchestrator::RetryStepRequest>("RetryStep", &saga),
        request::<orchestrator::SkipStepRequest>("SkipStep", &saga),
        request::<orchestrator::ForceCompensateRequest>("ForceCompensate", &saga),
        request::<orchestrator::MarkResolvedRequest>("MarkResolved", &saga),
        request::<orchestrator::UnparkRequest>("Unpark", &saga),
        request::<operations::GetTrailRequest>("GetTrail", &json!({"orderId": ORDER})),
        request::<operations::ListParkedRequest>("ListParked", &key),
        request::<operations::RetryParkedRequest>("RetryParked", &key),
        request::<operations::SkipParkedRequest>("SkipParked", &key),
        request::<operations::GetLagRequest>("GetLag", &json!({})),
        request::<operations::SetSwitchRequest>(
            "SetSwitch",
            &json!({"name": "consume", "on": true}),
        ),
        request::<operations::ListSwitchesRequest>("ListSwitches", &json!({})),
        request::<products::BatchGetReservationsRequest>("BatchGetReservations", &some),
        request::<delivery::BatchGetDeliveriesRequest>("BatchGetDeliveries", &some),
    ]
}

/// Fields that the message does not have are passed over.
fn request<R: Message + DeserializeOwned>(
    method: &'static str,
    json: &Value,
) -> (&'static str, Vec<u8>) {
    let position = METHODS.iter().position(|(name, _)| *name == method).unwrap();
    (method, [vec![position as u8], encoded::<R>(json)].concat())
}

fn encoded<R: Message + DeserializeOwned>(json: &Value) -> Vec<u8> {
    serde_json::from_value::<R>(json.clone()).unwrap().encode_to_vec()
}

fn filters() -> Vec<(&'static str, Vec<u8>)> {
    let now = 1_795_780_800_i64.to_be_bytes().to_vec();
    let orders = json!({
        "pageSize": 20, "state": "ORDER_STATE_PENDING", "customerId": "1@uengine.org", "pendingFor": "60s",
        "createTimeFrom": "2026-11-26T00:00:00Z", "createTimeBefore": "2026-11-27T00:00:00Z",
    });
    let sagas = json!({"state": "RESERVING", "unfinished": true, "parked": true, "olderThan": "60s", "orderId": ORDER});
    let deliveries = json!({"pageSize": 20, "state": "DELIVERY_STATE_READY"});
    vec![
        ("orders", [vec![0], now.clone(), encoded::<orders::ListOrdersRequest>(&orders)].concat()),
        (
            "sagas",
            [vec![1], now.clone(), encoded::<orchestrator::ListSagasRequest>(&sagas)].concat(),
        ),
        (
            "deliveries",
            [vec![2], now, encoded::<delivery::ListDeliveriesRequest>(&deliveries)].concat(),
        ),
    ]
}

/// After kind, place and change: the token that somebody sends.
fn tokens() -> Vec<(&'static str, Vec<u8>)> {
    let question = orders::ListOrdersRequest::default();
    let id = Uuid::from_u128(1);
    let seed = |kind: u8, token: Result<String, serde_json::Error>| {
        [vec![kind, 40, 1], token.unwrap().into_bytes()].concat()
    };
    vec![
        ("id", seed(0, page_token::write(&question, id))),
        ("text", seed(1, page_token::write(&question, "tv"))),
        ("number", seed(2, page_token::write(&question, 7_i64))),
        ("number_and_id", seed(3, page_token::write(&question, (7_i64, id)))),
    ]
}

fn headers() -> impl Iterator<Item = (&'static str, &'static str)> {
    let whole = "ce_specversion: 1.0\n\
        ce_id: 0198c0de-7a3f-7000-8000-00000000000e\n\
        ce_type: shop.orders.v1.OrderCancelled\n\
        ce_source: orders\n\
        ce_time: 2026-11-27T12:00:00.000001Z\n\
        ce_correlationid: 0198c0de-7a3f-7000-8000-000000000001\n\
        ce_causationid: 0198c0de-7a3f-7000-8000-00000000000d\n\
        ce_causalpath: orders/PlaceOrder/0198c0de-7a3f-7000-8000-00000000000c,products/ProductOutOfStock/0198c0de-7a3f-7000-8000-00000000000d\n\
        ce_coordination: choreography\n\
        content-type: application/json\n\
        traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n\
        tracestate: congo=t61rcWkgMzE\n\
        baggage: tenant=7";
    let bare = "ce_specversion: 1.0\n\
        ce_id: 0198c0de-7a3f-7000-8000-00000000000e\n\
        ce_type: com.example/changed,twice\n\
        ce_source: https://example.org/shop,1\n\
        ce_time: 2026-11-27T21:00:00+09:00\n\
        ce_subject";
    [("whole", whole), ("foreign", bare)].into_iter()
}

/// Each as JSON and choreographed, and as protobuf and orchestrated.
fn payloads() -> Vec<Seed> {
    let placed = encoded::<orders::OrderPlaced>(&order());
    let start = encoded::<delivery::StartDelivery>(&parcel());
    let binary = [("OrderPlaced", placed), ("StartDelivery", start)].map(|(name, payload)| {
        let input = [vec![kind(name) as u8, PROTOBUF | ORCHESTRATED], payload].concat();
        ("payloads", format!("{name}.protobuf"), input)
    });
    let json = messages().into_iter().map(|(name, payload)| {
        let flags = if name == "OrderPlaced" { 0 } else { ORCHESTRATED };
        let input = [vec![kind(name) as u8, flags], payload.to_string().into_bytes()].concat();
        ("payloads", name.to_owned(), input)
    });
    json.chain(binary).collect()
}

fn kind(name: &str) -> usize {
    let full = |full: String| full.rsplit('.').next() == Some(name);
    KINDS.iter().position(|(it, _)| full(it())).unwrap()
}

fn messages() -> Vec<(&'static str, Value)> {
    let lines = json!({"orderId": ORDER, "lines": [{"productId": "tv", "quantity": 2}]});
    let short = json!({"productId": "tv", "requested": 2, "available": "1"});
    let product = json!({
        "productId": "tv", "productName": "TV", "productPrice": {"currencyCode": "KRW", "units": "990000"},
        "productStock": "9", "version": "2", "orderId": ORDER,
    });
    vec![
        ("OrderPlaced", order()),
        ("OrderConfirmed", order()),
        ("OrderCancelRequested", order()),
        ("OrderCancelRefused", order()),
        ("OrderCancelled", order()),
        ("OrderCompleted", order()),
        ("StockReserved", lines.clone()),
        ("ProductOutOfStock", json!({"orderId": ORDER, "shortages": [short]})),
        ("StockReleased", lines.clone()),
        ("ProductChanged", product),
        ("DeliveryStarted", parcel()),
        ("DeliveryReady", parcel()),
        ("DeliveryDispatched", parcel()),
        ("DeliveryCompleted", parcel()),
        ("DeliveryCancelled", parcel()),
        ("DeliveryCancelRefused", parcel()),
        ("DeliveryFailed", parcel()),
        ("ConfirmOrder", json!({"orderId": ORDER})),
        ("CancelOrder", json!({"orderId": ORDER, "reason": "CANCEL_REASON_OUT_OF_STOCK"})),
        ("RefuseCancel", json!({"orderId": ORDER})),
        ("CompleteOrder", json!({"orderId": ORDER})),
        ("ReserveStock", lines.clone()),
        ("ReleaseStock", lines),
        ("StartDelivery", parcel()),
        ("ReadyDelivery", json!({"orderId": ORDER})),
        ("CancelDelivery", json!({"orderId": ORDER})),
    ]
}

/// What events of orders carry; each takes of it what it has.
fn order() -> Value {
    let price = json!({"currencyCode": "KRW", "units": "990000"});
    json!({
        "orderId": ORDER, "reason": "CANCEL_REASON_CUSTOMER", "total": price,
        "customer": {"customerId": "1@uengine.org", "name": "홍길동", "address": "서울시"},
        "lines": [{"productId": "tv", "productName": "TV", "quantity": 1, "unitPrice": price}],
    })
}

fn parcel() -> Value {
    json!({
        "deliveryId": "0198c0de-7a3f-7000-8000-00000000000a", "orderId": ORDER,
        "lines": [{"productId": "tv", "productName": "TV", "quantity": 2}],
        "customerId": "1@uengine.org", "customerName": "홍길동", "deliveryAddress": "서울시",
        "deliveryState": "DELIVERY_STATE_STARTED", "reason": "lost",
    })
}
