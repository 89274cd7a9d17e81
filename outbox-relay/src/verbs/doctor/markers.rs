//! The notes of exactly-once mode: whether their topic keeps the last one of every key, or can be made.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaRespErr,
};

use super::Check;
use crate::{
    broker::{Broker, Quiet},
    cli::Doctor,
    error::kafka,
    verbs::error::Error,
};

/// How long the brokers may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How the topic is made by hand.
const BY_HAND: &str = "make it, with one partition and cleanup.policy=compact";

/// Whether a successor will find the notes of its predecessor.
pub(crate) async fn are_kept(servers: &str, flags: &Doctor) -> Result<Check, Error> {
    let (broker, topic) = (&flags.broker, flags.markers_topic.as_str());
    broker.check()?;
    let mut settings = broker.client(servers)?;
    settings.set("client.id", "outbox-relay doctor");
    let reader = broker.reader(&settings).map_err(kafka("setting up a client"))?;
    let name = topic.to_owned();
    let partitions = tokio::task::spawn_blocking(move || partitions(&reader, &name))
        .await
        .map_err(|panic| Error::Refused(panic.to_string()))?;
    Ok(match partitions {
        Err(error) => fail(format!("topic {topic} cannot be looked at: {error}")),
        Ok(0) => can_be_made(broker, &settings, topic).await?,
        Ok(1) => is_compacted(broker, &settings, topic).await?,
        Ok(more) => Check::warn(
            "markers",
            format!(
                "topic {topic} has {more} partitions: the notes are in the first, and one is enough"
            ),
        ),
    })
}

/// How many partitions the topic has; none if it is not there.
fn partitions(reader: &BaseConsumer<Quiet>, topic: &str) -> Result<usize, KafkaError> {
    let metadata = reader.fetch_metadata(Some(topic), PATIENCE)?;
    let Some(found) = metadata.topics().first() else { return Ok(0) };
    match found.error() {
        None | Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => {
            Ok(found.partitions().len())
        }
        Some(error) => Err(KafkaError::MetadataFetch(error.into())),
    }
}

async fn can_be_made(
    broker: &Broker,
    settings: &ClientConfig,
    topic: &str,
) -> Result<Check, Error> {
    let Some(admin) = admin(broker, settings)? else {
        return Ok(fail(format!(
            "topic {topic} is not there, and the relay cannot make it when it logs in by a token: {BY_HAND}"
        )));
    };
    let wanted =
        NewTopic::new(topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).validate_only(true);
    let made = admin
        .create_topics([&wanted], &options)
        .await
        .map_err(kafka("asking whether the topic of the notes can be made"))?;
    Ok(match made.into_iter().next() {
        Some(Err((_, code))) => fail(format!(
            "topic {topic} is not there, and the relay cannot make it ({code}): {BY_HAND}, or let the relay make it"
        )),
        Some(Ok(_)) | None => {
            Check::ok("markers", format!("topic {topic} is not there yet: the relay makes it"))
        }
    })
}

async fn is_compacted(
    broker: &Broker,
    settings: &ClientConfig,
    topic: &str,
) -> Result<Check, Error> {
    let policy = policy(broker, settings, topic).await?;
    Ok(match policy.as_deref() {
        Some("compact") => {
            Check::ok("markers", format!("topic {topic} keeps the last note of every relay"))
        }
        Some(policy) => fail(format!(
            "topic {topic} has cleanup.policy={policy}: notes that are gone let events repeat; set it to compact"
        )),
        None => Check::warn(
            "markers",
            format!(
                "topic {topic} is there, but its settings may not be looked at: see that cleanup.policy is compact"
            ),
        ),
    })
}

/// What the topic's cleanup.policy is; None where nobody may ask.
async fn policy(
    broker: &Broker,
    settings: &ClientConfig,
    topic: &str,
) -> Result<Option<String>, Error> {
    let Some(admin) = admin(broker, settings)? else { return Ok(None) };
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let described = admin
        .describe_configs([&ResourceSpecifier::Topic(topic)], &options)
        .await
        .map_err(kafka("looking at the topic of the notes"))?;
    let described = described.into_iter().next().and_then(Result::ok);
    Ok(described.and_then(|settings| settings.get("cleanup.policy")?.value.clone()))
}

/// None with a token: the client's library logs nobody in by one who wants to administrate.
fn admin(broker: &Broker, settings: &ClientConfig) -> Result<Option<AdminClient<Quiet>>, Error> {
    if broker.token().is_some() {
        return Ok(None);
    }
    let admin = settings.create_with_context(broker.context());
    Ok(Some(admin.map_err(kafka("setting up a client"))?))
}

fn fail(says: String) -> Check {
    Check::fail("markers", says)
}
