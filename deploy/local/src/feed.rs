//! The events as they pass through Kafka: every topic, every partition, without a consumer group.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proto::event::TOPICS;
use rdkafka::consumer::{BaseConsumer, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// How many events are remembered to name causes by; a cause is nearly always recent.
const REMEMBERED: usize = 100_000;
const METADATA_LIMIT: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the oldest event that Kafka keeps.
    Beginning,
    /// At the first event after now.
    Now,
}

/// One event as it lies in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When it came about, RFC 3339.
    pub time: String,
    /// Its type's full name, such as `shop.orders.v1.OrderPlaced`.
    pub r#type: String,
    /// Its id.
    pub id: String,
    /// The order it belongs to, if any.
    pub order: Option<String>,
    /// The event, command or call that caused it.
    pub cause: Option<String>,
    /// The short name of the cause's type, where the cause is an event that has passed.
    pub cause_type: Option<String>,
    /// Which service told it.
    pub source: String,
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its ordering key.
    pub key: Option<String>,
    /// What it says; null is a tombstone. Text where it is not JSON.
    pub payload: Value,
}

impl Event {
    /// The type without its package.
    pub fn short_type(&self) -> &str {
        short(&self.r#type)
    }
}

/// A never-ending reader of events.
pub struct Feed {
    consumer: StreamConsumer,
    /// Short type names by event id, to name the causes.
    types: HashMap<String, String>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Feed")
            .field("events_seen", &self.types.len())
            .finish_non_exhaustive()
    }
}

impl Feed {
    /// Opens the topics. When this returns, "now" is fixed: what is appended later will be seen.
    pub async fn open(bootstrap: &str, from: From, topics: Vec<String>) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            // Required by the client, though there is no group: nothing is ever committed.
            .set("group.id", "settle-events")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50");
        let action = format!("read the events at {bootstrap}");
        let opened = tokio::task::spawn_blocking(move || open(&config, from, &topics)).await;
        let opened = opened.map_err(|error| Error::io(action.clone())(error.into()))?;
        let consumer = opened.map_err(|source| Error::Kafka { action, source })?;
        Ok(Self { consumer, types: HashMap::new() })
    }

    /// Waits for the next event. Cancel-safe.
    pub async fn next(&mut self) -> Result<Event> {
        let message = self.consumer.recv().await;
        let message = message
            .map_err(|source| Error::Kafka { action: "read the next event".to_owned(), source })?;
        let mut event = read(&message);
        event.cause_type = event.cause.as_ref().and_then(|cause| self.types.get(cause)).cloned();
        if self.types.len() == REMEMBERED {
            self.types.clear();
        }
        self.types.insert(event.id.clone(), event.short_type().to_owned());
        Ok(event)
    }
}

/// Everything that the topics hold now, partition by partition.
pub async fn everything(bootstrap: &str, topics: Vec<String>) -> Result<Vec<Event>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "settle-events");
    config.set("enable.auto.commit", "false");
    let action = format!("read all events at {bootstrap}");
    let read = tokio::task::spawn_blocking(move || read_to_the_end(&config, &topics)).await;
    let read = read.map_err(|error| Error::io(action.clone())(error.into()))?;
    read.map_err(|source| Error::Kafka { action, source })
}

fn read_to_the_end(config: &ClientConfig, topics: &[String]) -> KafkaResult<Vec<Event>> {
    let consumer: BaseConsumer = config.create()?;
    let mut begin = TopicPartitionList::new();
    // What is still to be read: the offset behind the last one, by topic and partition.
    let mut open = HashMap::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), METADATA_LIMIT)?;
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            let edges = || consumer.fetch_watermarks(topic, partition.id(), METADATA_LIMIT);
            let (low, high) = once_it_leads(edges)?;
            if low < high {
                begin.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
                open.insert((topic.clone(), partition.id()), high);
            }
        }
    }
    consumer.assign(&begin)?;
    let mut events = Vec::new();
    while !open.is_empty() {
        let message = consumer.poll(METADATA_LIMIT);
        let message = message.unwrap_or(Err(KafkaError::NoMessageReceived))?;
        let place = (message.topic().to_owned(), message.partition());
        let end = open.get(&place).copied();
        if end.is_some_and(|end| message.offset() < end) {
            events.push(read(&message));
        }
        if end.is_some_and(|end| message.offset() + 1 >= end) {
            open.remove(&place);
        }
    }
    Ok(events)
}

/// Every topic of the event table.
pub fn all_topics() -> Vec<String> {
    TOPICS.iter().map(|topic| topic.name.to_owned()).collect()
}

fn open(config: &ClientConfig, from: From, topics: &[String]) -> KafkaResult<StreamConsumer> {
    let asking: BaseConsumer = config.create()?;
    let edge = if from == From::Beginning { Offset::Beginning } else { Offset::End };
    let mut edges = TopicPartitionList::new();
    for topic in topics {
        let metadata = asking.fetch_metadata(Some(topic), METADATA_LIMIT)?;
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            edges.add_partition_offset(topic, partition.id(), edge)?;
        }
    }
    // The edges as numbers, all in one request: a symbolic end would move on until the first fetch.
    let assigned = once_it_leads(|| asking.offsets_for_times(edges.clone(), METADATA_LIMIT))?;
    let consumer: StreamConsumer = config.create()?;
    consumer.assign(&assigned)?;
    Ok(consumer)
}

/// A broker that has just started says where a partition is before it leads it: it is asked again for a while.
fn once_it_leads<T>(ask: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
    let give_up = Instant::now() + METADATA_LIMIT;
    loop {
        match ask() {
            Err(error) if leads_not_yet(&error) && Instant::now() < give_up => {
                std::thread::sleep(ASK_AGAIN);
            }
            answered => return answered,
        }
    }
}

fn leads_not_yet(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        FencedLeaderEpoch, LeaderNotAvailable, NotLeaderForPartition, UnknownLeaderEpoch,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(FencedLeaderEpoch | LeaderNotAvailable | NotLeaderForPartition | UnknownLeaderEpoch)
    )
}

/// Reads whatever came; a message without our headers is shown as well as it can be.
fn read(message: &BorrowedMessage<'_>) -> Event {
    let header = |name: &str| {
        let found = message.headers()?.iter().find(|header| header.key == name)?;
        Some(String::from_utf8_lossy(found.value?).into_owned())
    };
    let payload = message.payload().map_or(Value::Null, |bytes| {
        serde_json::from_slice(bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
    });
    Event {
        time: header("ce_time").unwrap_or_default(),
        r#type: header("ce_type").unwrap_or_else(|| "?".to_owned()),
        id: header("ce_id").unwrap_or_default(),
        order: header("ce_correlationid"),
        cause: header("ce_causationid"),
        cause_type: None,
        source: header("ce_source").unwrap_or_default(),
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
        payload,
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn only_a_broker_that_leads_not_yet_is_asked_again() {
        let ask = |code| {
            let asked = Cell::new(0);
            let answered = once_it_leads(|| {
                asked.set(asked.get() + 1);
                if asked.get() > 2 { Ok(()) } else { Err(KafkaError::MetadataFetch(code)) }
            });
            (answered.is_ok(), asked.get())
        };
        assert_eq!(ask(RDKafkaErrorCode::UnknownLeaderEpoch), (true, 3));
        assert_eq!(ask(RDKafkaErrorCode::AllBrokersDown), (false, 1));
    }
}
