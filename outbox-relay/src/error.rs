//! What can go wrong, and the one decision each error asks for.

use std::{path::PathBuf, time::Duration};

use rdkafka::error::KafkaError;

use crate::{
    producer::Failure,
    verdict::{self, Reason, Verdict},
};

/// Why the relay, or the shipping of one of its databases, stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("configuration: {0}")]
    Config(String),
    /// The metrics could not be set up.
    #[error("setting up the metrics")]
    Metrics(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Spans or metrics cannot be sent to the collector.
    #[error("setting up what goes to the collector")]
    Collector(#[from] otlp::Error),
    /// The address for metrics and health is taken or not ours.
    #[error("listening on {address}")]
    Listen {
        /// Where the relay tried to listen.
        address: std::net::SocketAddr,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// The signals that end the process could not be listened to.
    #[error("waiting for signals")]
    Signals(#[source] std::io::Error),
    /// A task that should run as long as the process does has ended.
    #[error("the task {0} has ended by itself")]
    TaskEnded(String),
    /// Not everything was acknowledged or recorded within the drain limit.
    #[error("stopped after {0:?} with events still on their way: they will be sent again")]
    NotDrained(Duration),
    /// Postgres refused a statement or is not there.
    #[error("Postgres: {action}")]
    Postgres {
        /// What the relay was doing.
        action: &'static str,
        /// What Postgres or the connection said.
        #[source]
        source: sqlx::Error,
    },
    /// Postgres did not answer in time.
    #[error("Postgres: {0}: no answer in time")]
    PostgresSilent(&'static str),
    /// A session that hoards numbers breaks the order within a key.
    #[error(
        "sequence messaging.outbox_seq has cache {0}: events of one key would be sent out of order; \
         run `alter sequence messaging.outbox_seq cache 1`"
    )]
    SequenceCached(i64),
    /// A table that is not ours lacks something, so that its events would be lost, or sent out of order.
    #[error("{table} cannot be shipped: {faults}; `outbox-relay prepare` prints what prepares it")]
    Unfit {
        /// Which.
        table: String,
        /// Everything that is wrong with it.
        faults: String,
    },
    /// The cursor was written on another cluster.
    #[error(
        "the cursor belongs to cluster {recorded}, this one is {actual}: a restored copy? Start once with \
         --adopt-cluster to send again what its ring holds"
    )]
    AnotherCluster {
        /// The system identifier in the cursor.
        recorded: i64,
        /// The system identifier of the cluster that answered.
        actual: i64,
    },
    /// The cursor counts transactions that have yet to happen here.
    #[error(
        "the cursor has seen transactions below {seen}, and this cluster has only come to {reached}: a restored copy? \
         Start once with --adopt-cluster to send again what its ring holds"
    )]
    CursorAhead {
        /// The first transaction that the cursor has not seen.
        seen: String,
        /// The first transaction that has not ended here.
        reached: String,
    },
    /// Another relay holds the lease, or this one's has run out.
    #[error("the lease is lost: {0}")]
    LeaseLost(&'static str),
    /// Kafka or its client could not be reached or set up.
    #[error("Kafka: {action}")]
    Kafka {
        /// What the relay was doing.
        action: &'static str,
        /// What the client said.
        #[source]
        source: KafkaError,
    },
    /// Kafka's client cannot connect or log in, or has lost its connections.
    #[error("Kafka: {action}: {reason}")]
    Connection {
        /// What the relay was doing.
        action: &'static str,
        /// What the client said.
        reason: String,
        /// Whether somebody has to mend that.
        verdict: Verdict,
    },
    /// A file that a connection needs cannot be used.
    #[error("the file {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
    /// Kafka's client neither delivers nor gives up.
    #[error("Kafka has not acknowledged the oldest event for {0:?}")]
    Stalled(Duration),
    /// Kafka's client refused an event before it sent anything of it.
    #[error("event {seq} for topic {topic} is refused: {}", reason.label())]
    Refused {
        /// The row's sequence number.
        seq: i64,
        /// Where it was going.
        topic: String,
        /// Its key.
        key: String,
        /// Why.
        reason: Reason,
    },
    /// Kafka's client does not know a topic, and Kafka does not say that there is none.
    #[error("topic {0} is not known yet")]
    TopicUnsure(String),
    /// An event could not be delivered.
    #[error("event {seq} for topic {} was not delivered ({})", failure.topic, failure.code)]
    Delivery {
        /// The row's sequence number.
        seq: i64,
        /// What Kafka said of it.
        failure: Failure,
        /// Whether no other event was on its way, which Kafka may have refused it together with.
        alone: bool,
    },
}

impl Error {
    /// Whether only the producer has to start again; the lease and the connections are fine.
    pub(crate) fn is_kafkas(&self) -> bool {
        matches!(
            self,
            Self::Kafka { .. }
                | Self::Connection { .. }
                | Self::File { .. }
                | Self::Delivery { .. }
                | Self::Refused { .. }
                | Self::TopicUnsure(_)
                | Self::Stalled(_)
        )
    }

    /// What is to be done about it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Delivery { failure, .. } => verdict::of_kafka(failure.code),
            Self::Refused { reason, .. } => Verdict::Park(*reason),
            Self::Connection { verdict, .. } => *verdict,
            Self::Kafka { source: KafkaError::ClientCreation(_), .. } => Verdict::Stop,
            Self::Kafka { source, .. } => {
                source.rdkafka_error_code().map_or(Verdict::Retry, verdict::of_kafka)
            }
            Self::Postgres { source, .. } => verdict::of_postgres(source),
            Self::Stalled(_)
            | Self::TopicUnsure(_)
            | Self::PostgresSilent(_)
            | Self::LeaseLost(_)
            | Self::NotDrained(_) => Verdict::Retry,
            Self::File { .. }
            | Self::Config(_)
            | Self::Metrics(_)
            | Self::Collector(_)
            | Self::Listen { .. }
            | Self::Signals(_)
            | Self::TaskEnded(_)
            | Self::SequenceCached(_)
            | Self::Unfit { .. }
            | Self::AnotherCluster { .. }
            | Self::CursorAhead { .. } => Verdict::Stop,
        }
    }

    /// The topic that an event is refused for, because it is not there.
    pub(crate) fn unknown_topic(&self) -> Option<&str> {
        let topic = match self {
            Self::Delivery { failure, .. } => &failure.topic,
            Self::Refused { topic, .. } => topic,
            _ => return None,
        };
        (self.verdict() == Verdict::Park(Reason::UnknownTopic)).then_some(topic)
    }

    /// The action and the reasons beneath it, in one line.
    pub(crate) fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(reason) = cause {
            line.push_str(": ");
            line.push_str(&reason.to_string());
            cause = reason.source();
        }
        line
    }
}

/// Turns an error of sqlx into one that names the action.
pub(crate) fn postgres(action: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Postgres { action, source }
}

/// Turns an error of the Kafka client into one that names the action.
pub(crate) fn kafka(action: &'static str) -> impl FnOnce(KafkaError) -> Error {
    move |source| Error::Kafka { action, source }
}
