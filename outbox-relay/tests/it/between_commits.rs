//! Exactly-once mode, stopped between Kafka's commit and what follows it in Postgres, moment by moment.

use std::time::Duration;

use nix::sys::signal::Signal;
use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, Producer as _},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use sqlx::{Connection, Executor, PgConnection};

use crate::{
    database::Database,
    kafka,
    relay::{Process, Relay},
    writers::{Writers, change},
};

const EXACTLY: [&str; 11] = [
    "--exactly-once",
    "--delivery-timeout",
    "1s",
    "--lease",
    "2s",
    "--renew-every",
    "200ms",
    "--record-every",
    "1ms",
    "--transaction-timeout",
    "2s",
];

async fn committed(topic: &str) -> std::collections::BTreeMap<String, Vec<i64>> {
    kafka::by_key(&kafka::read_committed(&kafka::bootstrap(), topic).await)
}

async fn count(connection: &mut PgConnection, what: &'static str) -> i64 {
    sqlx::query_scalar(what).fetch_one(connection).await.unwrap()
}

/// Where the relays of a database note their positions.
fn markers(database: &Database) -> String {
    format!("{}.markers", database.name)
}

/// Kills a relay together with what Postgres still does for it: a statement that waits for a lock would be carried out.
async fn kill(relay: Process, connection: &mut PgConnection) {
    relay.signal(Signal::SIGKILL);
    relay.ended().await;
    connection
        .execute(
            "select pg_terminate_backend(pid, 10000)
             from pg_stat_activity
             where datname = current_database()
               and application_name = 'outbox-relay'",
        )
        .await
        .unwrap();
}

