//! The feed of `settle events`, against the Kafka that the environment names.

use std::ffi::OsString;

use local::{Feed, From};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use uuid::Uuid;

fn kafka() -> String {
    let address: Option<OsString> = std::env::var_os("SETTLE_TEST_KAFKA");
    let address =
        address.expect("set SETTLE_TEST_POSTGRES and SETTLE_TEST_KAFKA, or run `make test`");
    address.into_string().unwrap()
}

async fn new_topic(kafka: &ClientConfig) -> String {
    let name = format!("events-{}", Uuid::new_v4());
    let admin: AdminClient<DefaultClientContext> = kafka.create().unwrap();
    let topic = NewTopic::new(&name, 2, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(std::time::Duration::from_secs(10)));
    admin.create_topics([&topic], &options).await.unwrap();
    name
}

async fn send(
    producer: &FutureProducer,
    topic: &str,
    kind: &str,
    id: &str,
    cause: &str,
    payload: Option<&str>,
) {
    let headers = [
        ("ce_type", kind),
        ("ce_id", id),
        ("ce_causationid", cause),
        ("ce_correlationid", "order-1"),
    ]
    .into_iter()
    .fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    });
    let mut record = FutureRecord::to(topic).key("order-1").headers(headers);
    record.payload = payload;
    producer.send(record, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_shown_with_their_order_and_the_name_of_their_cause() {
    let kafka = kafka();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka);
    let topic = new_topic(&config).await;
    let producer: FutureProducer = config.create().unwrap();
    send(&producer, &topic, "shop.orders.v1.OrderPlaced", "e0", "c0", Some("{}")).await;
    let mut now = Feed::open(&kafka, From::Now, vec![topic.clone()]).await.unwrap();
    let payload = Some(r#"{"orderId":"order-1"}"#);
    send(&producer, &topic, "shop.orders.v1.OrderPlaced", "e1", "call-1", payload).await;
    send(&producer, &topic, "shop.products.v1.StockReserved", "e2", "e1", None).await;

    let placed = now.next().await.unwrap();
    assert_eq!((placed.short_type(), placed.id.as_str()), ("OrderPlaced", "e1"));
    assert_eq!(placed.order.as_deref(), Some("order-1"));
    assert_eq!((placed.cause.as_deref(), placed.cause_type), (Some("call-1"), None));
    assert_eq!(placed.payload, json!({"orderId": "order-1"}));
    let reserved = now.next().await.unwrap();
    assert_eq!(reserved.cause_type.as_deref(), Some("OrderPlaced"));
    assert!(reserved.payload.is_null());

    let mut all = Feed::open(&kafka, From::Beginning, vec![topic]).await.unwrap();
    assert_eq!(all.next().await.unwrap().id, "e0");
}
