//! A Kafka that refuses the consumer: for a while, which is waited for, or for good, which ends it.

use std::sync::Arc;

use chassis::{consumer::Consumer, doorbell::Doorbell, progress::Progress, switches::Switch};
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    mocking::MockCluster,
    producer::FutureProducer,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    diary::{Diary, Pages, in_time},
    kafka::{send, step_until},
};

const TOPIC: &str = "test.chassis.letters";

fn consumer_of(diary: &Diary, brokers: &str) -> Consumer<Pages> {
    let (inbox, options) = (Arc::clone(&diary.inbox), diary.db.options.clone());
    Consumer::new(inbox, "mock", brokers, options, 10, Progress::default(), Doorbell::default())
        .unwrap()
}

/// Kafka's client never comes back from such an error: only a new process does, so the task ends and with it the service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_kafka_has_fenced_ends_with_an_error() {
    let diary = Diary::on_topic::<0>().await;
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic(TOPIC, 1, 1).unwrap();
    let fenced = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID; 3];
    broker.request_errors(RDKafkaApiKey::Heartbeat, &fenced);
    let consumer = consumer_of(&diary, &broker.bootstrap_servers());
    let ended =
        in_time(consumer.run(Switch::new(true), CancellationToken::new())).await.unwrap_err();
    assert_eq!(ended.to_string(), "Kafka has closed this consumer for good");
    let cause = ended.downcast_ref::<KafkaError>();
    assert!(matches!(cause, Some(KafkaError::MessageConsumptionFatal(_))), "{ended:?}");
}

/// What passes by is waited for instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_kafka_refuses_for_a_while_goes_on() {
    let mut diary = Diary::on_topic::<0>().await;
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic(TOPIC, 1, 1).unwrap();
    let brokers = broker.bootstrap_servers();
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE; 3];
    broker.request_errors(RDKafkaApiKey::JoinGroup, &refused);
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID; 1];
    broker.request_errors(RDKafkaApiKey::Heartbeat, &refused);
    let a = Uuid::now_v7();
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let letter = diary.letter(a, "a1");
    send(&producer, &letter, letter.key.as_bytes(), None).await;
    let mut consumer = consumer_of(&diary, &brokers);
    step_until(&mut consumer, &diary, "select count(*) = 1 from pages").await;
    assert_eq!(diary.heard(a).await, ["a1"]);
}
