//! For tests of services: a database of their own on a real Postgres.
#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on should stop"
)]

use proto::event::Event;
use sqlx::{
    Connection as _, PgConnection, PgPool, Row as _,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};
use uuid::Uuid;

use crate::{
    cause::{Cause, Coordination},
    clock, database,
    envelope::{Envelope, Headers},
    inbox::Record,
    outbox::Outgoing,
    telemetry::TraceContext,
};

/// A database that is dropped by name when the next test of that name begins; its tables are up to date.
#[derive(Clone, Debug)]
pub struct Database {
    /// Connections to it.
    pub pool: PgPool,
    /// How to connect once more.
    pub options: PgConnectOptions,
}

impl Database {
    /// Creates it on the server at SETTLE_TEST_POSTGRES.
    pub async fn create(migrations: &Migrator) -> Self {
        let url = std::env::var("SETTLE_TEST_POSTGRES")
            .expect("set SETTLE_TEST_POSTGRES and SETTLE_TEST_KAFKA, or run `make test`");
        let server: PgConnectOptions = url.parse().expect("SETTLE_TEST_POSTGRES is a Postgres URL");
        let name = format!("test_{}", Uuid::now_v7().simple());
        let mut conn =
            PgConnection::connect_with(&server).await.expect("connect to SETTLE_TEST_POSTGRES");
        let create = sqlx::AssertSqlSafe(format!("create database {name}"));
        sqlx::query(create).execute(&mut conn).await.expect("create a database");
        let options = database::options(&server.database(&name), "test");
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .connect_with(options.clone())
            .await
            .expect("connect to it");
        database::migrate(&pool, migrations).await.expect("migrate it");
        Self { pool, options }
    }

    /// A connection outside the pool.
    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.expect("connect to the test's database")
    }

    /// The short types of the events in the outbox, in order.
    pub async fn emitted(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select regexp_replace(headers ->> 'ce_type', '^.*\\.', '')
             from messaging.outbox
             order by seq",
        )
        .fetch_all(&self.pool)
        .await
        .expect("read the outbox")
    }

    /// The events in the outbox as Kafka would hand them over, in order: what the other services receive.
    pub async fn outbox(&self) -> Vec<Record> {
        let rows =
            sqlx::query("select * from messaging.outbox order by seq").fetch_all(&self.pool).await;
        rows.and_then(|rows| rows.iter().map(received).collect()).expect("read the outbox")
    }

    /// The short types of the events that answer a command, in order: those that it caused, under the id of its answer.
    pub async fn answers(&self, command: &Record) -> Vec<String> {
        let command = Envelope::parse(Headers(&command.headers)).expect("headers of a command");
        let answer_id = Uuid::new_v5(&command.event_id, b"answer");
        let told = self.outbox().await.into_iter();
        let told = told.filter_map(|record| Envelope::parse(Headers(&record.headers)).ok());
        told.filter(|told| told.causation_id == Some(command.event_id))
            .filter(|told| told.event_id == answer_id)
            .map(|told| told.short_type().to_owned())
            .collect()
    }
}

fn received(row: &PgRow) -> sqlx::Result<Record> {
    let sqlx::types::Json(headers): sqlx::types::Json<HeaderTexts> = row.try_get("headers")?;
    Ok(Record {
        topic: row.try_get("topic")?,
        partition: 0,
        offset: row.try_get("seq")?,
        kafka_time: row.try_get("created_at")?,
        key: row.try_get("key")?,
        headers: headers
            .into_iter()
            .map(|(name, value)| (name, Some(value.into_bytes())))
            .collect(),
        payload: row.try_get("payload")?,
    })
}

type HeaderTexts = std::collections::BTreeMap<String, String>;

/// Messages as another service would have sent them.
#[derive(Clone, Debug)]
pub struct Sender {
    service: &'static str,
    offset: i64,
}

impl Sender {
    /// Sends as this service.
    pub fn new(service: &'static str) -> Self {
        Self { service, offset: 0 }
    }

    /// An event of an order, caused by a call of the sending service.
    pub fn event<E: Event>(&mut self, order_id: Uuid, event: &E) -> Record {
        self.caused(&self.act(order_id, Coordination::Choreography), event)
    }

    /// A command, or an event, of an order that the orchestrator drives.
    pub fn orchestrated<E: Event>(&mut self, order_id: Uuid, event: &E) -> Record {
        self.caused(&self.act(order_id, Coordination::Orchestration), event)
    }

    /// An event with the cause it is to have.
    pub fn caused<E: Event>(&mut self, cause: &Cause, event: &E) -> Record {
        self.sent(cause.emit(event).expect("encode the event"))
    }

    /// The event with which this service answers a command.
    pub fn answer<E: Event>(&mut self, command: &Record, event: &E) -> Record {
        let envelope = Envelope::parse(Headers(&command.headers)).expect("a command has headers");
        let cause = Cause::message(self.service, &envelope, clock::now());
        self.sent(cause.answer(event).expect("encode the answer"))
    }

    fn sent(&mut self, outgoing: Outgoing) -> Record {
        self.offset += 1;
        let headers: HeaderTexts =
            serde_json::from_str(&outgoing.headers).expect("headers are an object of strings");
        Record {
            topic: outgoing.topic.to_owned(),
            partition: 0,
            offset: self.offset,
            kafka_time: clock::now(),
            key: outgoing.key,
            headers: headers
                .into_iter()
                .map(|(name, value)| (name, Some(value.into_bytes())))
                .collect(),
            payload: Some(outgoing.payload),
        }
    }

    fn act(&self, order_id: Uuid, coordination: Coordination) -> Cause {
        let (id, trace) = (Uuid::now_v7(), TraceContext::random());
        Cause::local(self.service, "Test", id, trace, clock::now()).of_order(order_id, coordination)
    }
}
