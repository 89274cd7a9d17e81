//! A database of its own for every test, with the outbox in it; the relay comes as the role that the migration grants.

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions,
};
use uuid::Uuid;

const OUTBOX: &str = include_str!("../../../migrations/messaging/0001_outbox.sql");
const PRIVILEGES: &str = include_str!("../../../migrations/messaging/0004_relay_privileges.sql");
const RELAYS: &str = include_str!("../../../migrations/messaging/0005_relays.sql");
const GUARDS: &str = include_str!("../../../migrations/messaging/0006_cursor_guards.sql");
const HEADERS: &str = include_str!("../../../migrations/messaging/0007_headers_as_stored.sql");

#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) name: String,
    server: PgConnectOptions,
}

impl Database {
    pub(crate) async fn fresh() -> Self {
        Self::on(&crate::required("SETTLE_TEST_POSTGRES")).await
    }

    /// On the server of that superuser's URL.
    pub(crate) async fn on(server: &str) -> Self {
        let database = Self::with_binary_headers(server).await;
        database.keep_headers_as_stored().await;
        database
    }

    /// As it was while the headers were `jsonb`.
    pub(crate) async fn with_binary_headers(server: &str) -> Self {
        let server: PgConnectOptions = server.parse().unwrap();
        let name = format!("relay_{}", Uuid::now_v7().simple());
        let mut admin = server.clone().connect().await.unwrap();
        // The role belongs to the whole cluster: another test may have been first.
        for role in ["outbox_relay", "outbox_operator", "outbox_writer"] {
            let create = format!(
                "do $$ begin create role {role} login;
                 exception when duplicate_object or unique_violation then null; end $$"
            );
            admin.execute(AssertSqlSafe(create)).await.unwrap();
        }
        admin.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
        admin.close().await.unwrap();
        let database = Self { name, server };
        let mut owner = database.connect().await;
        owner.execute(OUTBOX).await.unwrap();
        owner.execute(PRIVILEGES).await.unwrap();
        owner.execute(RELAYS).await.unwrap();
        owner.execute(GUARDS).await.unwrap();
        owner
            .execute(
                "create table aggregate (key text primary key, version bigint not null default 0)",
            )
            .await
            .unwrap();
        owner.close().await.unwrap();
        database
    }

    /// Makes `json` of the headers, in a transaction as a service's start does.
    pub(crate) async fn keep_headers_as_stored(&self) {
        let mut owner = self.connect().await;
        let mut transaction = owner.begin().await.unwrap();
        transaction.execute(HEADERS).await.unwrap();
        transaction.commit().await.unwrap();
    }

    /// As a service connects: the owner of the tables.
    pub(crate) async fn connect(&self) -> PgConnection {
        self.server.clone().database(&self.name).connect().await.unwrap()
    }

    /// The same database on a copy of the server.
    pub(crate) fn on_port(&self, port: u16) -> Self {
        Self { name: self.name.clone(), server: self.server.clone().port(port) }
    }

    /// Whether the server takes connections.
    pub(crate) async fn answers(&self) -> bool {
        self.server.clone().database(&self.name).connect().await.is_ok()
    }

    /// The whole server's URL, as its superuser.
    pub(crate) fn server_url(&self) -> String {
        let (user, host, port) =
            (self.server.get_username(), self.server.get_host(), self.server.get_port());
        format!("postgres://{user}@{host}:{port}/postgres")
    }

    /// As the relay is told to connect.
    pub(crate) fn relay_url(&self) -> String {
        let (host, port) = (self.server.get_host(), self.server.get_port());
        format!("postgres://outbox_relay@{host}:{port}/{}", self.name)
    }

    /// How many rows no cursor has passed.
    pub(crate) async fn unsent(&self) -> i64 {
        let mut connection = self.connect().await;
        let unsent = sqlx::query_scalar(
            "select count(*)
             from messaging.outbox row
             join messaging.outbox_standing cursor using (shard)
             where not pg_visible_in_snapshot(row.xid, cursor.acked)
               and not coalesce(pg_visible_in_snapshot(row.xid, cursor.target) and row.seq <= cursor.sent_seq, false)",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        connection.close().await.unwrap();
        unsent
    }

    /// How many shards each relay has, in the order of their names; what nobody has does not count.
    pub(crate) async fn shares(&self) -> Vec<i64> {
        sqlx::query_scalar(
            "select count(*)
             from messaging.outbox_relay
             join messaging.outbox_cursor using (owner)
             group by owner
             order by owner",
        )
        .fetch_all(&mut self.connect().await)
        .await
        .unwrap()
    }

    /// The names under which relays own shards.
    pub(crate) async fn owners(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select distinct owner from messaging.outbox_cursor where owner is not null order by 1",
        )
        .fetch_all(&mut self.connect().await)
        .await
        .unwrap()
    }

    /// Waits until that is how the shards are shared.
    pub(crate) async fn is_shared(&self, shares: &[i64]) {
        let sentence = format!("the shards are shared {shares:?}");
        crate::eventually(&sentence, async || self.shares().await == shares).await;
    }

    /// How many rows are set aside.
    pub(crate) async fn parked(&self) -> i64 {
        sqlx::query_scalar("select count(*) from messaging.outbox_parked")
            .fetch_one(&mut self.connect().await)
            .await
            .unwrap()
    }

    /// Waits until the cursor has passed some rows more than now.
    pub(crate) async fn progress(&self, rows: i64) {
        let before = self.shipped().await;
        crate::eventually("the relay makes progress", async || {
            self.shipped().await >= before + rows
        })
        .await;
    }

    async fn shipped(&self) -> i64 {
        let unsent = self.unsent().await;
        let last: i64 = sqlx::query_scalar("select count(*) from messaging.outbox")
            .fetch_one(&mut self.connect().await)
            .await
            .unwrap();
        last - unsent
    }

    pub(crate) async fn drained(&self) {
        crate::eventually("every row is shipped", async || self.unsent().await == 0).await;
    }
}

/// Appends one event as a service does.
pub(crate) async fn append(
    connection: &mut PgConnection,
    topic: &str,
    key: &str,
    payload: Option<&[u8]>,
) {
    sqlx::query(
        "insert into messaging.outbox (event_id, topic, key, payload) values ($1, $2, $3, $4)",
    )
    .bind(Uuid::now_v7())
    .bind(topic)
    .bind(key)
    .bind(payload)
    .execute(connection)
    .await
    .unwrap();
}

/// Appends many events in one statement; keys k0..k96 in turn, payloads their numbers from `first` on.
pub(crate) async fn append_many(
    connection: &mut PgConnection,
    topic: &str,
    first: i64,
    count: i64,
) {
    sqlx::query(
        "insert into messaging.outbox (event_id, topic, key, headers, payload)
         select gen_random_uuid(), $1, 'k' || n % 97, '{\"ce_type\": \"test\"}', convert_to(n::text, 'utf8')
         from generate_series($2, $2 + $3 - 1) n",
    )
    .bind(topic)
    .bind(first)
    .bind(count)
    .execute(connection)
    .await
    .unwrap();
}
