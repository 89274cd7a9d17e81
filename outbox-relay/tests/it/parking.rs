//! relay.md's ninth: an event that Kafka refuses holds back its own key and no other, until it is mended, in order.

use nix::sys::signal::Signal;
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use sqlx::Executor;

use crate::{
    database::{Database, append, append_many},
    kafka,
    relay::{Process, Relay},
    writers::{Writers, change, versions},
};

const SHORT: [&str; 6] = ["--delivery-timeout", "1s", "--lease", "2s", "--renew-every", "200ms"];

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_holds_back_its_keys_alone_and_goes_out_by_itself_when_it_exists() {
    let (database, known) = (Database::fresh().await, kafka::topic().await);
    let unknown = format!("{known}-later");
    let mut connection = database.connect().await;
    append_many(&mut connection, &known, 1, 300).await;
    for number in 301..=303_i64 {
        append(&mut connection, &unknown, "k7", Some(number.to_string().as_bytes())).await;
    }
    // Of these, k7 has to wait: what came before it is not out.
    append_many(&mut connection, &known, 304, 300).await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    database.drained().await;
    relay.says("test: shipping").await;
    let early = kafka::first_by_key(&kafka::read(&kafka::bootstrap(), &known).await);
    assert!(early.values().map(Vec::len).sum::<usize>() >= 600 - parked(&database, &known).await);
    assert!(early.keys().len() == 97, "another key is held back: {early:?}");
    assert_eq!(parked(&database, &unknown).await, 3);
    let (_, metrics) = relay.page("/metrics").await;
    let refused = metrics
        .lines()
        .find(|line| {
            line.starts_with("outbox_relay_parked_total{")
                && line.contains(r#"reason="unknown_topic""#)
        })
        .unwrap();
    assert!(refused.ends_with(" 1"), "{refused}");

    kafka::create(&unknown, &[]).await;
    freed(&database).await;
    append_many(&mut connection, &known, 604, 97).await;
    database.drained().await;
    relay.stop().await.unwrap();
    assert_eq!(
        kafka::by_key(&kafka::read(&kafka::bootstrap(), &unknown).await)["k7"],
        [301, 302, 303]
    );
    let numbers = kafka::first_by_key(&kafka::read(&kafka::bootstrap(), &known).await);
    assert_eq!(numbers.values().map(Vec::len).sum::<usize>(), 697);
    assert!(numbers.values().all(|numbers| numbers.is_sorted()));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_batch_that_the_broker_refuses_only_the_event_that_is_too_large_is_parked() {
    let (database, topic) = (Database::fresh().await, format!("{}-small", kafka::topic().await));
    kafka::create(&topic, &[("max.message.bytes", "20000")]).await;
    let mut connection = database.connect().await;
    let mut transaction = sqlx::Connection::begin(&mut connection).await.unwrap();
    for number in 1..=40_i64 {
        append_many(&mut transaction, &topic, number, 1).await;
        if number == 20 {
            append(&mut transaction, &topic, "large", Some(&noise(50_000))).await;
        }
        if number > 20 {
            append(&mut transaction, &topic, "large", Some(number.to_string().as_bytes())).await;
        }
    }
    transaction.commit().await.unwrap();
    let relay = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    database.drained().await;
    assert_eq!(parked(&database, &topic).await, 21);
    let reasons: Vec<String> = sqlx::query_scalar(
        "select distinct key || ' ' || reason from messaging.outbox_parked order by 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(reasons, ["large behind", "large too_large"]);

    // Asked to try again it is refused again, and keeps its place.
    wish(&mut connection, "retry").await;
    crate::eventually("the wish is carried out", async || {
        sqlx::query_scalar::<_, i64>(
            "select count(*) from messaging.outbox_parked where wish is not null",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap()
            == 0
    })
    .await;
    assert_eq!(parked(&database, &topic).await, 21);
    // Without the large one the others go.
    wish(&mut connection, "skip").await;
    freed(&database).await;
    relay.stop().await.unwrap();
    let mut numbers = kafka::by_key(&kafka::read(&kafka::bootstrap(), &topic).await);
    assert_eq!(numbers.remove("large").unwrap(), (21..=40).collect::<Vec<_>>());
    let mut others: Vec<i64> = numbers.into_values().flatten().collect();
    others.sort_unstable();
    others.dedup();
    assert_eq!(others, (1..=40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_key_that_never_rests_is_freed_in_order_all_the_same() {
    let (database, broker) = (Database::fresh().await, MockCluster::new(1).unwrap());
    broker.create_topic("t", 1, 1).unwrap();
    let relay = Relay::start(&database, &broker.bootstrap_servers(), &SHORT).await;
    relay.says("test: shipping").await;
    let writers = Writers::start(&database, "t", 4, 2).await;
    database.progress(20).await;
    broker.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 12],
    );
    crate::eventually("a key is parked", async || parked(&database, "t").await > 30).await;
    wish(&mut database.connect().await, "retry").await;
    crate::eventually("the key is freed while events go on", async || {
        let waiting = parked(&database, "t").await;
        if waiting > 0 {
            wish(&mut database.connect().await, "retry").await;
        }
        waiting == 0
    })
    .await;
    database.progress(20).await;
    let versions = writers.end().await;
    database.drained().await;
    freed(&database).await;
    relay.stop().await.unwrap();
    let verdict = kafka::judge(&kafka::read(&broker.bootstrap_servers(), "t").await, &versions);
    assert_eq!((verdict.lost, verdict.inverted), (0, 0), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_remembers_what_is_parked() {
    let (database, known) = (Database::fresh().await, kafka::topic().await);
    let unknown = format!("{known}-later");
    let mut connection = database.connect().await;
    let first = Process::start(&database, &kafka::bootstrap(), &SHORT);
    change(&mut connection, &unknown, "a").await;
    change(&mut connection, &known, "a").await;
    database.drained().await;
    first.signal(Signal::SIGKILL);
    first.ended().await;
    change(&mut connection, &known, "a").await;
    change(&mut connection, &known, "b").await;
    let second = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    database.drained().await;
    assert_eq!(parked(&database, &known).await, 2);
    let early = kafka::first_by_key(&kafka::read(&kafka::bootstrap(), &known).await);
    assert_eq!(early["b"], [1]);
    // The second one of this key may have been on its way already when the first was refused; the third has to wait.
    assert!(early.get("a").is_none_or(|numbers| *numbers == [2]), "{early:?}");
    kafka::create(&unknown, &[]).await;
    freed(&database).await;
    second.stop().await.unwrap();
    assert_eq!(versions(&database).await["a"], 3);
    let late = kafka::first_by_key(&kafka::read(&kafka::bootstrap(), &known).await);
    assert_eq!(late["a"], [2, 3]);
}

/// Wishes something for the first parked row of every key.
async fn wish(connection: &mut sqlx::PgConnection, wish: &str) {
    sqlx::query(
        "update messaging.outbox_parked
         set wish = $1
         where seq in (select min(seq) from messaging.outbox_parked group by key)",
    )
    .bind(wish)
    .execute(connection)
    .await
    .unwrap();
}

async fn parked(database: &Database, topic: &str) -> usize {
    let rows: i64 =
        sqlx::query_scalar("select count(*) from messaging.outbox_parked where topic = $1")
            .bind(topic)
            .fetch_one(&mut database.connect().await)
            .await
            .unwrap();
    usize::try_from(rows).unwrap()
}

async fn freed(database: &Database) {
    let mut connection = database.connect().await;
    crate::eventually("nothing is parked", async || {
        connection.execute("select from messaging.outbox_parked").await.unwrap().rows_affected()
            == 0
    })
    .await;
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    std::iter::repeat_with(rand::random).take(length).collect()
}
