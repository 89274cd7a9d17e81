//! A broker that goes away and comes back: nothing is lost, nothing overtakes.

use rdkafka::mocking::MockCluster;

use crate::{
    database::{Database, append_many},
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
