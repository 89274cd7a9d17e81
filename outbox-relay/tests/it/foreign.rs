//! Outbox tables that are not ours: made as Debezium's documentation has them, prepared once, written by services that
//! know nothing of the relay.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal;
use outbox_relay::{manifest::Manifest, table::Table};
use rdkafka::{Message, message::OwnedMessage};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    database::{Database, append_many},
    kafka,
    relay::{Process, Relay},
    writers::versions,
};

const SHORT: [&str; 6] = ["--delivery-timeout", "1s", "--lease", "2s", "--renew-every", "200ms"];

/// As in <https://debezium.io/documentation/reference/stable/transformations/outbox-event-router.html>.
const DEBEZIUM: &str = "create table outboxevent (
    id            uuid                   not null primary key,
    aggregatetype character varying(255) not null,
    aggregateid   character varying(255) not null,
    type          character varying(255) not null,
    payload       jsonb
)";

/// A database with such a table, and the file that tells the relay of it.
struct Foreign {
    database: Database,
    directory: TempDir,
    table: Table,
}

impl Foreign {
    /// Debezium's table, prepared.
    async fn fresh(map: &str) -> Self {
        let foreign = Self::unprepared(DEBEZIUM, map).await;
        foreign.prepare().await;
        foreign
    }

    async fn unprepared(table: &str, map: &str) -> Self {
        let database = Database::fresh().await;
        database.connect().await.execute(AssertSqlSafe(table.to_owned())).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("relay.toml");
        let url = database.relay_url();
        let text = format!("[[source]]\nname = \"test\"\nurl = \"{url}\"\n[source.table]\n{map}\n");
        std::fs::write(&file, text).unwrap();
        let table = Manifest::read(file.to_str().unwrap()).unwrap().sources[0].table.clone();
        Self { database, directory, table }
    }

    /// Runs what the relay prints, as psql would.
    async fn prepare(&self) {
        let mut owner = self.database.connect().await;
        let printed = self.table.preparation().unwrap();
        let (transaction, rest) = printed.split_once("commit;\n").unwrap();
        owner.execute(AssertSqlSafe(format!("{transaction}commit"))).await.unwrap();
        for statement in rest.split_inclusive(";\n") {
            owner.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
        }
    }

    async fn start(&self, more: &[&str]) -> Relay {
        let file = self.directory.path().join("relay.toml");
        let arguments = [&["--config", file.to_str().unwrap()], more].concat();
        Relay::of(&[], &kafka::bootstrap(), &arguments).await
    }

    fn process(&self, more: &[&str]) -> Process {
        let file = self.directory.path().join("relay.toml");
        let arguments = [&["--config", file.to_str().unwrap()], more].concat();
        Process::of(&[], &kafka::bootstrap(), &arguments)
    }

    /// How many rows of Debezium's table no cursor has passed.
    async fn unsent(&self) -> i64 {
        sqlx::query_scalar(
            "select count(*)
             from outboxevent row
             join messaging.outbox_standing cursor
               on cursor.shard = get_byte(decode(md5(aggregateid), 'hex'), 0) & 63
             where not pg_visible_in_snapshot(row.xid, cursor.acked)
               and not coalesce(pg_visible_in_snapshot(row.xid, cursor.target) and row.seq <= cursor.sent_seq, false)",
        )
        .fetch_one(&mut self.database.connect().await)
        .await
        .unwrap()
    }

    async fn drained(&self) {
        crate::eventually("every row is shipped", async || self.unsent().await == 0).await;
    }

    async fn rows(&self) -> i64 {
        sqlx::query_scalar("select count(*) from outboxevent")
            .fetch_one(&mut self.database.connect().await)
            .await
            .unwrap()
    }
}

/// A kind of aggregate that nobody else uses, and its topic.
async fn aggregate_type() -> (String, String) {
    let kind = format!("order-{}", Uuid::now_v7().simple());
    let topic = format!("outbox.event.{kind}");
    kafka::create(&topic, &[]).await;
    (kind, topic)
}

