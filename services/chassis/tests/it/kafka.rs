//! The consumer on a real Kafka: offsets move only after the commit, and a rebalance does nothing twice.

use std::{sync::Arc, time::Duration};

use chassis::{
    consumer::Consumer, doorbell::Doorbell, inbox::Record, progress::Progress, switches::Switch,
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use sqlx::{Connection as _, PgConnection};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    diary::{Diary, Pages, in_time},
    letter::Letter,
};

const PARTITIONS: i32 = 12;

fn brokers() -> String {
    #[expect(clippy::disallowed_methods, reason = "tests are told where Kafka is")]
    std::env::var("SETTLE_TEST_KAFKA")
        .expect("set SETTLE_TEST_POSTGRES and SETTLE_TEST_KAFKA, or run `make test`")
}

/// A group of consumers of this topic that begins behind what earlier runs left there.
async fn new_group(topic: &'static str) -> String {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    let create = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    // It may be there already.
    let _ = admin.create_topics([&create], &AdminOptions::new()).await.unwrap();
    let group = format!("{topic}-{}", Uuid::now_v7());
    let member: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .set("group.id", &group)
        .create()
        .unwrap();
    tokio::task::block_in_place(|| {
        let mut ends = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            let end = watermark(&member, topic, partition);
            ends.add_partition_offset(topic, partition, Offset::Offset(end)).unwrap();
        }
        member.commit(&ends, CommitMode::Sync).unwrap();
    });
    group
}

/// The end of a partition; a topic that was just created has none at first.
fn watermark(member: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        match member.fetch_watermarks(topic, partition, Duration::from_secs(10)) {
            Ok((_, end)) => return end,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
    }
}

fn producer() -> FutureProducer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .set("enable.idempotence", "true")
        .create()
        .unwrap()
}

pub(crate) async fn send(
    producer: &FutureProducer,
    record: &Record,
    key: &[u8],
    timestamp: Option<i64>,
) {
    let mut headers = OwnedHeaders::new();
    for (name, value) in &record.headers {
        headers = headers.insert(Header { key: name, value: value.as_deref() });
    }
    let mut message = FutureRecord::to(&record.topic).key(key).headers(headers);
    if let Some(payload) = &record.payload {
        message = message.payload(payload);
    }
    if let Some(timestamp) = timestamp {
        message = message.timestamp(timestamp);
    }
    producer.send(message, Duration::from_secs(30)).await.unwrap();
}

/// Sends letters, the later ones of an order behind the earlier ones.
async fn send_all(records: Vec<Record>) {
    let producer = Arc::new(producer());
    let mut tasks = JoinSet::new();
    let mut orders: Vec<Vec<Record>> = Vec::new();
    for record in records {
        match orders.iter_mut().find(|order| order[0].key == record.key) {
            Some(order) => order.push(record),
            None => orders.push(vec![record]),
        }
    }
    for order in orders {
        let producer = Arc::clone(&producer);
        tasks.spawn(async move {
            for record in order {
                send(&producer, &record, record.key.as_bytes(), None).await;
            }
        });
    }
    in_time(tasks.join_all()).await;
}

fn consumer(diary: &Diary, group: &str, batch_size: usize) -> Consumer<Pages> {
    consumer_with(diary, group, batch_size, Progress::default())
}

fn consumer_with(
    diary: &Diary,
    group: &str,
    batch_size: usize,
    progress: Progress,
) -> Consumer<Pages> {
    Consumer::new(
        Arc::clone(&diary.inbox),
        group,
        &brokers(),
        diary.db.options.clone(),
        batch_size,
        progress,
        Doorbell::default(),
    )
    .unwrap()
}

/// Steps until the condition, an SQL query, holds.
pub(crate) async fn step_until(
    consumer: &mut Consumer<Pages>,
    diary: &Diary,
    condition: &'static str,
) {
    let never = CancellationToken::new();
    in_time(async {
        while !holds(diary, condition).await {
            consumer.step(&never).await.unwrap();
        }
    })
    .await;
}

async fn holds(diary: &Diary, condition: &'static str) -> bool {
    sqlx::query_scalar(condition).fetch_one(diary.pool()).await.unwrap()
}

