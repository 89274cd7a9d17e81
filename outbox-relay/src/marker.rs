//! The notes of exactly-once mode: how far a relay had come, in the same Kafka transaction as the events up to there. A
//! successor reads the last one of its predecessor after fencing it, and begins where that one really stood.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};
use serde::{Deserialize, Serialize};

use crate::{
    Config, Error,
    broker::{Broker, Quiet},
    cluster::Cluster,
    cursor::{Cursor, Lane, Within},
    error::kafka,
    producer,
    shards::Shards,
    topic,
};

/// How long reading the notes may take: as long as a relay that died needs to be timed out by Kafka, and more.
const PATIENCE: Duration = Duration::from_secs(30);

/// A note.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Marker {
    /// In which database of which cluster the snapshots mean something.
    system_identifier: i64,
    timeline: i32,
    database: i64,
    /// Where the shards stood when the transaction ended.
    lanes: Vec<Position>,
    /// Rows that were parked instead of sent on the way there.
    parked: Vec<i64>,
    /// Parked rows that went out in the transaction.
    redriven: Vec<Redriven>,
}

/// A parked row that went out, and how often the cursor of its shard had been moved by hand: after one more move the row
/// may have been parked anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// The row.
    pub seq: i64,
    /// How often the cursor had been moved.
    pub moves: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Position {
    shards: i64,
    /// How often these cursors had been moved by hand.
    moves: i64,
    acked: String,
    target: Option<String>,
    sent_seq: Option<i64>,
}

/// How often the cursors of some shards have been moved by hand.
pub type Moves = Vec<(Shards, i64)>;

impl Marker {
    /// A note that the shards stand there, and that these rows were parked on the way.
    pub fn at(cluster: &Cluster, lanes: &[Lane], moves: &Moves, parked: &[i64]) -> Self {
        let position = |lane: &Lane, shards: Shards, moves: i64| Position {
            shards: shards.mask(),
            moves,
            acked: lane.cursor.acked.as_str().to_owned(),
            target: lane.cursor.within.as_ref().map(|within| within.target.as_str().to_owned()),
            sent_seq: lane.cursor.within.as_ref().map(|within| within.sent_seq),
        };
        let lanes = lanes.iter().flat_map(|lane| {
            let parts = moves.iter().map(|(shards, moves)| (lane.shards.common(*shards), *moves));
            parts
                .filter(|(shards, _)| !shards.is_empty())
                .map(|(shards, moves)| position(lane, shards, moves))
        });
        Self { lanes: lanes.collect(), parked: parked.to_vec(), ..Self::of(cluster) }
    }

    /// A note that these parked rows went out.
    pub fn redriven(cluster: &Cluster, rows: Vec<Redriven>) -> Self {
        Self { redriven: rows, ..Self::of(cluster) }
    }

    fn of(cluster: &Cluster) -> Self {
        let Cluster { system_identifier, timeline, database, .. } = *cluster;
        Self {
            system_identifier,
            timeline,
            database,
            lanes: Vec::new(),
            parked: Vec::new(),
            redriven: Vec::new(),
        }
    }

    /// The note as Kafka keeps it.
    ///
    /// # Errors
    /// Never for a note of ours.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self).map_err(|error| Error::Config(format!("a note: {error}")))
    }

    /// Where a shard stood whose cursor has been moved by hand so often; None unless the note is of this very database and
    /// timeline, where its snapshots mean the same.
    pub fn position(&self, cluster: &Cluster, shard: Shards, moves: i64) -> Option<Cursor> {
        if !self.is_of(cluster) {
            return None;
        }
        let found = self.lanes.iter().find(|position| {
            shard.is_within(Shards::from_mask(position.shards)) && position.moves == moves
        })?;
        let within = found
            .target
            .clone()
            .zip(found.sent_seq)
            .map(|(target, sent_seq)| Within { target: target.into(), sent_seq });
        Some(Cursor { acked: found.acked.clone().into(), within })
    }

    /// Rows that were parked on the way to the positions.
    pub fn parked(&self) -> &[i64] {
        &self.parked
    }

    /// Parked rows that are out already.
    pub fn gone(&self, cluster: &Cluster) -> &[Redriven] {
        if self.is_of(cluster) { &self.redriven } else { &[] }
    }

    fn is_of(&self, cluster: &Cluster) -> bool {
        (self.system_identifier, self.timeline, self.database)
            == (cluster.system_identifier, cluster.timeline, cluster.database)
    }
}

