//! A topic of its own for every measurement. How much has arrived is told by the ends of its partitions, so that no
//! consumer takes processor time from what is measured.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::{BorrowedMessage, Headers as _},
};
use tokio::task::block_in_place;
use uuid::Uuid;

use crate::{
    event::{self, Event, HEADERS},
    settings::Settings,
};

/// How many partitions a topic has.
pub(crate) const PARTITIONS: i32 = 12;

/// How many events of each partition are compared with what was written.
const VERIFIED: i32 = 20;

const PATIENCE: Duration = Duration::from_secs(20);

/// One topic.
pub(crate) struct Topic {
    pub(crate) name: String,
    bootstrap: String,
    ends: BaseConsumer,
}

impl Topic {
    /// A new, empty topic.
    pub(crate) async fn fresh(settings: &Settings) -> anyhow::Result<Self> {
        let name = format!("bench-{}", Uuid::now_v7().simple());
        let new = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
        let made = admin(&settings.kafka)?.create_topics([&new], &AdminOptions::new()).await;
        for result in made.context("make a topic")? {
            result.map_err(|(topic, code)| anyhow::anyhow!("make the topic {topic}: {code}"))?;
        }
        let topic =
            Self { name, bootstrap: settings.kafka.clone(), ends: consumer(&settings.kafka)? };
        let made_at = Instant::now();
        // Kafka answers before the partitions have their leaders.
        while let Err(error) = topic.arrived() {
            ensure!(made_at.elapsed() < PATIENCE, error);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(topic)
    }

    /// How many events have arrived.
    pub(crate) fn arrived(&self) -> anyhow::Result<u64> {
        let asked = self.partitions(Offset::End)?;
        let ends = block_in_place(|| self.ends.offsets_for_times(asked, PATIENCE));
        let ends = ends.context("ask Kafka for the ends of the partitions")?;
        ends.elements().iter().try_fold(0, |sum, partition| match partition.offset() {
            Offset::Offset(end) => Ok(sum + end.unsigned_abs()),
            other => bail!("partition {} ends at {other:?}", partition.partition()),
        })
    }

    /// A consumer of everything in it, from the beginning.
    pub(crate) fn read(&self) -> anyhow::Result<BaseConsumer> {
        self.read_from(Offset::Beginning)
    }

    /// Compares the last of what has arrived with what was written: key, payload, and the headers by `named`.
    pub(crate) fn verify(
        &self,
        named: impl Fn(&'static str) -> &'static str,
    ) -> anyhow::Result<()> {
        let consumer = self.read_from(Offset::OffsetTail(VERIFIED.into()))?;
        for _ in 0..PARTITIONS * VERIFIED {
            let message =
                block_in_place(|| consumer.poll(PATIENCE)).context("nothing to verify")??;
            verify_one(&message, &named)?;
        }
        Ok(())
    }

    /// Deletes it, so that the disk is free for the next.
    pub(crate) async fn remove(self) -> anyhow::Result<()> {
        let names = [self.name.as_str()];
        admin(&self.bootstrap)?
            .delete_topics(&names, &AdminOptions::new())
            .await
            .context("delete a topic")?;
        Ok(())
    }

    fn read_from(&self, offset: Offset) -> anyhow::Result<BaseConsumer> {
        let consumer = consumer(&self.bootstrap)?;
        consumer.assign(&self.partitions(offset)?).context("assign the partitions")?;
        Ok(consumer)
    }

    fn partitions(&self, offset: Offset) -> anyhow::Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(&self.name, partition, offset)?;
        }
        Ok(list)
    }
}

fn verify_one(
    message: &BorrowedMessage<'_>,
    named: impl Fn(&'static str) -> &'static str,
) -> anyhow::Result<()> {
    let payload = message.payload().unwrap_or_default();
    let number = event::number(payload).context("the payload holds no number")?;
    let expected = Event::new(number, payload.len());
    ensure!(payload == expected.payload, "event {number} has another payload");
    ensure!(message.key() == Some(expected.key.as_bytes()), "event {number} has another key");
    let headers = message.headers().context("no headers")?;
    let names: Vec<_> = headers.iter().map(|header| header.key).collect();
    ensure!(names.len() == HEADERS.len(), "event {number} has other headers: {names:?}");
    for (name, value) in HEADERS.iter().zip(&expected.headers) {
        let name = named(name);
        let found =
            headers.iter().find(|header| header.key == name).and_then(|header| header.value);
        ensure!(
            found == Some(value.as_bytes()),
            "event {number} should have {name}: {value}, and has {:?}",
            found.map(String::from_utf8_lossy)
        );
    }
    Ok(())
}

fn admin(bootstrap: &str) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .context("set up Kafka's client")
}

fn consumer(bootstrap: &str) -> anyhow::Result<BaseConsumer> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .create()
        .context("set up Kafka's client")
}
