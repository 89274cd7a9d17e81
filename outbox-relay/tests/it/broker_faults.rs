//! A broker that goes away and comes back: nothing is lost, nothing overtakes.

use std::time::Duration;

use rdkafka::{
    Message as _,
    message::OwnedMessage,
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

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

#[tokio::test(flavor = "multi_thread")]
async fn the_first_row_of_a_producer_goes_alone() {
    let (database, broker) = (Database::fresh().await, MockCluster::new(1).unwrap());
    broker.create_topic("t", 1, 1).unwrap();
    broker.broker_round_trip_time(1, Duration::from_millis(500)).unwrap();
    append_many(&mut database.connect().await, "t", 1, 100).await;
    let relay = Relay::start(&database, &broker.bootstrap_servers(), &[]).await;
    let first = more_in_flight(&relay, 0.0).await;
    let rest = more_in_flight(&relay, first).await;
    assert!(rest > 50.0 * first, "{first} bytes, then {rest}");
    database.drained().await;
    relay.stop().await.unwrap();
}

/// Waits until more bytes than these are on their way.
async fn more_in_flight(relay: &Relay, than: f64) -> f64 {
    let mut bytes = 0.0;
    crate::eventually("more is on its way", async || {
        bytes = relay.metric("outbox_relay_in_flight_bytes").await;
        bytes > than
    })
    .await;
    bytes
}

/// A page of them takes longer than is waited for: what has arrived of it counts all the same.
#[tokio::test(flavor = "multi_thread")]
async fn parked_rows_go_out_however_slow_the_broker_is() {
    let (database, broker) = (Database::fresh().await, MockCluster::new(1).unwrap());
    broker.create_topic("t", 1, 1).unwrap();
    broker.broker_round_trip_time(1, Duration::from_millis(100)).unwrap();
    // Some twenty of these are a request.
    sqlx::query(
        "insert into messaging.outbox_parked
             (seq, shard, event_id, topic, key, headers, payload, created_at, reason)
         select seq, 0, gen_random_uuid(), 't', 'a', '{}', convert_to(rpad(seq::text, 50000), 'utf8'), now(), 'behind'
         from generate_series(1, 200) as seq",
    )
    .execute(&mut database.connect().await)
    .await
    .unwrap();
    let relay = Relay::start(&database, &broker.bootstrap_servers(), &SHORT).await;
    crate::eventually("nothing is parked", async || database.parked().await == 0).await;
    relay.stop().await.unwrap();
    broker.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let sent = kafka::read(&broker.bootstrap_servers(), "t").await;
    let numbers: Vec<i64> = sent.iter().map(number).collect();
    assert!(numbers.len() <= 400, "{} were sent for 200", numbers.len());
    let mut firsts: Vec<i64> = Vec::new();
    for number in numbers {
        if !firsts.contains(&number) {
            firsts.push(number);
        }
    }
    assert_eq!(firsts, (1..=200).collect::<Vec<_>>());
}

fn number(message: &OwnedMessage) -> i64 {
    str::from_utf8(message.payload().unwrap()).unwrap().trim().parse().unwrap()
}

/// A broker that knows nothing of a producer takes any batch of its as the first: it refuses one, and takes the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_refused_for_a_moment_is_not_taken_for_delivered_when_the_next_one_is() {
    let (database, broker) = (Database::fresh().await, MockCluster::new(1).unwrap());
    broker.create_topic("t", 1, 1).unwrap();
    let mut connection = database.connect().await;
    let relay = Relay::start(&database, &broker.bootstrap_servers(), &[]).await;
    append_many(&mut connection, "t", 1, 1).await;
    database.drained().await;
    // So that there would be several on their way.
    broker.broker_round_trip_time(1, Duration::from_millis(30)).unwrap();
    for round in 0..5 {
        broker.request_errors(
            RDKafkaApiKey::Produce,
            &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION],
        );
        append_many(&mut connection, "t", 2 + round * 10_000, 10_000).await;
        database.drained().await;
    }
    relay.stop().await.unwrap();
    let numbers = kafka::first_by_key(&kafka::read(&broker.bootstrap_servers(), "t").await);
    assert_eq!(numbers.values().map(Vec::len).sum::<usize>(), 50_001);
    assert!(numbers.values().all(|numbers| numbers.is_sorted()));
}
