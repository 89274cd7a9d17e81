//! Whether a topic is there, by the broker's own word. A client that has waited in vain for an answer calls a topic
//! unknown too, and nothing may be parked for that.

use std::time::Duration;

use rdkafka::consumer::Consumer;

use crate::{Config, Error, error::kafka, producer};

/// Asks Kafka, and makes nothing.
///
/// # Errors
/// Kafka's, when it does not answer in this time.
pub async fn is_there(config: &Config, topic: &str, limit: Duration) -> Result<bool, Error> {
    let reader = config
        .broker
        .reader(&producer::client(config)?)
        .map_err(kafka("setting up a client to look for a topic"))?;
    let topic = topic.to_owned();
    let asked = tokio::task::spawn_blocking(move || reader.fetch_metadata(Some(&topic), limit));
    let metadata = asked
        .await
        .map_err(|panic| Error::TaskEnded(panic.to_string()))?
        .map_err(kafka("looking for a topic"))?;
    Ok(metadata.topics().iter().any(|topic| !topic.partitions().is_empty()))
}
