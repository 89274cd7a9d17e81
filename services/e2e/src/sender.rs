//! Sends messages that nobody of ours would send like that: again, in another order, broken.

use std::time::Duration;

use anyhow::Context as _;
use local::Event;
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

use crate::ledger::Place;

const LIMIT: Duration = Duration::from_secs(10);

/// A producer beside the relay.
pub struct Sender(FutureProducer);

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// Kafka need not be there yet.
    pub fn new(bootstrap: &str) -> anyhow::Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("partitioner", "murmur2_random");
        Ok(Self(config.create()?))
    }

    /// Sends one message, and says where it lies.
    pub async fn send(
        &self,
        topic: &str,
        key: &str,
        headers: &[(&str, String)],
        payload: &[u8],
    ) -> anyhow::Result<Place> {
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let record = FutureRecord::to(topic).key(key).payload(payload).headers(headers);
        let sent = self.0.send(record, LIMIT).await;
        let delivery = sent.map_err(|(error, _)| error).context("send a message")?;
        Ok(Place {
            topic: topic.to_owned(),
            partition: delivery.partition,
            offset: delivery.offset,
        })
    }
}

/// The headers of an event that was seen, as far as handling it needs them.
pub fn headers_of(event: &Event) -> Vec<(&'static str, String)> {
    vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", event.id.clone()),
        ("ce_type", event.r#type.clone()),
        ("ce_source", event.source.clone()),
        ("ce_time", event.time.clone()),
        ("ce_correlationid", event.order.clone().unwrap_or_default()),
        ("ce_causationid", event.cause.clone().unwrap_or_default()),
        ("content-type", "application/json".to_owned()),
    ]
}