/// Inserts as a service does that was written for Debezium.
async fn insert(
    connection: &mut PgConnection,
    kind: &str,
    key: &str,
    payload: Option<&str>,
) -> Uuid {
    let id = Uuid::new_v4();
    sqlx::query("insert into outboxevent values ($1, $2, $3, 'Happened', $4::jsonb)")
        .bind(id)
        .bind(kind)
        .bind(key)
        .bind(payload)
        .execute(connection)
        .await
        .unwrap();
    id
}

/// Locks the aggregate, counts it up and inserts the event that tells the new version.
async fn change(connection: &mut PgConnection, kind: &str, key: &str) {
    let version = sqlx::query_scalar::<_, i64>(
        "insert into aggregate (key, version) values ($1, 1)
         on conflict (key) do update set version = aggregate.version + 1
         returning version",
    )
    .bind(key)
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    insert(connection, kind, key, Some(&version.to_string())).await;
}

/// Services under load: some transactions number themselves long before the row's lock, some roll back.
struct Writers {
    ending: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    database: Database,
}

impl Writers {
    async fn start(database: &Database, kind: &str, count: usize, keys: usize) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let mut connection = database.connect().await;
            let (kind, ending) = (kind.to_owned(), Arc::clone(&ending));
            tasks.spawn(async move {
                while !ending.load(Ordering::Relaxed) {
                    let key = format!("key-{}", rand::random_range(1..=keys));
                    write(&mut connection, &kind, &key).await;
                }
            });
        }
        Self { ending, tasks, database: database.clone() }
    }

    async fn end(mut self) -> BTreeMap<String, i64> {
        self.ending.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        versions(&self.database).await
    }
}

async fn write(connection: &mut PgConnection, kind: &str, key: &str) {
    let think = || tokio::time::sleep(Duration::from_millis(rand::random_range(0..15)));
    let mut transaction = connection.begin().await.unwrap();
    if rand::random_bool(0.5) {
        transaction.execute("select pg_current_xact_id()").await.unwrap();
        think().await;
    }
    change(&mut transaction, kind, key).await;
    if rand::random_bool(0.3) {
        think().await;
    }
    if rand::random_bool(0.15) {
        transaction.rollback().await.unwrap();
    } else {
        transaction.commit().await.unwrap();
    }
}

