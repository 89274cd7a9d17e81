//! The two tables that the same events are written to: ours, and one as Debezium's outbox event router wants it, with a
//! column for every header.

use std::sync::LazyLock;

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::event::{Event, HEADERS};

const OURS: [&str; 5] = [
    include_str!("../../../migrations/messaging/0001_outbox.sql"),
    include_str!("../../../migrations/messaging/0004_relay_privileges.sql"),
    include_str!("../../../migrations/messaging/0005_relays.sql"),
    include_str!("../../../migrations/messaging/0006_cursor_guards.sql"),
    include_str!("../../../migrations/messaging/0007_headers_as_stored.sql"),
];

/// The header that the event router makes of the event's id, by the name `id`.
const ID: &str = "ce_id";

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outbox {
    /// The relay's.
    Relay,
    /// Debezium's.
    Debezium,
}

impl Outbox {
    /// Makes the table in an empty database.
    pub(crate) async fn create(self, connection: &mut PgConnection) -> sqlx::Result<()> {
        match self {
            Self::Relay => {
                for migration in OURS {
                    connection.execute(migration).await?;
                }
            }
            Self::Debezium => {
                connection.execute(AssertSqlSafe(debezium_table())).await?;
            }
        }
        Ok(())
    }

    /// Appends the events in one statement, as the services do.
    pub(crate) async fn append(
        self,
        connection: &mut PgConnection,
        topic: &str,
        events: &[Event],
    ) -> sqlx::Result<()> {
        match self {
            Self::Relay => append_ours(connection, topic, events).await,
            Self::Debezium => append_debezium(connection, topic, events).await,
        }
    }
}

async fn append_ours(
    connection: &mut PgConnection,
    topic: &str,
    events: &[Event],
) -> sqlx::Result<()> {
    let headers: Vec<String> = events.iter().map(Event::headers_json).collect();
    sqlx::query(
        "insert into messaging.outbox (topic, event_id, key, payload, headers)
         select $1, event_id, key, payload, headers::json
         from unnest($2::uuid[], $3::text[], $4::bytea[], $5::text[])
             with ordinality as event (event_id, key, payload, headers, position)
         order by position",
    )
    .bind(topic)
    .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.key.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.payload.as_slice()).collect::<Vec<_>>())
    .bind(headers)
    .execute(connection)
    .await?;
    Ok(())
}

async fn append_debezium(
    connection: &mut PgConnection,
    topic: &str,
    events: &[Event],
) -> sqlx::Result<()> {
    static STATEMENT: LazyLock<String> = LazyLock::new(debezium_insert);
    let mut insert = sqlx::query(AssertSqlSafe(STATEMENT.as_str()))
        .bind(topic)
        .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.key.as_str()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.payload.as_slice()).collect::<Vec<_>>());
    for (index, _) in columns() {
        insert = insert
            .bind(events.iter().map(|event| event.headers[index].as_str()).collect::<Vec<_>>());
    }
    insert.execute(connection).await?;
    Ok(())
}

/// The headers that are columns, with their places.
fn columns() -> impl Iterator<Item = (usize, String)> {
    let named = HEADERS.iter().enumerate().filter(|(_, name)| **name != ID);
    named.map(|(index, name)| (index, name.replace('-', "_")))
}

fn debezium_table() -> String {
    let headers: String =
        columns().map(|(_, column)| format!(", {column} text not null")).collect();
    format!(
        "create table outbox (
             event_id uuid not null primary key,
             topic text not null,
             key text not null,
             payload bytea
             {headers}
         );
         create publication bench for table outbox with (publish = 'insert')"
    )
}

fn debezium_insert() -> String {
    let headers: String = columns().map(|(_, column)| format!(", {column}")).collect();
    let arrays: String =
        (5..5 + columns().count()).map(|index| format!(", ${index}::text[]")).collect();
    format!(
        "insert into outbox (topic, event_id, key, payload{headers})
         select $1, event_id, key, payload{headers}
         from unnest($2::uuid[], $3::text[], $4::bytea[]{arrays})
             with ordinality as event (event_id, key, payload{headers}, position)
         order by position"
    )
}
