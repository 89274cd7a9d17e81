//! Topics of their own, and everything that is in them.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{Headers, OwnedMessage},
};
use uuid::Uuid;

pub(crate) const PARTITIONS: i32 = 12;

pub(crate) fn bootstrap() -> String {
    crate::required("SETTLE_TEST_KAFKA")
}

/// A topic that nobody else uses, on the real broker.
pub(crate) async fn topic() -> String {
    let name = format!("relay-{}", Uuid::now_v7().simple());
    create(&name, &[]).await;
    name
}

pub(crate) async fn create(name: &str, settings: &[(&str, &str)]) {
    create_at(&bootstrap(), name, settings).await;
}

pub(crate) async fn create_at(bootstrap: &str, name: &str, settings: &[(&str, &str)]) {
    create_with(PARTITIONS, bootstrap, name, settings).await;
}

pub(crate) async fn create_with(
    partitions: i32,
    bootstrap: &str,
    name: &str,
    settings: &[(&str, &str)],
) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let topic = settings.iter().fold(
        NewTopic::new(name, partitions, TopicReplication::Fixed(1)),
        |topic, (key, value)| topic.set(key, value),
    );
    for result in admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
}

/// Everything in the topic now, partition by partition.
pub(crate) async fn read(bootstrap: &str, topic: &str) -> Vec<OwnedMessage> {
    read_as("read_uncommitted", bootstrap, topic).await
}

/// What a reader sees who waits for transactions to be decided.
pub(crate) async fn read_committed(bootstrap: &str, topic: &str) -> Vec<OwnedMessage> {
    read_as("read_committed", bootstrap, topic).await
}

async fn read_as(isolation: &'static str, bootstrap: &str, topic: &str) -> Vec<OwnedMessage> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read_all(isolation, &bootstrap, &topic)).await.unwrap()
}

fn read_all(isolation: &str, bootstrap: &str, topic: &str) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .create()
        .unwrap();
    let patience = Duration::from_secs(20);
    let partitions =
        consumer.fetch_metadata(Some(topic), patience).unwrap().topics()[0].partitions().len();
    let mut wanted = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions).unwrap() {
        wanted.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&wanted).unwrap();
    // A partition may tell of its end more than once.
    let (mut messages, mut ended) = (Vec::new(), std::collections::BTreeSet::new());
    while ended.len() < partitions {
        match consumer.poll(patience).expect("a message before the end of the topic") {
            Ok(message) => messages.push(message.detach()),
            Err(KafkaError::PartitionEOF(partition)) => {
                ended.insert(partition);
            }
            Err(error) => panic!("{error}"),
        }
    }
    messages
}

pub(crate) fn key(message: &OwnedMessage) -> String {
    String::from_utf8(message.key().unwrap().to_vec()).unwrap()
}

pub(crate) fn number(message: &OwnedMessage) -> i64 {
    std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap()
}

pub(crate) fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let value = message.headers()?.iter().find(|header| header.key == name)?.value?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

/// The numbers of every key in the order in which they are in the topic.
pub(crate) fn by_key(messages: &[OwnedMessage]) -> BTreeMap<String, Vec<i64>> {
    let mut keys: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for message in messages {
        keys.entry(key(message)).or_default().push(number(message));
    }
    keys
}

/// The same without repetitions: where each number was first.
pub(crate) fn first_by_key(messages: &[OwnedMessage]) -> BTreeMap<String, Vec<i64>> {
    let mut keys = by_key(messages);
    for numbers in keys.values_mut() {
        let mut seen = std::collections::BTreeSet::new();
        numbers.retain(|number| seen.insert(*number));
    }
    keys
}

/// What is wrong with a topic in which every key should hold 1, 2, 3 ... up to its version.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    /// After dropping repetitions.
    pub(crate) inverted: usize,
}

pub(crate) fn judge(messages: &[OwnedMessage], versions: &BTreeMap<String, i64>) -> Verdict {
    let keys = by_key(messages);
    let mut verdict = Verdict::default();
    for (key, version) in versions {
        let numbers = keys.get(key).map(Vec::as_slice).unwrap_or_default();
        let mut seen = std::collections::BTreeSet::new();
        let mut highest = 0;
        for number in numbers {
            if !seen.insert(*number) {
                verdict.duplicated += 1;
                continue;
            }
            verdict.inverted += usize::from(*number < highest);
            highest = highest.max(*number);
        }
        verdict.lost += usize::try_from(*version).unwrap() - seen.range(1..=*version).count();
    }
    verdict
}
