//! What has to exist before the services run: databases, roles, topics. Doing it again changes nothing.

use std::time::Duration;

use proto::event::{PARTITIONS, TOPICS};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

use crate::error::{Error, Result};
use crate::postgres;
use crate::service::{OPERATOR_ROLE, RELAY_ROLE, SERVICES};

/// Makes a database and a login role per service, and the roles of the relay and of those who run its verbs: the services'
/// migrations grant to both.
pub(crate) async fn databases(postgres_port: u16) -> Result<()> {
    let failed = |action: String| move |source| Error::Postgres { action, source };
    let mut connection = postgres::superuser(postgres_port)
        .connect()
        .await
        .map_err(failed("connect to Postgres as its superuser".to_owned()))?;
    let services = SERVICES.map(|part| part.name());
    for role in services.iter().chain([&RELAY_ROLE, &OPERATOR_ROLE]) {
        let create = format!("create role {role} login");
        unless_exists(&mut connection, "select from pg_roles where rolname = $1", role, create)
            .await
            .map_err(failed(format!("create the role {role}")))?;
    }
    for database in services {
        let create = format!("create database {database} owner {database}");
        unless_exists(
            &mut connection,
            "select from pg_database where datname = $1",
            database,
            create,
        )
        .await
        .map_err(failed(format!("create the database {database}")))?;
    }
    connection.close().await.map_err(failed("leave Postgres".to_owned()))
}

async fn unless_exists(
    connection: &mut PgConnection,
    lookup: &'static str,
    name: &str,
    create: String,
) -> Result<(), sqlx::Error> {
    if sqlx::query(lookup).bind(name).fetch_optional(&mut *connection).await?.is_none() {
        // The names are our own constants.
        sqlx::query(AssertSqlSafe(create)).execute(connection).await?;
    }
    Ok(())
}

/// Makes the topics of the event table; those that exist stay as they are.
pub(crate) async fn topics(bootstrap: &str) -> Result<()> {
    let failed = |action: &str| {
        let action = format!("{action} at {bootstrap}");
        move |source| Error::Kafka { action, source }
    };
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .map_err(failed("talk to Kafka"))?;
    // -1: as many replicas as the broker's own setting says.
    let replicas = -1;
    let wanted = TOPICS.map(|topic| {
        let policy = if topic.compacted { "compact" } else { "delete" };
        NewTopic::new(topic.name, PARTITIONS, TopicReplication::Fixed(replicas))
            .set("cleanup.policy", policy)
    });
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let answers =
        admin.create_topics(&wanted, &options).await.map_err(failed("create the topics"))?;
    for answer in answers {
        match answer {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                let source = rdkafka::error::KafkaError::AdminOp(code);
                return Err(failed(&format!("create the topic {topic}"))(source));
            }
        }
    }
    Ok(())
}
