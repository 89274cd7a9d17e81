//! A broker that goes away, comes back, or refuses: nothing is lost, nothing overtakes.

use std::time::Duration;

use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use crate::{
    database::{Database, append, append_many},
    kafka,
    relay::Relay,
    writers::Writers,
};

const SHORT: [&str; 6] = ["--delivery-timeout", "1s", "--lease", "2s", "--renew-every", "200ms"];

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_for_a_while_costs_neither_events_nor_order() {
    let database = Database::fresh().await;
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("t", 6, 1).unwrap();
    let relay = Relay::start(&database, &broker.bootstrap_servers(), &SHORT).await;
    let writers = Writers::start(&database, "t", 6, 30).await;
    relay.says("test: shipping").await;
    for _ in 0..2 {
        broker.broker_down(1).unwrap();
        relay.says("test: failing: Kafka").await;
        assert_eq!(relay.page("/readyz").await.0, 503);
        let unsent = database.unsent().await;
        crate::eventually("writers go on", async || database.unsent().await > unsent + 50).await;
        broker.broker_up(1).unwrap();
        relay.says("test: shipping").await;
    }
    let versions = writers.end().await;
    database.drained().await;
    relay.stop().await.unwrap();
    let verdict = kafka::judge(&kafka::read(&broker.bootstrap_servers(), "t").await, &versions);
    assert_eq!((verdict.lost, verdict.inverted), (0, 0), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_is_never_overtaken_by_the_next_of_its_key() {
    let database = Database::fresh().await;
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("t", 1, 1).unwrap();
    let relay = Relay::start(&database, &broker.bootstrap_servers(), &SHORT).await;
    relay.says("test: shipping").await;
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 3];
    broker.request_errors(RDKafkaApiKey::Produce, &refused);
    let mut connection = database.connect().await;
    for number in 1..=20_i64 {
        append(&mut connection, "t", "k", Some(number.to_string().as_bytes())).await;
    }
    database.drained().await;
    let (_, metrics) = relay.page("/metrics").await;
    assert!(metrics.contains(r#"reason="too_large""#), "{metrics}");
    relay.stop().await.unwrap();
    let numbers = kafka::by_key(&kafka::read(&broker.bootstrap_servers(), "t").await);
    let mut first: Vec<i64> = Vec::new();
    for number in &numbers["k"] {
        if !first.contains(number) {
            first.push(*number);
        }
    }
    assert_eq!(first, (1..=20).collect::<Vec<_>>(), "{:?}", numbers["k"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_holds_everything_back_until_it_exists_and_is_named() {
    let (database, known) = (Database::fresh().await, kafka::topic().await);
    let unknown = format!("{known}-later");
    let mut connection = database.connect().await;
    append_many(&mut connection, &known, 1, 300).await;
    append(&mut connection, &unknown, "k", Some(b"301")).await;
    append_many(&mut connection, &known, 302, 300).await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    relay.says(&unknown).await;
    relay.says("until somebody mends this").await;
    crate::eventually("what lies before it is shipped", async || database.unsent().await == 301)
        .await;
    let repeated = kafka::read(&kafka::bootstrap(), &known).await.len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        kafka::read(&kafka::bootstrap(), &known).await.len(),
        repeated,
        "every retry sends the followers again"
    );
    kafka::create(&unknown, &[]).await;
    database.drained().await;
    relay.stop().await.unwrap();
    assert_eq!(kafka::read(&kafka::bootstrap(), &unknown).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_may_come_after_the_relay() {
    let database = Database::fresh().await;
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("t", 6, 1).unwrap();
    broker.broker_down(1).unwrap();
    append_many(&mut database.connect().await, "t", 1, 100).await;
    let relay = Relay::start(&database, &broker.bootstrap_servers(), &[]).await;
    relay.says("failing: Kafka: looking for a broker").await;
    broker.broker_up(1).unwrap();
    database.drained().await;
    relay.stop().await.unwrap();
}
