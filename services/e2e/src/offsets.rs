//! The offsets of a service's consumer group: how far behind they are, and set back to the beginning, so that all that its
//! topics still hold is handed over again.

use std::time::Duration;

use anyhow::Context as _;
use local::Part;
use proto::event::{PARTITIONS, TOPICS};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};

use crate::arena::Arena;

const LIMIT: Duration = Duration::from_secs(10);

/// Sets a service's offsets back. It must not run, since a member of the group has the last word.
pub async fn to_the_beginning(arena: &Arena, part: Part) -> anyhow::Result<()> {
    let bootstrap = arena.stack.kafka_bootstrap().to_owned();
    let rewound = tokio::task::spawn_blocking(move || rewind(&bootstrap, part.name())).await?;
    rewound.with_context(|| format!("set back the offsets of {}", part.name()))
}

/// How many messages a service has not told Kafka to have handled.
pub async fn behind(arena: &Arena, part: Part) -> anyhow::Result<i64> {
    let bootstrap = arena.stack.kafka_bootstrap().to_owned();
    let counted = tokio::task::spawn_blocking(move || count(&bootstrap, part.name())).await?;
    counted.with_context(|| format!("count what {} is behind", part.name()))
}

fn count(bootstrap: &str, group: &str) -> anyhow::Result<i64> {
    let (consumer, committed) = committed(bootstrap, group)?;
    let mut behind = 0;
    for element in committed.elements() {
        // A partition without an offset is empty, or of a topic that the service does not hear.
        if let Offset::Offset(offset) = element.offset() {
            let (_, high) =
                consumer.fetch_watermarks(element.topic(), element.partition(), LIMIT)?;
            behind += high - offset;
        }
    }
    Ok(behind)
}

fn committed(bootstrap: &str, group: &str) -> anyhow::Result<(BaseConsumer, TopicPartitionList)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()?;
    let mut all = TopicPartitionList::new();
    for topic in TOPICS {
        for partition in 0..PARTITIONS {
            all.add_partition(topic.name, partition);
        }
    }
    let committed = consumer.committed_offsets(all, LIMIT)?;
    Ok((consumer, committed))
}

fn rewind(bootstrap: &str, group: &str) -> anyhow::Result<()> {
    let (consumer, committed) = committed(bootstrap, group)?;
    let mut back = TopicPartitionList::new();
    for element in committed.elements() {
        if let Offset::Offset(_) = element.offset() {
            back.add_partition_offset(element.topic(), element.partition(), Offset::Offset(0))?;
        }
    }
    anyhow::ensure!(back.count() > 0, "the group has no offsets yet");
    Ok(consumer.commit(&back, CommitMode::Sync)?)
}