async fn eventually(diary: &Diary, condition: &'static str) {
    in_time(async {
        while !holds(diary, condition).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start(consumer: Consumer<Pages>, tasks: &tokio_util::task::TaskTracker) -> Self {
        let stop = CancellationToken::new();
        let task = tasks.spawn(consumer.run(Switch::new(true), stop.clone()));
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        in_time(self.task).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn consumers_that_come_and_go_handle_everything_once_and_in_order() {
    const ORDERS: usize = 40;
    const TEXTS: usize = 15;
    let group = new_group("test.chassis.rebalance").await;
    let mut diary = Diary::on_topic::<2>().await;
    let orders: Vec<Uuid> = (0..ORDERS).map(|_| Uuid::now_v7()).collect();
    let mut records = Vec::new();
    for index in 0..TEXTS {
        for order in &orders {
            let letter = Letter::<2>::new(*order, &format!("{index:02}"));
            records.push(diary.sender.event(*order, &letter));
        }
    }
    let tasks = tokio_util::task::TaskTracker::new();
    let first = Running::start(consumer(&diary, &group, 7), &tasks);
    let sending = tasks.spawn(send_all(records));
    // The second comes while the first works; the first goes while the second does; a third takes over.
    eventually(&diary, "select count(*) > 0 from pages").await;
    let second = Running::start(consumer(&diary, &group, 7), &tasks);
    eventually(&diary, "select coalesce(sum(array_length(heard, 1)), 0) > 200 from pages").await;
    first.stop().await;
    let third = Running::start(consumer(&diary, &group, 7), &tasks);
    sending.await.unwrap();
    eventually(&diary, "select sum(array_length(heard, 1)) >= 600 from pages").await;
    second.stop().await;
    third.stop().await;

    let expected: Vec<String> = (0..TEXTS).map(|index| format!("{index:02}")).collect();
    for order in orders {
        assert_eq!(diary.heard(order).await, expected);
        assert_eq!(diary.echoed(order).await, expected);
    }
    assert_eq!(diary.count("messaging.inbox_parked").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_not_committed_is_delivered_again_and_what_was_is_not() {
    let group = new_group("test.chassis.crash").await;
    let mut diary = Diary::on_topic::<3>().await;
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    let first = diary.sender.event(a, &Letter::<3>::new(a, "a1"));
    send_all(vec![first]).await;
    let mut one = consumer(&diary, &group, 100);
    step_until(&mut one, &diary, "select count(*) = 1 from pages").await;

    // The second message is polled and handled as far as the row, which somebody holds; then the process dies.
    let second = diary.sender.event(a, &Letter::<3>::new(a, "a2"));
    let mut other = diary.db.connection().await;
    let mut tx = other.begin().await.unwrap();
    sqlx::query("select 1 from pages for update").execute(&mut *tx).await.unwrap();
    send_all(vec![second]).await;
    let never = CancellationToken::new();
    let stepping = async {
        loop {
            one.step(&never).await.unwrap();
        }
    };
    tokio::select! {
        () = stepping => {}
        () = diary.somebody_waits() => {}
    }
    drop(one);
    tx.rollback().await.unwrap();
    assert_eq!(diary.heard(a).await, ["a1"]);

    let third = diary.sender.event(b, &Letter::<3>::new(b, "b1"));
    send_all(vec![third]).await;
    let mut two = consumer(&diary, &group, 100);
    let both = "select count(*) = 2 and sum(array_length(heard, 1)) = 3 from pages";
    step_until(&mut two, &diary, both).await;
    assert_eq!(diary.heard(a).await, ["a1", "a2"]);
    assert_eq!(diary.echoed(a).await, ["a1", "a2"]);
    drop(two);
    // The offset of what was committed went along: a new member of the group starts behind it.
    let trail = diary.trail(a).await;
    assert_eq!(trail[1], ("applied".to_owned(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stopped_consumer_has_told_kafka_how_far_it_came() {
    let group = new_group("test.chassis.switch").await;
    let mut diary = Diary::on_topic::<4>().await;
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    let letters = ["a1", "a2"].map(|text| diary.sender.event(a, &Letter::<4>::new(a, text)));
    send_all(letters.to_vec()).await;
    let tasks = tokio_util::task::TaskTracker::new();
    let first = Running::start(consumer(&diary, &group, 100), &tasks);
    eventually(&diary, "select coalesce(sum(array_length(heard, 1)), 0) = 2 from pages").await;
    first.stop().await;

    // A new member finds only what is new; were it given the old ones again, the trail would count them.
    let new = diary.sender.event(b, &Letter::<4>::new(b, "b1"));
    send_all(vec![new]).await;
    let second = Running::start(consumer(&diary, &group, 100), &tasks);
    eventually(&diary, "select count(*) = 2 from pages").await;
    second.stop().await;
    assert_eq!(diary.trail(a).await, vec![("applied".to_owned(), 1); 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consumer_that_is_switched_off_in_the_middle_of_a_batch_holds_no_locks() {
    let group = new_group("test.chassis.off").await;
    let mut diary = Diary::on_topic::<6>().await;

    let a = Uuid::now_v7();
    let first = diary.sender.event(a, &Letter::<6>::new(a, "a1"));
    let mut conn = diary.db.connection().await;
    diary.inbox.handle(&mut conn, &[first]).await.unwrap();

    let lock = "select 1 from pages for update";
    let mut tx = conn.begin().await.unwrap();
    sqlx::query(lock).execute(&mut *tx).await.unwrap();
    let second = diary.sender.event(a, &Letter::<6>::new(a, "a2"));
    send_all(vec![second]).await;
    let switch = Switch::new(true);
    let (tasks, stop) = (tokio_util::task::TaskTracker::new(), CancellationToken::new());
    let running = tasks.spawn(consumer(&diary, &group, 100).run(switch.clone(), stop.clone()));
    diary.somebody_waits().await;
    switch.turn(false);
    tx.rollback().await.unwrap();
    // Others can have the row while it is off.
    for _ in 0..20 {
        in_time(sqlx::query(lock).execute(&mut conn)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    switch.turn(true);
    eventually(&diary, "select coalesce(sum(array_length(heard, 1)), 0) = 2 from pages").await;
    stop.cancel();
    in_time(running).await.unwrap().unwrap();
    assert_eq!(diary.heard(a).await, ["a1", "a2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consumer_that_is_switched_off_does_not_poll_and_its_age_says_so() {
    let group = new_group("test.chassis.polls").await;
    let diary = Diary::on_topic::<8>().await;
    let progress = Progress::default();
    let switch = Switch::new(false);
    let (tasks, stop) = (tokio_util::task::TaskTracker::new(), CancellationToken::new());
    let consumer = consumer_with(&diary, &group, 100, progress.clone());
    let running = tasks.spawn(consumer.run(switch.clone(), stop.clone()));
    let age = async |is_so: fn(Duration) -> bool| {
        in_time(async {
            while !is_so(progress.since_poll()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    };
    // librdkafka speaks every second to whoever polls.
    for _ in 0..2 {
        age(|age| age > Duration::from_secs(3)).await;
        switch.turn(true);
        age(|age| age < Duration::from_secs(1)).await;
        switch.turn(false);
    }
    stop.cancel();
    in_time(running).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn odd_keys_and_times_park_and_stop_nobody() {
    let group = new_group("test.chassis.odd").await;
    let mut diary = Diary::on_topic::<5>().await;
    let producer = producer();
    let (odd, good) = (Uuid::now_v7(), Uuid::now_v7());
    let long: String = (0..400).map(|_| Uuid::new_v4().to_string()).collect();
    let mut torn = diary.sender.event(odd, &Letter::<5>::new(odd, "torn"));
    torn.payload = None;
    for key in [b"a\0b".as_slice(), long.as_bytes(), &[0xff, 0xfe], b""] {
        send(&producer, &torn, key, None).await;
    }
    for time in [-8_000_000_000_000_000, -2, 0] {
        let event = diary.sender.event(odd, &Letter::<5>::new(odd, "torn"));
        let torn = Record { payload: None, ..event };
        send(&producer, &torn, b"time", Some(time)).await;
    }
    let letter = diary.sender.event(good, &Letter::<5>::new(good, "good"));
    send(&producer, &letter, letter.key.as_bytes(), None).await;
    let mut consumer = consumer(&diary, &group, 100);
    let all = "select (select count(*) from messaging.inbox_parked) >= 7 and (select count(*) from pages) >= 1";
    step_until(&mut consumer, &diary, all).await;
    assert_eq!(diary.heard(good).await, ["good"]);
    assert_eq!(diary.parked("a\u{fffd}b").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_batch_waits_for_a_database_that_is_away() {
    let group = new_group("test.chassis.away").await;
    let mut diary = Diary::on_topic::<7>().await;

    let a = Uuid::now_v7();
    let tasks = tokio_util::task::TaskTracker::new();
    let running = Running::start(consumer(&diary, &group, 100), &tasks);
    let first = diary.sender.event(a, &Letter::<7>::new(a, "a1"));
    send_all(vec![first]).await;
    eventually(&diary, "select count(*) > 0 from pages").await;
    // Nobody may connect, and the connections there are end.
    let name = diary.db.options.get_database().unwrap().to_owned();
    let mut server =
        PgConnection::connect_with(&diary.db.options.clone().database("postgres")).await.unwrap();
    let statement = |text: String| sqlx::AssertSqlSafe(text);
    let close = statement(format!("alter database {name} allow_connections false"));
    sqlx::query(close).execute(&mut server).await.unwrap();
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1")
        .bind(&name)
        .execute(&mut server)
        .await
        .unwrap();
    let letters = ["a2", "a3"].map(|text| diary.sender.event(a, &Letter::<7>::new(a, text)));
    send_all(letters.to_vec()).await;
    let open = statement(format!("alter database {name} allow_connections true"));
    sqlx::query(open).execute(&mut server).await.unwrap();
    let done: &'static str = "select coalesce(sum(array_length(heard, 1)), 0) >= 3 from pages";
    eventually(&diary, done).await;
    running.stop().await;
    assert_eq!(diary.heard(a).await, ["a1", "a2", "a3"]);
}