const HELD: &str = "select count(*) from messaging.outbox_parked where held";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_parked_in_the_last_page_of_a_dead_owner_is_let_go() {
    let (database, known) = (Database::fresh().await, kafka::topic().await);
    let unknown = format!("{known}-later");
    let mut connection = database.connect().await;
    let relay = Process::start(&database, &kafka::bootstrap(), &EXACTLY);
    change(&mut connection, &unknown, "a").await;
    database.drained().await;
    let mut blocker = database.connect().await;
    let mut blocking = blocker.begin().await.unwrap();
    blocking.execute("select from messaging.outbox_cursor for update").await.unwrap();
    let mut page = connection.begin().await.unwrap();
    change(&mut page, &known, "a").await;
    change(&mut page, &known, "b").await;
    page.commit().await.unwrap();
    crate::eventually("Kafka has the page", async || committed(&known).await.contains_key("b"))
        .await;
    kill(relay, &mut connection).await;
    blocking.rollback().await.unwrap();
    assert_eq!(count(&mut connection, HELD).await, 1, "the cursor moved, and nothing is tested");

    let relay = Relay::start(&database, &kafka::bootstrap(), &EXACTLY).await;
    database.drained().await;
    assert_eq!(count(&mut connection, HELD).await, 0);
    kafka::create(&unknown, &[]).await;
    crate::eventually("nothing is parked", async || database.parked().await == 0).await;
    relay.stop().await.unwrap();
    let known = committed(&known).await;
    assert_eq!((known["a"].as_slice(), known["b"].as_slice()), (&[2][..], &[1][..]));
    assert_eq!(committed(&unknown).await["a"], [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_waits_for_its_row_that_the_cursor_has_not_passed() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &EXACTLY).await;
    relay.says("test: shipping").await;
    park(&mut connection, &topic, &[(-3, "a", true), (-2, "a", false), (-1, "b", false)]).await;
    crate::eventually("another key goes out", async || database.parked().await == 2).await;
    connection.execute("update messaging.outbox_parked set held = false").await.unwrap();
    crate::eventually("nothing is parked", async || database.parked().await == 0).await;
    relay.stop().await.unwrap();
    let numbers = committed(&topic).await;
    assert_eq!((numbers["a"].as_slice(), numbers["b"].as_slice()), (&[-3, -2][..], &[-1][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_sent_to_the_end_leaves_no_row_waiting_to_be_passed() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &EXACTLY).await;
    relay.says("test: shipping").await;
    park(&mut connection, &topic, &[(-2, "a", true), (-1, "b", false)]).await;
    connection
        .execute("update messaging.outbox_cursor set wish = '{\"verb\": \"to_latest\"}'")
        .await
        .unwrap();
    crate::eventually("nothing is parked", async || database.parked().await == 0).await;
    relay.stop().await.unwrap();
    assert_eq!(committed(&topic).await.into_keys().collect::<Vec<_>>(), ["b"]);
}

/// Parks rows as if earlier ones of their keys had been refused once.
async fn park(connection: &mut PgConnection, topic: &str, rows: &[(i64, &str, bool)]) {
    sqlx::query(
        "insert into messaging.outbox_parked
             (seq, shard, event_id, topic, key, headers, payload, created_at, reason, held)
         select seq, 0, gen_random_uuid(), $1, key, '{}', convert_to(seq::text, 'utf8'), now(), 'behind', held
         from unnest($2::bigint[], $3::text[], $4::boolean[]) row (seq, key, held)",
    )
    .bind(topic)
    .bind(rows.iter().map(|row| row.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.1).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.2).collect::<Vec<_>>())
    .execute(connection)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_owner_sent_of_parked_rows_is_known_before_any_is_sent_again() {
    let (database, unknown) = (Database::fresh().await, format!("{}-later", kafka::topic().await));
    let mut connection = database.connect().await;
    let dead = Process::start(&database, &kafka::bootstrap(), &EXACTLY);
    change(&mut connection, &unknown, "a").await;
    crate::eventually("it is parked", async || database.parked().await == 1).await;
    database.drained().await;
    let mut blocker = database.connect().await;
    let mut blocking = blocker.begin().await.unwrap();
    blocking.execute("select from messaging.outbox_parked for update").await.unwrap();
    kafka::create(&unknown, &[]).await;
    crate::eventually("it went out", async || !committed(&unknown).await.is_empty()).await;
    kill(dead, &mut connection).await;
    blocking.rollback().await.unwrap();
    assert_eq!(database.parked().await, 1, "it was deleted, and nothing is tested");

    let died = database.owners().await;
    let open = OpenTransaction::in_topic(&markers(&database));
    let relay = Relay::start(&database, &kafka::bootstrap(), &EXACTLY).await;
    crate::eventually("it has the shards", async || {
        database.shares().await == [64] && database.owners().await != died
    })
    .await;
    // It cannot read the notes before this; now it can, but not write down what they say.
    let mut blocking = blocker.begin().await.unwrap();
    blocking.execute("select from messaging.outbox_cursor for update").await.unwrap();
    open.end();
    let first = looked(&mut connection, None).await;
    looked(&mut connection, Some(first)).await;
    blocking.rollback().await.unwrap();
    crate::eventually("nothing is parked", async || database.parked().await == 0).await;
    relay.stop().await.unwrap();
    assert_eq!(committed(&unknown).await["a"], [1]);
}

/// Waits until the relay has looked for parked rows to send, after that time if there is one. Returns when.
async fn looked(
    connection: &mut PgConnection,
    after: Option<chrono::DateTime<chrono::Utc>>,
) -> chrono::DateTime<chrono::Utc> {
    let mut when = None;
    crate::eventually("the relay looks for parked rows to send", async || {
        when = sqlx::query_scalar(
            "select query_start
             from pg_stat_activity
             where datname = current_database()
               and application_name = 'outbox-relay'
               and query like '%earlier.held%'
               and ($1::timestamptz is null or query_start > $1)",
        )
        .bind(after)
        .fetch_optional(&mut *connection)
        .await
        .unwrap();
        when.is_some()
    })
    .await;
    when.unwrap()
}

/// Holds back readers of committed notes.
struct OpenTransaction(BaseProducer);

impl OpenTransaction {
    fn in_topic(topic: &str) -> Self {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", kafka::bootstrap())
            .set("transactional.id", format!("{topic}.open"))
            .create()
            .unwrap();
        let patience = Duration::from_secs(20);
        producer.init_transactions(patience).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<str, str>::to(topic).key("open").payload("{}")).unwrap();
        producer.flush(patience).unwrap();
        Self(producer)
    }

    fn end(self) {
        self.0.abort_transaction(Duration::from_secs(20)).unwrap();
    }
}

const FENCED: &str =
    "select count(*) from messaging.outbox_cursor where fence is not null and owner is null";

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_leaves_without_knowing_its_last_commit_leaves_its_name_to_be_fenced() {
    let (database, broker) = (Database::fresh().await, MockCluster::new(1).unwrap());
    broker.create_topic("t", 3, 1).unwrap();
    broker.create_topic(&markers(&database), 1, 1).unwrap();
    let mut connection = database.connect().await;
    for (errors, fenced) in [(0, 0), (10_000, 64)] {
        let relay = Relay::start(&database, &broker.bootstrap_servers(), &EXACTLY).await;
        change(&mut connection, "t", "a").await;
        database.drained().await;
        broker.request_errors(
            RDKafkaApiKey::EndTxn,
            &vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; errors],
        );
        if errors > 0 {
            change(&mut connection, "t", "a").await;
            relay.says("test: failing: Kafka: committing a transaction").await;
        }
        relay.stop().await.unwrap();
        assert_eq!(count(&mut connection, FENCED).await, fenced);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_leaves_with_everything_known_takes_its_notes_back() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    for _ in 0..2 {
        let dead = Process::start(&database, &kafka::bootstrap(), &EXACTLY);
        change(&mut database.connect().await, &topic, "a").await;
        database.drained().await;
        dead.signal(Signal::SIGKILL);
        dead.ended().await;
    }
    let last = Relay::start(&database, &kafka::bootstrap(), &EXACTLY).await;
    change(&mut database.connect().await, &topic, "a").await;
    database.drained().await;
    last.stop().await.unwrap();
    let mut notes = std::collections::BTreeMap::new();
    for note in kafka::read_committed(&kafka::bootstrap(), &markers(&database)).await {
        notes.insert(kafka::key(&note), rdkafka::Message::payload(&note).is_some());
    }
    assert_eq!(notes.len(), 6, "three leases, each with two names: {notes:?}");
    assert!(notes.values().all(|open| !open), "{notes:?}");
    assert_eq!(committed(&topic).await["a"], [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_keys_and_relays_that_come_and_go_repeat_lose_and_invert_nothing() {
    let rounds = if crate::setting("RELAY_FULL").is_some() { 20 } else { 4 };
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let start = || Process::start(&database, &kafka::bootstrap(), &EXACTLY);
    let mut relays = vec![start(), start()];
    let writers = Writers::start(&database, &topic, 6, 30).await;
    let mut connection = database.connect().await;
    for round in 0..rounds {
        database.progress(50).await;
        // Some keys stop at a topic that is not there yet, and go on later, under whichever owner.
        let later = format!("{topic}-{round}");
        for key in 1..=10 {
            crate::database::append(&mut connection, &later, &format!("key-{key}"), None).await;
        }
        crate::eventually("keys are parked", async || database.parked().await > 10).await;
        let victim = relays.remove(0);
        kafka::create(&later, &[]).await;
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..3000))).await;
        let signal = if round % 2 == 0 { Signal::SIGKILL } else { Signal::SIGTERM };
        victim.signal(signal);
        victim.ended().await;
        relays.push(start());
        crate::eventually("nothing is parked", async || database.parked().await == 0).await;
    }
    let versions = writers.end().await;
    database.drained().await;
    crate::eventually("nothing is parked", async || database.parked().await == 0).await;
    for relay in relays {
        relay.signal(Signal::SIGTERM);
        assert_eq!(relay.ended().await, Some(0));
    }
    let messages = kafka::read_committed(&kafka::bootstrap(), &topic).await;
    assert_eq!(kafka::judge(&messages, &versions), kafka::Verdict::default());
    for round in 0..rounds {
        let later = kafka::read_committed(&kafka::bootstrap(), &format!("{topic}-{round}")).await;
        assert_eq!(later.len(), 10, "round {round}");
    }
}