fn payload(message: &OwnedMessage) -> Option<String> {
    Some(String::from_utf8(message.payload()?.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_becomes_what_debezium_makes_of_it() {
    let foreign = Foreign::unprepared(DEBEZIUM, "name = 'public.outboxevent'").await;
    let (kind, topic) = aggregate_type().await;
    let mut writer = foreign.database.connect().await;
    insert(&mut writer, &kind, "old", Some("1")).await;
    foreign.prepare().await;
    let relay = foreign.start(&[]).await;
    let id = insert(&mut writer, &kind, "o-1", Some(r#"{"total":42, "of": ["ä"]}"#)).await;
    insert(&mut writer, &kind, "o-1", None).await;
    foreign.drained().await;
    relay.says("test: shipping").await;
    relay.stop().await.unwrap();

    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    let [record, tombstone] = messages.as_slice() else {
        panic!("{} records: what was there before counts as sent", messages.len())
    };
    assert_eq!(kafka::key(record), "o-1");
    assert_eq!(payload(record).as_deref(), Some(r#"{"of": ["ä"], "total": 42}"#));
    assert_eq!(kafka::header(record, "id"), Some(id.to_string()));
    assert_eq!(tombstone.payload(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_and_every_usual_type_may_be_mapped() {
    let table = r#"create schema shop;
        create table shop."Order-Events" (
            "Id"      bigserial primary key,
            "select"  text,
            "keyOf"   uuid,
            kind      text not null default 'Paid',
            extra     json,
            span      text,
            "number"  integer not null default 7,
            body      bytea,
            "At"      timestamp not null default now()
        );
        grant usage on schema shop to outbox_relay"#;
    let map = r#"name = "shop.Order-Events"
        seq = "Id"
        event_id = "Id"
        topic = "${select}"
        key = "keyOf"
        payload = "body"
        created_at = "At"
        merge_headers = "extra"
        tracing = "span"
        headers = { eventType = "kind", reason = "number" }"#;
    let foreign = Foreign::unprepared(table, map).await;
    foreign.prepare().await;
    let topic = kafka::topic().await;
    let relay = foreign.start(&[]).await;
    relay.says("test: shipping").await;
    let key = Uuid::new_v4();
    let insert = |topic: Option<&str>, body: &'static [u8]| {
        sqlx::query(
            r#"insert into shop."Order-Events" ("select", "keyOf", extra, span, body)
               values ($1, $2, '{"tenant": "t-1", "eventType": "overruled"}', $3, $4)"#,
        )
        .bind(topic.map(str::to_owned))
        .bind(key)
        .bind("#Tue\ntracestate=a\\=b\ntraceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n")
        .bind(body)
    };
    let mut writer = foreign.database.connect().await;
    insert(Some(&topic), &[0, 159, 255]).execute(&mut writer).await.unwrap();
    crate::eventually("the bytes arrive", async || {
        kafka::read(&kafka::bootstrap(), &topic).await.len() == 1
    })
    .await;
    let [record] = &kafka::read(&kafka::bootstrap(), &topic).await[..] else { panic!("not one") };
    assert_eq!(record.payload(), Some([0, 159, 255].as_slice()));
    assert_eq!(kafka::key(record), key.to_string());
    let header = |name| kafka::header(record, name);
    assert_eq!(header("tenant").as_deref(), Some("t-1"));
    assert_eq!(header("eventType").as_deref(), Some("Paid"));
    assert_eq!(header("reason").as_deref(), Some("7"));
    assert!(header("traceparent").unwrap().ends_with("-00f067aa0ba902b7-01"));

    // A row without a topic goes nowhere, and is parked as it is.
    insert(None, &[1, 2]).execute(&mut writer).await.unwrap();
    crate::eventually("it is parked", async || {
        sqlx::query_scalar::<_, i64>(
            r"select count(*) from messaging.outbox_parked where payload = '\x0102'",
        )
        .fetch_one(&mut writer)
        .await
        .unwrap()
            == 1
    })
    .await;
    relay.says("test: shipping").await;
    relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn late_committers_lose_duplicate_and_invert_nothing_in_a_foreign_table() {
    let foreign = Foreign::fresh("").await;
    let (kind, topic) = aggregate_type().await;
    let relay = foreign.start(&["--page-rows", "50"]).await;
    let writers = Writers::start(&foreign.database, &kind, 10, 30).await;
    let mut late = foreign.database.connect().await;
    let mut open = late.begin().await.unwrap();
    change(&mut open, &kind, "the-late-one").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    open.commit().await.unwrap();
    let versions = writers.end().await;
    foreign.drained().await;
    relay.stop().await.unwrap();
    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    let written: i64 = versions.values().sum();
    assert!(written > 200, "only {written} events were written");
    assert_eq!(kafka::judge(&messages, &versions), kafka::Verdict::default());
    assert_eq!(i64::try_from(messages.len()).unwrap(), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_loses_nothing_of_a_foreign_table() {
    let foreign = Foreign::fresh("remove = 'delete'").await;
    let (kind, topic) = aggregate_type().await;
    let writers = Writers::start(&foreign.database, &kind, 8, 40).await;
    let often =
        [SHORT.as_slice(), &["--in-flight-bytes", "65536", "--rotate-every", "100ms"]].concat();
    for more in [["--record-every", "400ms"], ["--linger", "200ms"]] {
        let relay = foreign.process(&[often.as_slice(), &more].concat());
        let before = kafka::read(&kafka::bootstrap(), &topic).await.len();
        crate::eventually("the relay makes progress", async || {
            kafka::read(&kafka::bootstrap(), &topic).await.len() > before + 50
        })
        .await;
        relay.signal(Signal::SIGKILL);
        assert_eq!(relay.ended().await, None);
    }
    let last = foreign.process(&often);
    let versions = writers.end().await;
    foreign.drained().await;
    crate::eventually("what is acknowledged is deleted", async || foreign.rows().await == 0).await;
    last.signal(Signal::SIGTERM);
    assert_eq!(last.ended().await, Some(0));
    let verdict = kafka::judge(&kafka::read(&kafka::bootstrap(), &topic).await, &versions);
    assert_eq!((verdict.lost, verdict.inverted), (0, 0), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_every_shard_has_acknowledged_is_deleted() {
    let foreign = Foreign::fresh("remove = 'delete'").await;
    let (kind, _) = aggregate_type().await;
    let mut writer = foreign.database.connect().await;
    let mut late = foreign.database.connect().await;
    let relay = foreign.start(&["--rotate-every", "50ms"]).await;
    relay.says("test: shipping").await;
    let pause = "update messaging.outbox_cursor set paused = $1 where shard = 5";
    sqlx::query(pause).bind(true).execute(&mut writer).await.unwrap();
    crate::eventually("the shard stands still", async || {
        let before = position(&mut writer).await;
        insert(&mut writer, &kind, "elsewhere", Some("1")).await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        before == position(&mut writer).await
    })
    .await;
    let waiting = foreign.rows().await;
    for number in 0..2_500_i64 {
        insert(&mut writer, &kind, &format!("k-{number}"), Some(&number.to_string())).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(foreign.rows().await >= waiting + 2_500, "one shard has not acknowledged");
    let mut open = late.begin().await.unwrap();
    insert(&mut open, &kind, "late", Some("1")).await;
    insert(&mut writer, &kind, "after", Some("1")).await;
    sqlx::query(pause).bind(false).execute(&mut writer).await.unwrap();
    crate::eventually("the rest is deleted", async || foreign.rows().await <= 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(foreign.rows().await, 1, "what came after an open transaction waits for its end");
    open.commit().await.unwrap();
    crate::eventually("all is deleted", async || foreign.rows().await == 0).await;
    relay.stop().await.unwrap();
}

async fn position(connection: &mut PgConnection) -> String {
    sqlx::query_scalar("select acked::text from messaging.outbox_standing where shard = 5")
        .fetch_one(connection)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_parks_its_keys_and_they_go_out_when_it_exists() {
    let foreign = Foreign::fresh("headers = { id = 'id', eventType = 'type' }").await;
    let (kind, known) = aggregate_type().await;
    let missing = format!("{kind}-later");
    let mut writer = foreign.database.connect().await;
    let relay = foreign.start(&SHORT).await;
    relay.says("test: shipping").await;
    let id = insert(&mut writer, &missing, "held", Some(r#"{"n": 1}"#)).await;
    for number in 1..=5_i64 {
        insert(&mut writer, &kind, "flows", Some(&number.to_string())).await;
    }
    foreign.drained().await;
    let flowing = kafka::by_key(&kafka::read(&kafka::bootstrap(), &known).await);
    assert!((1..=5).all(|number| flowing["flows"].contains(&number)), "{flowing:?}");
    let parked: (String, Uuid) = sqlx::query_as(
        "select convert_from(payload, 'utf8'), event_id from messaging.outbox_parked",
    )
    .fetch_one(&mut writer)
    .await
    .unwrap();
    assert_eq!(parked, (r#"{"n": 1}"#.to_owned(), id));
    let topic = format!("{known}-later");
    kafka::create(&topic, &[]).await;
    crate::eventually("it goes out", async || {
        kafka::read(&kafka::bootstrap(), &topic).await.len() == 1
    })
    .await;
    relay.stop().await.unwrap();
    let record = &kafka::read(&kafka::bootstrap(), &topic).await[0];
    assert_eq!(payload(record).as_deref(), Some(r#"{"n": 1}"#));
    assert_eq!(kafka::header(record, "eventType").as_deref(), Some("Happened"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_lacks_something_is_refused_in_words_and_shipped_once_it_is_mended() {
    let foreign = Foreign::unprepared(DEBEZIUM, "").await;
    let (kind, topic) = aggregate_type().await;
    let relay = foreign.start(&[]).await;
    relay
        .says("public.outboxevent cannot be shipped: seq = \"seq\" is not a column of it; xid = ")
        .await;
    relay.says("grant select on \"public\".\"outboxevent\" to outbox_relay").await;
    foreign.prepare().await;
    relay.says("test: shipping").await;
    let mut owner = foreign.database.connect().await;
    relay.stop().await.unwrap();
    owner.execute("alter table outboxevent alter seq set cache 20").await.unwrap();
    let relay = foreign.start(&[]).await;
    relay.says("sequence with a cache").await;
    owner
        .execute("alter table outboxevent alter seq set cache 1, alter xid drop default")
        .await
        .unwrap();
    relay.says("must have the default pg_current_xact_id()").await;
    owner
        .execute("alter table outboxevent alter xid set default pg_current_xact_id()")
        .await
        .unwrap();
    insert(&mut owner, &kind, "k", Some("1")).await;
    foreign.drained().await;
    relay.stop().await.unwrap();
    assert_eq!(kafka::read(&kafka::bootstrap(), &topic).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_needs_no_more_than_to_read_the_table_and_its_writers_no_more_than_before() {
    let foreign = Foreign::fresh("").await;
    let mut owner = foreign.database.connect().await;
    let rights: Vec<String> = sqlx::query_scalar(
        "select privilege_type::text
         from information_schema.table_privileges
         where grantee = 'outbox_relay'
           and table_schema = 'public'",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert_eq!(rights, ["SELECT"]);
    for statement in [
        "create role foreign_writer_of_a_test",
        "grant insert on outboxevent to foreign_writer_of_a_test",
        "set role foreign_writer_of_a_test",
    ] {
        let done = owner.execute(statement).await;
        assert!(done.is_ok() || statement.starts_with("create role"), "{done:?}");
    }
    let (kind, topic) = aggregate_type().await;
    insert(&mut owner, &kind, "k", Some("1")).await;
    let relay = foreign.start(&[]).await;
    foreign.drained().await;
    relay.stop().await.unwrap();
    assert_eq!(kafka::read(&kafka::bootstrap(), &topic).await.len(), 1);
    owner.execute("reset role").await.unwrap();
    owner.execute("drop owned by foreign_writer_of_a_test").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_deleted_by_their_own_transaction_are_copied_by_the_trigger() {
    let database = Database::fresh().await;
    let mut writer = database.connect().await;
    writer.execute(DEBEZIUM).await.unwrap();
    writer.execute(include_str!("../../debezium/copy.sql")).await.unwrap();
    let (kind, topic) = aggregate_type().await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    let mut transaction = writer.begin().await.unwrap();
    let id = insert(&mut transaction, &kind, "o-1", Some(r#"{"total": 42}"#)).await;
    transaction.execute("delete from outboxevent").await.unwrap();
    insert(&mut transaction, &kind, "o-1", None).await;
    transaction.execute("delete from outboxevent").await.unwrap();
    transaction.commit().await.unwrap();
    database.drained().await;
    relay.stop().await.unwrap();
    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    let [record, tombstone] = messages.as_slice() else { panic!("{} records", messages.len()) };
    assert_eq!(payload(record).as_deref(), Some(r#"{"total": 42}"#));
    assert_eq!(kafka::header(record, "id"), Some(id.to_string()));
    assert_eq!(tombstone.payload(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_may_name_databases_of_both_kinds() {
    let (foreign, native) = (Foreign::fresh("").await, Database::fresh().await);
    let file = foreign.directory.path().join("relay.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str(&format!("\n[[source]]\nname = 'ours'\nurl = '{}'\n", native.relay_url()));
    std::fs::write(&file, text).unwrap();
    let ((kind, topic), other) = (aggregate_type().await, kafka::topic().await);
    let relay = foreign.start(&[]).await;
    insert(&mut foreign.database.connect().await, &kind, "k", Some("1")).await;
    append_many(&mut native.connect().await, &other, 1, 10).await;
    foreign.drained().await;
    native.drained().await;
    relay.says("ours: shipping").await;
    relay.says("test: shipping").await;
    relay.stop().await.unwrap();
    assert_eq!(kafka::read(&kafka::bootstrap(), &topic).await.len(), 1);
    assert_eq!(kafka::read(&kafka::bootstrap(), &other).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_sends_its_foreign_table_again_once_it_is_adopted() {
    let foreign = Foreign::fresh("").await;
    let (kind, topic) = aggregate_type().await;
    let mut writer = foreign.database.connect().await;
    insert(&mut writer, &kind, "k", Some("1")).await;
    for statement in [
        "update outboxevent set xid = '90000000000'",
        "update messaging.outbox_cursor set system_identifier = 42, acked = '80000000000:80000000000:'",
    ] {
        writer.execute(statement).await.unwrap();
    }
    insert(&mut writer, &kind, "k", Some("2")).await;
    let relay = foreign.start(&[]).await;
    relay.says("belongs to cluster 42").await;
    relay.stop().await.unwrap();
    let relay = foreign.start(&["--adopt-cluster"]).await;
    relay.says("test: shipping").await;
    insert(&mut writer, &kind, "k", Some("3")).await;
    foreign.drained().await;
    relay.stop().await.unwrap();
    assert_eq!(kafka::by_key(&kafka::read(&kafka::bootstrap(), &topic).await)["k"], [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_of_a_foreign_table_scans_or_sorts_what_is_already_acknowledged() {
    let foreign = Foreign::fresh("").await;
    let mut writer = foreign.database.connect().await;
    let fill = |rows: i64| {
        sqlx::query(
            "insert into outboxevent
             select gen_random_uuid(), 'order', 'k' || n % 97, 'Happened', '{}'
             from generate_series(1, $1) n",
        )
        .bind(rows)
    };
    fill(50_000).execute(&mut writer).await.unwrap();
    let acked = snapshot(&mut writer).await;
    fill(2_000).execute(&mut writer).await.unwrap();
    let target = snapshot(&mut writer).await;
    let manifest = foreign.directory.path().join("relay.toml");
    let source = Manifest::read(manifest.to_str().unwrap()).unwrap().sources[0].clone();
    let mut relay = outbox_relay::cluster::connect(&source.database).await.unwrap();
    for analysed in [false, true] {
        if analysed {
            writer.execute("analyze outboxevent").await.unwrap();
        }
        let bound = |statement: String| {
            sqlx::query_scalar::<_, String>(AssertSqlSafe(format!("explain {statement}")))
                .bind(acked.clone())
                .bind(target.clone())
                .bind(-1_i64)
        };
        let small = bound(foreign.table.small_window()).bind(5_000_i64);
        let small = small.fetch_all(&mut relay).await.unwrap().join("\n");
        let start = bound(foreign.table.large_window_start());
        let start = start.fetch_all(&mut relay).await.unwrap().join("\n");
        for plan in [&small, &start] {
            assert!(plan.contains("relay_xid_of_outboxevent"), "{plan}");
            assert!(!plan.contains("Seq Scan") && !plan.contains("relay_seq_of"), "{plan}");
        }
        let page = bound(foreign.table.large_window_page()).bind(5_000_i64).bind(50_000_i64);
        let page = page.fetch_all(&mut relay).await.unwrap().join("\n");
        assert!(page.contains("relay_seq_of_outboxevent"), "{page}");
        assert!(!page.contains("Seq Scan") && !page.contains("Sort"), "{page}");
        let deletion = AssertSqlSafe(format!("explain {}", foreign.table.delete_acknowledged()));
        let deletion = sqlx::query_scalar::<_, String>(deletion).bind("0").bind(1_000_i64);
        let deletion = deletion.fetch_all(&mut writer).await.unwrap().join("\n");
        assert!(deletion.contains("relay_xid_of_outboxevent"), "{deletion}");
        // The owner may look at the sequence, the relay at the last row: by its index, and to the same end.
        let horizon = AssertSqlSafe(format!("explain {}", foreign.table.horizon()));
        let horizon = sqlx::query_scalar::<_, String>(horizon).fetch_all(&mut relay).await.unwrap();
        assert!(!horizon.join("\n").contains("Seq Scan"), "{horizon:?}");
        for connection in [&mut writer, &mut relay] {
            let sequence = AssertSqlSafe(format!("select {}", foreign.table.sequence));
            let sequence: i64 = sqlx::query_scalar(sequence).fetch_one(connection).await.unwrap();
            assert_eq!(sequence, 52_000);
        }
    }
}

async fn snapshot(connection: &mut PgConnection) -> String {
    sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(connection).await.unwrap()
}
