//! Kafka: whether its brokers answer, and every topic that events wait for is there and takes them.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    consumer::{BaseConsumer, Consumer},
};
use sqlx::{AssertSqlSafe, PgConnection};

use super::Check;
use crate::{
    broker::{Broker, OWN_BUSINESS, Quiet},
    config::Source,
    error::kafka,
    verbs::error::{Error, doing},
};

/// How long the brokers may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How far back topics are looked for in the outbox.
const LOOKED_AT: i64 = 100_000;
/// What the table lets in, with room for a key and headers.
const LARGEST: i64 = 900_000;

/// Whether events could be sent now.
pub(crate) async fn is_ready(
    connection: &mut PgConnection,
    source: &Source,
    servers: &str,
    broker: &Broker,
) -> Result<Check, Error> {
    broker.check()?;
    let topics = topics(connection, source).await?;
    let mut settings = broker.client(servers)?;
    settings.set("client.id", "outbox-relay doctor");
    let reader = broker.reader(&settings).map_err(kafka("setting up a client"))?;
    let met = tokio::task::spawn_blocking(move || meet(&reader))
        .await
        .map_err(|panic| Error::Refused(panic.to_string()))?;
    let (brokers, known) = match met {
        Ok(met) => met,
        Err(error) => {
            return Ok(Check::fail(
                "kafka",
                format!(
                    "no broker answers at {servers} ({error}): does Kafka run, and are --kafka and how to log in right?"
                ),
            ));
        }
    };
    let missing: Vec<&str> = topics
        .iter()
        .map(String::as_str)
        .filter(|topic| !known.iter().any(|known| known == topic))
        .collect();
    if !missing.is_empty() {
        return Ok(Check::fail(
            "kafka",
            format!("events wait for topics that are not there: create {}", missing.join(", ")),
        ));
    }
    let small = small(broker, &settings, &topics).await;
    Ok(if small.is_empty() {
        Check::ok("kafka", format!("brokers: {brokers}; every topic that events wait for is there"))
    } else {
        Check::warn(
            "kafka",
            format!(
                "the outbox lets {LARGEST} bytes in, but max.message.bytes is {}: what is larger will be parked",
                small.join(", ")
            ),
        )
    })
}

/// How many brokers there are, and which topics the relay may see; or why there is no answer.
fn meet(reader: &BaseConsumer<Quiet>) -> Result<(usize, Vec<String>), String> {
    match reader.fetch_metadata(None, PATIENCE) {
        Ok(metadata) => {
            let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
            Ok((metadata.brokers().len(), names.collect()))
        }
        Err(error) => {
            // What the client reports on its own is handed out only to who polls.
            while reader.poll(OWN_BUSINESS).is_some() {}
            let trouble = reader.context().trouble.error("looking for a broker");
            Err(trouble.map_or_else(|| error.to_string(), |error| error.to_string()))
        }
    }
}

/// The topics of the newest rows, and of all that are parked.
async fn topics(connection: &mut PgConnection, source: &Source) -> Result<Vec<String>, Error> {
    let table = &source.table;
    let statement = format!(
        "select distinct topic
         from (
             select topic
             from (select {topic} as topic from {name} order by {seq} desc limit $1) newest
             union all
             select topic from messaging.outbox_parked
         ) topics
         order by topic",
        topic = table.topic,
        name = table.name,
        seq = table.seq,
    );
    sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(LOOKED_AT)
        .fetch_all(connection)
        .await
        .map_err(doing("reading the topics"))
}

/// The topics that refuse an event which the outbox lets in; none where nobody may ask.
async fn small(broker: &Broker, settings: &ClientConfig, topics: &[String]) -> Vec<String> {
    // The client's library logs nobody in by a token who wants to administrate.
    if broker.token().is_some() {
        return Vec::new();
    }
    let client: AdminClient<Quiet> = match settings.create_with_context(broker.context()) {
        Ok(client) => client,
        Err(_) => return Vec::new(),
    };
    let asked: Vec<ResourceSpecifier<'_>> =
        topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let Ok(answers) = client.describe_configs(&asked, &options).await else { return Vec::new() };
    let limit = |answer: &rdkafka::admin::ConfigResource| {
        let value = answer.get("max.message.bytes")?.value.as_ref()?;
        value.parse::<i64>().ok()
    };
    topics
        .iter()
        .zip(answers)
        .filter_map(|(topic, answer)| Some((topic, limit(&answer.ok()?)?)))
        .filter(|(_, limit)| *limit < LARGEST)
        .map(|(topic, limit)| format!("{limit} for {topic}"))
        .collect()
}