/// Makes the topic of the notes if it is missing: one partition, of which Kafka keeps the last note per key.
///
/// # Errors
/// Kafka's; it says how to make the topic by hand where the relay may not.
pub async fn make_topic(config: &Config) -> Result<(), Error> {
    // A relay that may not make it may still use it.
    if topic::is_there(config, &config.markers_topic, PATIENCE).await? {
        return Ok(());
    }
    let admin: AdminClient<Quiet> = producer::client(config)?
        .create_with_context(config.broker.context())
        .map_err(kafka("setting up a client for the topic of the notes"))?;
    let topic = NewTopic::new(&config.markers_topic, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        .set("segment.bytes", "16777216")
        .set("min.cleanable.dirty.ratio", "0.1");
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let made = admin
        .create_topics([&topic], &options)
        .await
        .map_err(kafka("making the topic of the notes (--markers-topic)"))?;
    match made.into_iter().next() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
            let source = KafkaError::AdminOp(code);
            Err(kafka("making the topic of the notes: one partition, cleanup.policy=compact")(
                source,
            ))
        }
        _ => Ok(()),
    }
}

/// The last note under each of these keys, once everything that is in the topic now is decided. Nobody may be adding any
/// more under these: fence them first.
///
/// # Errors
/// Kafka's, and [`Error::Stalled`] while somebody else's transaction stays open.
pub async fn read(config: &Config, keys: Vec<String>) -> Result<HashMap<String, Marker>, Error> {
    let (readers, topic) = (Readers::new(config)?, config.markers_topic.clone());
    tokio::task::spawn_blocking(move || read_all(&readers, &topic, &keys))
        .await
        .map_err(|panic| Error::TaskEnded(panic.to_string()))?
}

fn read_all(
    readers: &Readers,
    topic: &str,
    keys: &[String],
) -> Result<HashMap<String, Marker>, Error> {
    let reading = || kafka("reading the notes");
    let deadline = Instant::now() + PATIENCE;
    let (_, end) =
        readers.open("read_uncommitted")?.fetch_watermarks(topic, 0, PATIENCE).map_err(reading())?;
    let consumer = readers.open("read_committed")?;
    // Beyond the last stable offset there may be notes that are not decided yet.
    while consumer.fetch_watermarks(topic, 0, PATIENCE).map_err(reading())?.1 < end {
        if Instant::now() > deadline {
            return Err(Error::Stalled(PATIENCE));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut start = TopicPartitionList::new();
    start.add_partition_offset(topic, 0, Offset::Beginning).map_err(reading())?;
    consumer.assign(&start).map_err(reading())?;
    let mut notes = HashMap::new();
    while Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(notes),
            // The reader commits no offsets, so it needs no right to its group; the client asks all the same.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::GroupAuthorizationFailed,
            ))) => {}
            Some(Err(error)) => return Err(reading()(error)),
            // Where others go on noting, the end of the topic is never reached.
            Some(Ok(message)) if message.offset() >= end => return Ok(notes),
            Some(Ok(message)) => {
                let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
                if keys.contains(&key) {
                    match message.payload().map(serde_json::from_slice) {
                        Some(Ok(marker)) => notes.insert(key, marker),
                        Some(Err(_)) | None => notes.remove(&key),
                    };
                }
            }
        }
    }
    Err(Error::Stalled(PATIENCE))
}

/// Opens readers of the notes.
#[derive(Debug)]
struct Readers {
    settings: ClientConfig,
    broker: Broker,
}

impl Readers {
    fn new(config: &Config) -> Result<Self, Error> {
        let mut settings = producer::client(config)?;
        settings
            .set("group.id", "outbox-relay")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest");
        Ok(Self { settings, broker: config.broker.clone() })
    }

    fn open(&self, isolation: &str) -> Result<BaseConsumer<Quiet>, Error> {
        let mut settings = self.settings.clone();
        settings.set("isolation.level", isolation);
        self.broker.reader(&settings).map_err(kafka("setting up a reader of the notes"))
    }
}
