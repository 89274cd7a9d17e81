//! What a row becomes: key, headers, payload, tombstone, partition.

use rdkafka::Message;
use sqlx::Executor;
use uuid::Uuid;

use crate::{
    database::{Database, append},
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
