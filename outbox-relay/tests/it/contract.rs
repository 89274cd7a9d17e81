//! What a row becomes: key, headers, payload, tombstone, partition.

use rdkafka::{Message, message::Headers};
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use crate::{
    database::{Database, append, append_many},
    kafka,
    relay::Relay,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_row_becomes_a_record_with_its_headers_as_they_are() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    let mut connection = database.connect().await;
    let payload = [0, 159, 146, 150, 255];
    sqlx::query("insert into messaging.outbox (event_id, topic, key, headers, payload) values ($1, $2, $3, $4, $5)")
        .bind(Uuid::now_v7())
        .bind(&topic)
        .bind("21")
        .bind(sqlx::types::Json(serde_json::json!({"ce_id": "1", "traceparent": "00-ab\"ü\\-01", "empty": ""})))
        .bind(payload.as_slice())
        .execute(&mut connection)
        .await
        .unwrap();
    append(&mut connection, &topic, "21", None).await;
    database.drained().await;
    relay.stop().await.unwrap();

    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    let [record, tombstone] = messages.as_slice() else { panic!("{} records", messages.len()) };
    assert_eq!(record.payload(), Some(payload.as_slice()));
    assert_eq!(kafka::key(record), "21");
    assert_eq!(kafka::header(record, "ce_id").as_deref(), Some("1"));
    assert_eq!(kafka::header(record, "traceparent").as_deref(), Some("00-ab\"ü\\-01"));
    assert_eq!(kafka::header(record, "empty").as_deref(), Some(""));
    assert_eq!(tombstone.payload(), None);
    // As Java's own partitioner places it: murmur2("21") is -973932308.
    assert_eq!(record.partition(), (-973_932_308 & 0x7fff_ffff) % kafka::PARTITIONS);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_keep_their_order_and_their_repetitions() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    let mut connection = database.connect().await;
    for headers in [r#"{ "zz" : "1", "a":"2" ,"zz":"3"}"#, r#"{"zz": "\u0031", "a": 2, "zz": "3"}"#]
    {
        append_with(&mut connection, &topic, headers).await;
    }
    database.drained().await;
    relay.stop().await.unwrap();

    let records = kafka::read(&kafka::bootstrap(), &topic).await;
    assert_eq!(records.len(), 2);
    for record in &records {
        let headers = record.headers().unwrap().iter();
        let headers: Vec<_> = headers.map(|header| (header.key, header.value.unwrap())).collect();
        assert_eq!(headers, [("zz", b"1".as_slice()), ("a", b"2"), ("zz", b"3")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_no_text_can_be_made_of_park_their_key() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    let mut connection = database.connect().await;
    // Half of a surrogate pair: json takes it, as jsonb does not.
    append_with(&mut connection, &topic, r#"{"a": "\ud800"}"#).await;
    append(&mut connection, &topic, "other", None).await;
    database.drained().await;
    relay.stop().await.unwrap();

    assert_eq!(kafka::read(&kafka::bootstrap(), &topic).await.len(), 1);
    let parked: (String, String) =
        sqlx::query_as("select reason, headers::text from messaging.outbox_parked")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(parked, ("invalid".to_owned(), r#"{"a": "\ud800"}"#.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_relay_ships_on_when_the_headers_become_json() {
    let server = crate::required("SETTLE_TEST_POSTGRES");
    let database = Database::with_binary_headers(&server).await;
    let topic = kafka::topic().await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    let mut connection = database.connect().await;
    append_many(&mut connection, &topic, 0, 500).await;
    database.drained().await;
    database.keep_headers_as_stored().await;
    append_many(&mut connection, &topic, 500, 500).await;
    database.drained().await;
    relay.stop().await.unwrap();

    let records = kafka::read(&kafka::bootstrap(), &topic).await;
    assert_eq!(records.len(), 1000);
    assert!(records.iter().all(|it| kafka::header(it, "ce_type").as_deref() == Some("test")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doorbell_wakes_an_idle_relay() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let relay = Relay::start(
        &database,
        &kafka::bootstrap(),
        &["--idle-poll", "100s", "--record-every", "1ms"],
    )
    .await;
    relay.says("test: shipping").await;
    let mut connection = database.connect().await;
    append(&mut connection, &topic, "k", Some(b"1")).await;
    // The polls have long since become too rare; only the bell brings the row out in time.
    crate::eventually("the bell is heard", async || {
        connection.execute("select pg_notify('outbox', '')").await.unwrap();
        database.unsent().await == 0
    })
    .await;
    relay.stop().await.unwrap();
}

/// Appends an event whose headers are this text.
async fn append_with(connection: &mut PgConnection, topic: &str, headers: &str) {
    sqlx::query(
        "insert into messaging.outbox (event_id, topic, key, headers) values ($1, $2, 'k', $3::json)",
    )
    .bind(Uuid::now_v7())
    .bind(topic)
    .bind(headers)
    .execute(connection)
    .await
    .unwrap();
}
