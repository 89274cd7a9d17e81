//! A broker that asks who is there: TLS, every way to log in, and rights that come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    broker::{self, Broker, PASSWORD, Right, USER},
    certificates::{Authority, ENCRYPTED_KEY, KEY_PASSWORD, keep},
    database::{Database, append, append_many},
    kafka,
    relay::Relay,
};

/// A topic of the secure broker that somebody may write to.
async fn topic(broker: &Broker, writer: &str) -> String {
    let name = format!("secure-{}", Uuid::now_v7().simple());
    kafka::create_at(&broker.open, &name, &[]).await;
    broker.grant(writer, Right::Write(&name), true).await;
    name
}

fn arguments(text: &str) -> Vec<String> {
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

async fn start(database: &Database, kafka: &str, arguments: &[String]) -> Relay {
    Relay::start(database, kafka, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn count(broker: &Broker, topic: &str) -> usize {
    kafka::read(&broker.open, topic).await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_ships_and_a_wrong_one_is_named_until_it_is_corrected() {
    let (broker, database, files) =
        (broker::shared().await, Database::fresh().await, TempDir::new().unwrap());
    let topic = topic(broker, USER).await;
    let mut connection = database.connect().await;
    let file = keep(files.path(), "password", "a-wrong-one\n");
    for (round, mechanism) in ["scram-sha-256", "scram-sha-512", "plain"].into_iter().enumerate() {
        append_many(&mut connection, &topic, 1, 100).await;
        let login = arguments(&format!(
            "--kafka-tls --kafka-ca {} --kafka-sasl {mechanism} --kafka-user {USER} --kafka-password-file {file}",
            broker.ca
        ));
        let relay = start(&database, &broker.sasl, &login).await;
        if round == 0 {
            relay
                .says("Authentication failed during authentication due to invalid credentials")
                .await;
            assert_eq!(relay.page("/readyz").await.0, 503);
            assert_eq!(count(broker, &topic).await, 0);
            keep(files.path(), "password", &format!("{PASSWORD}\n"));
        }
        database.drained().await;
        relay.says("test: shipping").await;
        relay.stop().await.unwrap();
        assert_eq!(count(broker, &topic).await, (round + 1) * 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_a_certificate_of_another_authority_is_not_believed() {
    let (broker, database, files) =
        (broker::shared().await, Database::fresh().await, TempDir::new().unwrap());
    let topic = topic(broker, USER).await;
    append_many(&mut database.connect().await, &topic, 1, 10).await;
    let strangers = keep(files.path(), "ca.pem", &Authority::new("a stranger").pem());
    let password = keep(files.path(), "password", PASSWORD);
    let login = arguments(&format!(
        "--kafka-tls --kafka-ca {strangers} --kafka-sasl plain --kafka-user {USER} --kafka-password-file {password}"
    ));
    let relay = start(&database, &broker.sasl, &login).await;
    relay.says("its certificate is signed by nobody in --kafka-ca").await;
    assert_eq!(count(broker, &topic).await, 0);
    // Read again for the next attempt, as a password is.
    keep(files.path(), "ca.pem", &broker.authority.pem());
    database.drained().await;
    relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_a_certificate_for_another_host_is_believed_only_when_told_to() {
    let (broker, database, files) =
        (broker::shared().await, Database::fresh().await, TempDir::new().unwrap());
    let topic = topic(broker, USER).await;
    append_many(&mut database.connect().await, &topic, 1, 10).await;
    let password = keep(files.path(), "password", PASSWORD);
    let mut login = arguments(&format!(
        "--kafka-tls --kafka-ca {} --kafka-sasl plain --kafka-user {USER} --kafka-password-file {password}",
        broker.ca
    ));
    let relay = start(&database, &broker.elsewhere, &login).await;
    relay.says("or is for another host").await;
    relay.stop().await.unwrap();
    assert_eq!(count(broker, &topic).await, 0);

    login.push("--kafka-insecure-hostname".to_owned());
    let relay = start(&database, &broker.elsewhere, &login).await;
    database.drained().await;
    relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_its_own_is_who_the_relay_is() {
    let (broker, database, files) =
        (broker::shared().await, Database::fresh().await, TempDir::new().unwrap());
    let topic = topic(broker, "CN=relay-by-certificate").await;
    append_many(&mut database.connect().await, &topic, 1, 100).await;
    let strangers = Authority::new("a stranger").client("relay-by-certificate");
    let cert = keep(files.path(), "cert.pem", &strangers);
    let key = keep(files.path(), "key.pem", ENCRYPTED_KEY);
    let password = keep(files.path(), "password", "wrong");
    let identity = arguments(&format!(
        "--kafka-tls --kafka-ca {} --kafka-cert {cert} --kafka-key {key} --kafka-key-password-file {password}",
        broker.ca
    ));
    let relay = start(&database, &broker.mutual, &identity).await;
    relay.says("ssl.key.location").await;
    keep(files.path(), "password", KEY_PASSWORD);
    relay.says("the broker does not take the relay's certificate, --kafka-cert").await;
    assert_eq!(count(broker, &topic).await, 0);
    keep(files.path(), "cert.pem", &broker.authority.client("relay-by-certificate"));
    database.drained().await;
    relay.stop().await.unwrap();
    assert_eq!(count(broker, &topic).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_renewed_in_its_file_keeps_the_relay_logged_in() {
    let (broker, database, files) =
        (broker::shared().await, Database::fresh().await, TempDir::new().unwrap());
    let topic = topic(broker, "relay-by-token").await;
    let mut connection = database.connect().await;
    let file = keep(files.path(), "token", "not-a-token");
    let login = arguments(&format!(
        "--kafka-tls --kafka-ca {} --kafka-sasl oauthbearer --kafka-token-file {file}",
        broker.ca
    ));
    let relay = start(&database, &broker.sasl, &login).await;
    relay.says("no JWT that says sub and exp").await;
    write_token(files.path(), "relay-by-token", LIFE);
    relay.says("test: shipping").await;
    append_many(&mut connection, &topic, 1, 100).await;
    database.drained().await;
    let retries = retries(&relay).await;
    // The first token expires meanwhile, and the broker ends what logged in by it and did not do so again.
    for _ in 0..=LIFE.as_secs() {
        write_token(files.path(), "relay-by-token", LIFE);
        tokio::time::sleep(Duration::from_secs(1)).await;
        append_many(&mut connection, &topic, 1, 100).await;
        database.drained().await;
    }
    assert_eq!(self::retries(&relay).await, retries, "the connection was cut");
    relay.stop().await.unwrap();
    assert_eq!(count(broker, &topic).await, 1800);
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_once_mode_needs_these_rights_and_no_others() {
    let (broker, database, files) =
        (broker::shared().await, Database::fresh().await, TempDir::new().unwrap());
    let user = "relay-exactly-once";
    let (topic, notes) = (topic(broker, user).await, topic(broker, user).await);
    broker.grant(user, Right::Read(&notes), true).await;
    broker.grant(user, Right::Transact("relay-in-transactions"), true).await;
    write_token(files.path(), user, Duration::from_secs(600));
    let login = arguments(&format!(
        "--kafka-tls --kafka-ca {} --kafka-sasl oauthbearer --kafka-token-file {}/token --exactly-once \
         --markers-topic {notes} --name relay-in-transactions --delivery-timeout 1s --lease 2s --renew-every 200ms",
        broker.ca,
        files.path().display()
    ));
    for _ in 0..2 {
        let relay = start(&database, &broker.sasl, &login).await;
        append_many(&mut database.connect().await, &topic, 1, 100).await;
        relay.says("test: shipping").await;
        database.drained().await;
        relay.stop().await.unwrap();
    }
    assert_eq!(kafka::read_committed(&broker.open, &topic).await.len(), 200);
}

/// Short for the test, and long for the client, which looks once a second whether four fifths of it are over.
const LIFE: Duration = Duration::from_secs(16);

/// A token as nobody should believe it outside of tests: without a signature.
fn write_token(directory: &Path, user: &str, life: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a token's end is a time of day")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (issued, expires) = (now.as_secs_f64(), (now + life).as_secs_f64());
    let part = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let header = part(serde_json::json!({"alg": "none"}));
    let claims = part(serde_json::json!({"sub": user, "iat": issued, "exp": expires}));
    keep(directory, "next", &format!("{header}.{claims}.\n"));
    fs::rename(directory.join("next"), directory.join("token")).unwrap();
}

async fn retries(relay: &Relay) -> String {
    let (_, metrics) = relay.page("/metrics").await;
    let line = metrics.lines().find(|line| line.starts_with("outbox_relay_retries_total{"));
    line.unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_relay_may_no_longer_write_to_parks_its_keys_and_no_others_until_it_may_again()
 {
    let (broker, database, files) =
        (broker::shared().await, Database::fresh().await, TempDir::new().unwrap());
    let (barred, free) = (topic(broker, USER).await, topic(broker, USER).await);
    let password = keep(files.path(), "password", PASSWORD);
    let login = arguments(&format!(
        "--kafka-tls --kafka-ca {} --kafka-sasl scram-sha-512 --kafka-user {USER} --kafka-password-file {password} \
         --delivery-timeout 1s --lease 2s --renew-every 200ms",
        broker.ca
    ));
    let relay = start(&database, &broker.sasl, &login).await;
    let writers = Writers::start(&database, [&barred, &free]).await;
    database.progress(200).await;

    broker.grant(USER, Right::Write(&barred), false).await;
    crate::eventually("the barred topic's keys are parked", async || {
        parked(&database).await.contains_key(&(barred.clone(), "unauthorised".to_owned()))
    })
    .await;
    let before = count(broker, &free).await;
    crate::eventually("the other topic's keys flow on", async || {
        count(broker, &free).await > before + 200
    })
    .await;
    relay.says("test: shipping").await;
    let topics: BTreeSet<String> =
        parked(&database).await.into_keys().map(|(topic, _)| topic).collect();
    assert_eq!(topics, BTreeSet::from([barred.clone()]));

    broker.grant(USER, Right::Write(&barred), true).await;
    crate::eventually("nothing is parked", async || parked(&database).await.is_empty()).await;
    let written = writers.end().await;
    database.drained().await;
    relay.stop().await.unwrap();
    let arrived = [count_of(broker, &barred).await, count_of(broker, &free).await];
    for (key, numbers) in arrived.iter().flatten() {
        let mut first = Vec::new();
        for number in numbers {
            if !first.contains(number) {
                first.push(*number);
            }
        }
        assert_eq!(first, (1..=written).collect::<Vec<_>>(), "{key}: {numbers:?}");
    }
    assert_eq!(arrived.map(|keys| keys.len()), [KEYS, KEYS]);
}

async fn count_of(broker: &Broker, topic: &str) -> BTreeMap<String, Vec<i64>> {
    kafka::by_key(&kafka::read(&broker.open, topic).await)
}

/// How many rows are parked of which topic for which reason.
async fn parked(database: &Database) -> BTreeMap<(String, String), i64> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "select topic, reason, count(*) from messaging.outbox_parked group by topic, reason",
    )
    .fetch_all(&mut database.connect().await)
    .await
    .unwrap();
    rows.into_iter().map(|(topic, reason, count)| ((topic, reason), count)).collect()
}

const KEYS: usize = 10;

/// A service that writes 1, 2, 3 ... to every key of two topics until it is told to end.
struct Writers {
    ending: CancellationToken,
    task: JoinSet<i64>,
}

impl Writers {
    async fn start(database: &Database, topics: [&String; 2]) -> Self {
        let ending = CancellationToken::new();
        let mut task = JoinSet::new();
        let (mut connection, topics) = (database.connect().await, topics.map(Clone::clone));
        let ended = ending.clone();
        task.spawn(async move {
            let mut number = 0_i64;
            while !ended.is_cancelled() {
                number += 1;
                for (topic, key) in
                    topics.iter().flat_map(|topic| (0..KEYS).map(move |key| (topic, key)))
                {
                    let key = format!("{topic}-{key}");
                    append(&mut connection, topic, &key, Some(number.to_string().as_bytes())).await;
                }
            }
            number
        });
        Self { ending, task }
    }

    /// The last number of every key.
    async fn end(mut self) -> i64 {
        self.ending.cancel();
        self.task.join_next().await.unwrap().unwrap()
    }
}
