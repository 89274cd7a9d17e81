//! The verbs, through the real binary: what people see, and what the running relay does when they wish.

use std::process::Stdio;

use rdkafka::{
    ClientConfig, Message,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
};
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};
use tokio::process::Command;

use crate::{
    database::{Database, append, append_many},
    kafka,
    relay::Relay,
};

const SHORT: [&str; 6] = ["--delivery-timeout", "1s", "--lease", "2s", "--renew-every", "200ms"];

/// What the binary has answered.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Its output, if all went well.
    fn fine(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.out
    }

    /// Its complaint, if it refused.
    fn refused(&self) -> &str {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.err.contains("error: "), "{self:?}");
        &self.err
    }
}

fn command(source: &str, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-relay"));
    command
        .args(words.split(' '))
        .args(["--source", source])
        .env_remove("KAFKA_BOOTSTRAP_SERVERS")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn asked_of(url: &str, words: &str) -> Answer {
    let output = command(&format!("test={url}"), words).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Answer { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// What the role of the relay is told.
async fn asked(database: &Database, words: &str) -> Answer {
    asked_of(&database.relay_url(), words).await
}

/// What a person is told who may not read payloads.
async fn operator(database: &Database, words: &str) -> Answer {
    asked_of(&database.relay_url().replace("outbox_relay@", "outbox_operator@"), words).await
}

async fn number(database: &Database, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(&mut database.connect().await).await.unwrap()
}

async fn parked(database: &Database) -> i64 {
    number(database, "select count(*) from messaging.outbox_parked").await
}

/// Every number in the topic, sorted.
async fn numbers(topic: &str) -> Vec<i64> {
    let messages = kafka::read(&kafka::bootstrap(), topic).await;
    let mut numbers: Vec<i64> = messages.iter().map(kafka::number).collect();
    numbers.sort_unstable();
    numbers
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    std::iter::repeat_with(rand::random).take(length).collect()
}

async fn let_in(topic: &str, bytes: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka::bootstrap()).create().unwrap();
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", bytes);
    for result in admin.alter_configs([&change], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_key_is_listed_and_shown_and_its_first_row_can_be_skipped() {
    let (database, known) = (Database::fresh().await, kafka::topic().await);
    let unknown = format!("{known}-later");
    let mut connection = database.connect().await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    append(&mut connection, &unknown, "k", Some(b"1")).await;
    crate::eventually("the key is parked", async || parked(&database).await == 1).await;
    append(&mut connection, &known, "k", Some(b"2")).await;
    append(&mut connection, &known, "k", Some(b"3")).await;
    append(&mut connection, &unknown, "other", Some(b"\xff\x00")).await;
    crate::eventually("all of them are parked", async || parked(&database).await == 4).await;

    let list = operator(&database, "parked list --json").await.json();
    assert_eq!(list[0]["source"], "test");
    let (first, second) = (&list[0]["keys"][0], &list[0]["keys"][1]);
    assert_eq!(
        (&first["key"], &first["first_seq"], &first["behind"], &first["reason"]),
        (&json!("k"), &json!(1), &json!(2), &json!("unknown_topic"))
    );
    assert_eq!((&second["key"], &second["topic"]), (&json!("other"), &json!(unknown)));
    let page = operator(&database, "parked list --limit 1").await;
    assert!(page.fine().contains("1 key more: --after 1"), "{page:?}");
    let page = operator(&database, "parked list --after 1 --json").await.json();
    assert_eq!(page[0]["keys"].as_array().unwrap().len(), 1);
    for nothing in ["--key nobody", "--topic nowhere", "--reason too_large"] {
        let list = operator(&database, &format!("parked list {nothing}")).await;
        assert_eq!(list.fine(), "test: no such key is parked\n");
    }

    let shown = asked(&database, "parked show --key k --json").await.json();
    assert_eq!((&shown["payload"], &shown["payload_encoding"]), (&json!("1"), &json!("text")));
    let shown = asked(&database, "parked show --seq 4 --json").await.json();
    assert_eq!((&shown["payload"], &shown["payload_encoding"]), (&json!("/wA="), &json!("base64")));
    let shown = operator(&database, "parked show --seq 1").await;
    assert!(shown.fine().contains("this role may not read payloads"), "{shown:?}");

    let wrong = asked(&database, "parked skip --key k --seq 2 --yes").await;
    assert!(wrong.refused().contains("is 1, not 2: nothing was changed"), "{wrong:?}");
    let unsure = asked(&database, "parked skip --key k").await;
    assert!(unsure.refused().contains("add --yes"), "{unsure:?}");
    assert_eq!((parked(&database).await, unsure.out.as_str()), (4, ""));

    let skipped = asked(&database, "parked skip --key k --seq 1 --yes").await;
    skipped.fine();
    assert_eq!(skipped.json()["payload"], "1");
    assert!(skipped.err.contains("drops row 1 of key \"k\""), "{skipped:?}");
    assert!(skipped.err.contains("dropped row 1\n"), "{skipped:?}");
    crate::eventually("what was behind it has gone", async || parked(&database).await == 1).await;
    let blind = operator(&database, "parked skip --key other --yes").await;
    blind.fine();
    assert_eq!(blind.json()["payload_encoding"], "unreadable");
    assert_eq!(parked(&database).await, 0);
    relay.stop().await.unwrap();
    assert_eq!(numbers(&known).await, [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_says_that_a_row_was_refused_again_and_sends_it_once_the_topic_lets_it_in() {
    let (database, topic) = (Database::fresh().await, format!("{}-small", kafka::topic().await));
    kafka::create(&topic, &[("max.message.bytes", "20000")]).await;
    let mut connection = database.connect().await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    append(&mut connection, &topic, "large", Some(&noise(50_000))).await;
    crate::eventually("the key is parked", async || parked(&database).await == 1).await;
    append(&mut connection, &topic, "large", Some(b"2")).await;
    crate::eventually("the later row waits", async || parked(&database).await == 2).await;

    let nobody = operator(&database, "parked retry --key nobody").await;
    assert!(nobody.refused().contains("\"nobody\" is not parked"), "{nobody:?}");
    let again = operator(&database, "parked retry --key large --wait 60s").await;
    assert!(again.fine().contains("row 1 was refused again: too_large"), "{again:?}");
    assert!(again.out.contains("0 keys sent, 1 refused again, 0 waiting"), "{again:?}");
    assert_eq!(parked(&database).await, 2);
    let_in(&topic, "1000000").await;
    // The broker may take a moment to take the topic's new limit.
    crate::eventually("the key is sent", async || {
        let retry = operator(&database, &format!("parked retry --topic {topic} --wait 60s")).await;
        retry.fine().contains("1 key sent, 0 refused again")
    })
    .await;
    crate::eventually("what was behind it has gone", async || parked(&database).await == 0).await;
    let all = operator(&database, "parked retry --all").await;
    assert_eq!(all.fine(), "test: nothing is parked\n");
    relay.stop().await.unwrap();
    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    let lengths: Vec<_> = messages.iter().map(|message| message.payload().unwrap().len()).collect();
    assert_eq!(lengths, [50_000, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_back_the_rows_of_its_shards_until_they_are_resumed() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    relay.says("test: shipping").await;
    append(&mut connection, &topic, "held", Some(b"1")).await;
    database.drained().await;
    let shard = number(&database, "select shard::bigint from messaging.outbox").await;
    let paused = operator(&database, &format!("pause --shards {shard}")).await;
    assert!(paused.fine().contains(&format!("paused shards {shard}\n")), "{paused:?}");
    assert!(paused.out.contains("nothing more of them is read"), "{paused:?}");
    append(&mut connection, &topic, "held", Some(b"2")).await;
    append_many(&mut connection, &topic, 3, 97).await;
    let held = async || {
        let status = operator(&database, "status --json").await.json();
        let groups = status[0]["shards"].as_array().unwrap().clone();
        groups.into_iter().find(|group| group["paused"] == json!(true)).unwrap()
    };
    crate::eventually("all others are shipped", async || {
        held().await["unsent"].as_i64().unwrap() == database.unsent().await
    })
    .await;
    assert_eq!(held().await["shards"], json!(shard.to_string()));
    assert!(!numbers(&topic).await.contains(&2));
    let again = operator(&database, &format!("pause --shards {shard} --wait 0")).await;
    assert!(again.fine().contains("were paused already"), "{again:?}");
    let resumed = operator(&database, "resume").await;
    assert!(resumed.fine().contains(&format!("resumed shards {shard}\n")), "{resumed:?}");
    database.drained().await;
    relay.stop().await.unwrap();
    assert_eq!(numbers(&topic).await, (1..=99).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_sends_exactly_the_rows_from_there_on_again_and_in_order() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    append_many(&mut connection, &topic, 1, 1_000).await;
    database.drained().await;

    let unsure = asked(&database, "replay --from 601").await;
    assert!(unsure.refused().contains("add --yes"), "{unsure:?}");
    assert!(unsure.err.contains("sends 400 rows again, from 601 on"), "{unsure:?}");
    let replayed = operator(&database, "replay --from 601 --yes").await;
    assert_eq!(replayed.fine(), "test: the cursor of shards 0-63 was moved\n");
    database.drained().await;
    append(&mut connection, &topic, "k0", Some(b"1001")).await;
    database.drained().await;
    let time: String = sqlx::query_scalar(
        "select to_char(created_at at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
         from messaging.outbox
         where seq = 1001",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    let last = operator(&database, &format!("replay --from {time} --yes")).await;
    last.fine();
    assert!(last.err.contains("sends 1 row again, from 1001 on"), "{last:?}");
    database.drained().await;
    relay.stop().await.unwrap();

    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    let mut expected = std::collections::BTreeMap::<String, Vec<i64>>::new();
    for number in (1..=1_000).chain(601..=1_000) {
        expected.entry(format!("k{}", number % 97)).or_default().push(number);
    }
    expected.get_mut("k0").unwrap().extend([1_001, 1_001]);
    assert_eq!(kafka::by_key(&messages), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_goes_to_either_end_even_if_the_relay_comes_later() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    append_many(&mut connection, &topic, 1, 10).await;
    let latest = operator(&database, "reset-cursor --to latest --yes").await;
    assert!(latest.err.contains("10 unsent rows of shards 0-63 will never be sent"), "{latest:?}");
    assert!(latest.fine().contains("no relay runs: the next one will do it"), "{latest:?}");
    let relay = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    database.drained().await;
    append_many(&mut connection, &topic, 11, 1).await;
    database.drained().await;
    assert_eq!(numbers(&topic).await, [11]);
    let earliest = operator(&database, "reset-cursor --to earliest --yes").await;
    assert!(earliest.err.contains("sends 11 rows again"), "{earliest:?}");
    assert_eq!(earliest.fine(), "test: the cursor of shards 0-63 was moved\n");
    database.drained().await;
    relay.stop().await.unwrap();
    let sent = numbers(&topic).await;
    assert_eq!(sent, (1..=11).chain([11]).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_cannot_be_read_is_cleared_and_the_shards_go_on() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    append_many(&mut connection, &topic, 1, 100).await;
    for refused in [r#"[]"#, r#"{"verb": "dance"}"#, r#"{"from_seq": 1}"#, r#""replay""#] {
        let wished = wish(&mut connection, 0, refused).await;
        assert!(wished.unwrap_err().to_string().contains("outbox_cursor_wish_known"), "{refused}");
    }
    // What a newer relay's tables let in.
    connection
        .execute("alter table messaging.outbox_cursor drop constraint outbox_cursor_wish_known")
        .await
        .unwrap();
    let unreadable = [
        r#"{"verb": "dance"}"#,
        r#"{"verb": "replay"}"#,
        r#"{"verb": "replay", "from_seq": 99999999999999999999.000000000000000001}"#,
        "7",
        "[]",
        "null",
    ];
    for (shard, text) in (0..).zip(unreadable) {
        wish(&mut connection, shard, text).await.unwrap();
    }
    let readable = r#"{"verb": "replay", "from_seq": -9223372036854775808, "by": "somebody"}"#;
    wish(&mut connection, 63, readable).await.unwrap();
    let relay = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    database.drained().await;
    let waiting = "select count(*) from messaging.outbox_cursor where wish is not null";
    assert_eq!(number(&database, waiting).await, 0);
    let moved = "select bit_or(1::bigint << shard) from messaging.outbox_cursor where moves > 0";
    assert_eq!(number(&database, moved).await, 1 << 63);
    relay.stop().await.unwrap();
    assert_eq!(numbers(&topic).await, (1..=100).collect::<Vec<_>>());
}

/// Writes a wish as somebody does by hand.
async fn wish(connection: &mut PgConnection, shard: i16, text: &str) -> sqlx::Result<()> {
    sqlx::query("update messaging.outbox_cursor set wish = $2::jsonb where shard = $1")
        .bind(shard)
        .bind(text)
        .execute(connection)
        .await
        .map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_nobody_has_carried_out_can_be_withdrawn() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    append_many(&mut connection, &topic, 1, 100).await;
    park(&mut connection, 101, "a").await;
    park(&mut connection, 102, "b").await;
    let nothing = operator(&database, "withdraw").await;
    assert_eq!(nothing.fine(), "test: no such wish waits\n");

    let wished = operator(&database, "reset-cursor --to latest --yes").await;
    assert!(
        wished.fine().contains("the next one will do it, unless you `withdraw` it"),
        "{wished:?}"
    );
    for key in ["a", "b"] {
        let wished = operator(&database, &format!("parked skip --key {key} --yes")).await;
        assert!(
            wished.err.contains("the next one will do it, unless you `withdraw` it"),
            "{wished:?}"
        );
    }
    let some = operator(&database, "withdraw --shards 0-9,63").await;
    let wish = r#"{"verb": "to_latest"}"#;
    assert_eq!(some.fine(), format!("test: withdrew a wish of shards 0-9,63: {wish}\n"));
    let one = operator(&database, "withdraw --key a").await;
    assert_eq!(one.fine(), "test: withdrew the skip of row 101 of key \"a\"\n");
    let rest = operator(&database, "withdraw").await;
    assert_eq!(
        rest.fine(),
        format!(
            "test: withdrew a wish of shards 10-62: {wish}\ntest: withdrew the skip of row 102 of key \"b\"\n"
        )
    );

    let relay = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    database.drained().await;
    let late = operator(&database, "withdraw").await;
    assert_eq!(late.fine(), "test: no such wish waits\n");
    relay.stop().await.unwrap();
    assert_eq!((parked(&database).await, numbers(&topic).await), (2, (1..=100).collect()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_wish_is_told_that_it_was_withdrawn() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    append(&mut connection, "t", "k", None).await;
    park(&mut connection, 2, "k").await;
    // A relay that never comes to it.
    connection
        .execute("insert into messaging.outbox_relay (owner, name, lease_until) values ('r', 'r', 'infinity')")
        .await
        .unwrap();
    let wished = "select (select count(*) from messaging.outbox_cursor where wish is not null)
                         + (select count(*) from messaging.outbox_parked where wish is not null)";
    for (words, told) in [
        ("reset-cursor --to earliest --yes", "the wish for shards 0-63 was withdrawn or replaced"),
        ("parked skip --key k --yes", "row 2 stays: the wish was withdrawn"),
    ] {
        let words = format!("{words} --wait 10m");
        let withdraw = async {
            crate::eventually("it is wished", async || number(&database, wished).await > 0).await;
            operator(&database, "withdraw").await
        };
        let (waited, withdrawn) = tokio::join!(operator(&database, &words), withdraw);
        withdrawn.fine();
        let text = format!("{}{}", waited.fine(), waited.err);
        assert!(text.contains(told) && !text.contains("was moved"), "{text}");
    }
}

/// Sets a row aside as a relay does.
async fn park(connection: &mut PgConnection, seq: i64, key: &str) {
    sqlx::query(
        "insert into messaging.outbox_parked (seq, shard, event_id, topic, key, headers, created_at, reason)
         values ($1, get_byte(decode(md5($2), 'hex'), 0) & 63, gen_random_uuid(), 't', $2, '{}', now(), 'too_large')",
    )
    .bind(seq)
    .bind(key)
    .execute(connection)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_relay_hands_everything_to_the_other_until_it_is_resumed() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let named = |name: &'static str| [SHORT.as_slice(), &["--name", name]].concat();
    let first = Relay::start(&database, &kafka::bootstrap(), &named("first")).await;
    let second = Relay::start(&database, &kafka::bootstrap(), &named("second")).await;
    is_shared(&database, &[32, 32]).await;
    let drained = operator(&database, "drain --relay first").await;
    assert!(drained.fine().contains("1 relay drained: first-"), "{drained:?}");
    is_shared(&database, &[0, 64]).await;
    let status = operator(&database, "status --json").await.json();
    let draining = |at: usize| status[0]["relays"][at]["draining"].clone();
    assert_eq!((draining(0), draining(1)), (json!(true), json!(false)));
    append_many(&mut database.connect().await, &topic, 1, 100).await;
    database.drained().await;
    let resumed = operator(&database, "resume --relay first").await;
    assert!(resumed.fine().contains("takes shards again"), "{resumed:?}");
    is_shared(&database, &[32, 32]).await;
    let all = operator(&database, "drain").await;
    assert!(all.fine().contains("nothing is shipped until one starts"), "{all:?}");
    is_shared(&database, &[0, 0]).await;
    let resumed = operator(&database, "resume").await;
    assert_eq!(resumed.fine().matches("takes shards again").count(), 2, "{resumed:?}");
    is_shared(&database, &[32, 32]).await;
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

/// How many shards the relays have, by their names.
async fn is_shared(database: &Database, shares: &[i64]) {
    let sentence = format!("the shards are shared {shares:?}");
    crate::eventually(&sentence, async || {
        let counted: Vec<i64> = sqlx::query_scalar(
            "select count(shard)
             from messaging.outbox_relay
             left join messaging.outbox_cursor using (owner)
             group by owner, name
             order by name",
        )
        .fetch_all(&mut database.connect().await)
        .await
        .unwrap();
        counted == shares
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_counts_what_is_unsent_parked_and_in_the_ring() {
    let (database, known) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    append_many(&mut connection, &known, 1, 97).await;
    append(&mut connection, "nowhere", "k5", Some(b"98")).await;
    append(&mut connection, "nowhere", "k5", Some(b"99")).await;

    let status = operator(&database, "status --json").await.json();
    let [group] = status[0]["shards"].as_array().unwrap().as_slice() else { panic!("{status}") };
    assert_eq!((&group["shards"], &group["unsent"]), (&json!("0-63"), &json!(99)));
    assert_eq!((&group["relay"], &group["lease_seconds"]), (&Value::Null, &Value::Null));
    assert!(group["oldest_unsent_seconds"].as_f64().unwrap() > 0.0, "{group}");
    let sum = |status: &Value, field: &str| {
        let rows = status[0]["ring"].as_array().unwrap();
        rows.iter().map(|child| child[field].as_i64().unwrap()).sum::<i64>()
    };
    assert_eq!(sum(&status, "rows"), 99);
    assert!(sum(&status, "bytes") > 0);
    let each = operator(&database, "status --json --shards").await.json();
    let each = each[0]["shards"].as_array().unwrap().clone();
    assert_eq!(each.len(), 64);
    assert_eq!(each.iter().map(|shard| shard["unsent"].as_i64().unwrap()).sum::<i64>(), 99);

    let relay = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    database.drained().await;
    let status = operator(&database, "status --json").await.json();
    assert_eq!(status[0]["relays"][0]["name"], "outbox-relay");
    assert_eq!(status[0]["relays"][0]["shards"], "0-63");
    let groups = status[0]["shards"].as_array().unwrap();
    let total = |field: &str| groups.iter().map(|it| it[field].as_i64().unwrap()).sum::<i64>();
    assert_eq!((total("unsent"), total("parked_rows"), total("parked_keys")), (0, 2, 1));
    assert!(groups.iter().all(|it| it["lease_seconds"].as_f64().unwrap() <= 2.0), "{status}");
    let table = operator(&database, "status").await;
    assert!(table.fine().contains("2 (1 key)"), "{table:?}");
    relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_a_healthy_database_well_whoever_asks() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let relay = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    append(&mut database.connect().await, &topic, "k", None).await;
    relay.says("test: shipping").await;
    let words = format!("doctor --json --kafka {}", kafka::bootstrap());
    for examined in [asked(&database, &words).await, operator(&database, &words).await] {
        examined.fine();
        let examined = examined.json();
        let checks = examined[0]["checks"].as_array().unwrap();
        assert_eq!(checks.len(), 14);
        // A writer of another test may be open for long: the cluster is theirs too.
        let fine = |check: &&Value| check["verdict"] == "ok" || check["check"] == "writers";
        assert_eq!(checks.iter().filter(fine).count(), 14, "{checks:#?}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_everything_that_would_lose_invert_or_hold_back_events() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    append(&mut connection, "nowhere", "k", None).await;
    for statement in [
        "alter sequence messaging.outbox_seq cache 20",
        "alter function messaging.rotate_outbox(integer) reset lock_timeout",
        "alter table messaging.outbox drop constraint outbox_needs_synchronous_commit",
        "alter table messaging.outbox_2 reset (autovacuum_enabled)",
        "update messaging.outbox_cursor set system_identifier = 42",
        "revoke select on messaging.outbox_cursor from outbox_operator",
    ] {
        connection.execute(statement).await.unwrap();
    }
    let words = format!("doctor --json --kafka {}", kafka::bootstrap());
    let examined = asked(&database, &words).await;
    assert!(examined.refused().contains("5 of 14 checks failed"), "{examined:?}");
    let examined = examined.json();
    let of = |verdict: &str| {
        let checks = examined[0]["checks"].as_array().unwrap().iter();
        let of = checks.filter(|check| check["verdict"] == verdict);
        of.map(|check| check["check"].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of("FAIL"), ["durability", "sequence", "cluster", "rotation", "kafka"]);
    assert!(of("warn").contains(&"autovacuum") && of("warn").contains(&"leases"));
    let operator = operator(&database, "doctor").await;
    assert!(operator.refused().contains("checks failed"), "{operator:?}");
    let line = operator.out.lines().find(|line| line.contains("rights")).unwrap();
    assert!(line.contains("FAIL") && line.contains("select outbox_cursor"), "{line}");
    let empty = asked_of(&database.relay_url().replace(&database.name, "postgres"), "doctor").await;
    assert!(empty.out.contains("FAIL  tables"), "{empty:?}");
    assert!(empty.out.contains("apply migrations/messaging"), "{empty:?}");
    assert_eq!(empty.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_sees_whether_the_notes_of_exactly_once_mode_are_kept() {
    let database = Database::fresh().await;
    let notes = kafka::topic().await;
    let [missing, kept, lost] = ["missing", "kept", "lost"].map(|end| format!("{notes}_{end}"));
    kafka::create_with(1, &kafka::bootstrap(), &kept, &[("cleanup.policy", "compact")]).await;
    kafka::create_with(1, &kafka::bootstrap(), &lost, &[("cleanup.policy", "compact,delete")])
        .await;
    // Kafka tells dots and underscores apart in names, but not in those of its metrics.
    let impossible = kept.replace('_', ".");
    for (topic, verdict, says) in [
        (&missing, "ok", "is not there yet: the relay makes it"),
        (&impossible, "FAIL", "make it, with one partition and cleanup.policy=compact"),
        (&kept, "ok", "keeps the last note of every relay"),
        (&lost, "FAIL", "has cleanup.policy=compact,delete"),
        (&notes, "warn", "has 12 partitions"),
    ] {
        let words =
            format!("doctor --kafka {} --exactly-once --markers-topic {topic}", kafka::bootstrap());
        for _ in 0..2 {
            let examined = operator(&database, &words).await;
            let line = examined.out.lines().find(|line| line.contains("  markers  ")).unwrap();
            assert!(line.trim_start().starts_with(verdict) && line.contains(says), "{line}");
        }
    }
    let without = operator(&database, &format!("doctor --kafka {}", kafka::bootstrap())).await;
    assert!(!without.out.contains("  markers  "), "{without:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_word_changes_nothing_and_says_what_to_do() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    let before = everything(&mut connection).await;
    for (words, advice) in [
        ("pause --shards 64", "they are 0 to 63"),
        ("pause --shards 7-3", "ends before it begins"),
        ("replay --from yesterday --yes", "2026-11-23T14:05:00Z"),
        ("reset-cursor --to middle --yes", "earliest"),
        ("parked retry", "--all"),
        ("parked list --reason ugly", "too_large"),
        ("pause --wait 5", "ms, s or m"),
    ] {
        let answer = asked(&database, words).await;
        assert_eq!(answer.code, Some(2), "{words}: {answer:?}");
        assert!(answer.err.contains(advice), "{words}: {answer:?}");
    }
    for (words, advice) in [
        ("replay --from 1 --yes", "the ring is empty"),
        ("parked show --key nobody", "see `parked list`"),
        ("parked skip --key nobody --yes", "see `parked list`"),
        ("parked retry --topic nowhere", "see `parked list`"),
        ("drain --relay nobody", "those that do: none"),
        ("resume --relay nobody", "those that do: none"),
        ("withdraw --only other", "no source is called other: there is test"),
        ("status --only other", "no source is called other: there is test"),
        ("reset-cursor --to latest", "add --yes"),
        ("replay --from 1 --yes --source b=postgres://h/b", "choose among b, test by --only"),
    ] {
        let answer = asked(&database, words).await;
        assert!(answer.refused().contains(advice), "{words}: {answer:?}");
    }
    append(&mut connection, "t", "k", None).await;
    let late = asked(&database, "replay --from 2 --yes").await;
    assert!(late.refused().contains("the newest row is 1"), "{late:?}");
    let late = asked(&database, "replay --from 2999-01-01T00:00:00Z --yes").await;
    assert!(late.refused().contains("no row was written at"), "{late:?}");
    assert_eq!(everything(&mut connection).await, before);
}

/// All that verbs could change.
async fn everything(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "select cursor::text from messaging.outbox_cursor cursor
         union all
         select relay::text from messaging.outbox_relay relay
         union all
         select parked::text from messaging.outbox_parked parked",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_says_so_and_does_not_keep_the_other_from_answering() {
    let database = Database::fresh().await;
    let (url, role) = (database.relay_url(), "outbox_relay@");
    for (url, advice) in [
        (url.replace(&database.name, "nowhere"), "is the database's name in --source right?"),
        (url.replace(&database.name, "postgres"), "apply migrations/messaging"),
        (url.replace(role, "outbox_writer@"), "connect as outbox_operator or outbox_relay"),
        ("postgres://outbox_relay@127.0.0.1:1/test".to_owned(), "is the database running"),
    ] {
        let answer = asked_of(&url, "status").await;
        assert!(answer.refused().contains(advice), "{advice}: {answer:?}");
    }
    let both = asked(&database, "status --json --source gone=postgres://r@127.0.0.1:1/gone").await;
    assert!(both.refused().contains("gone: Postgres: connecting"), "{both:?}");
    assert_eq!(both.json()[0]["source"], "test");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_error() {
    let database = Database::fresh().await;
    for words in ["status", "status --shards --json", "doctor", "parked list"] {
        let source = format!("test={}", database.relay_url());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(&source, words).stdout(writer).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{words}: {output:?}");
    }
}
