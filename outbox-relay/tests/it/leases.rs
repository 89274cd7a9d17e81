//! Shards and their owners: shared fairly, one owner each, and never a zombie's.

use std::time::Duration;

use nix::sys::signal::Signal;
use outbox_relay::{
    Error,
    cluster::{self, Cluster},
    cursor::{Followers, Lane},
    lease::{self, Terms},
    shards::Shards,
};
use sqlx::{Executor, PgConnection};

use crate::{
    database::{Database, append},
    kafka,
    relay::{Process, Relay, config},
    writers::Writers,
};

const SHORT: [&str; 6] = ["--delivery-timeout", "1s", "--lease", "2s", "--renew-every", "200ms"];

#[tokio::test(flavor = "multi_thread")]
async fn relays_share_the_shards_and_the_last_one_has_them_all() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let writers = Writers::start(&database, &topic, 4, 60).await;
    let start =
        async || Relay::start(&database, &kafka::bootstrap(), &["--renew-every", "100ms"]).await;
    let first = start().await;
    database.is_shared(&[64]).await;
    let second = start().await;
    database.is_shared(&[32, 32]).await;
    let third = start().await;
    database.is_shared(&[22, 21, 21]).await;
    third.says("test: shipping").await;
    assert_eq!(third.page("/readyz").await.0, 200);
    first.stop().await.unwrap();
    database.is_shared(&[32, 32]).await;
    second.stop().await.unwrap();
    database.is_shared(&[64]).await;
    let versions = writers.end().await;
    database.drained().await;
    third.stop().await.unwrap();
    // Whoever hands a shard over has nothing of it on its way: nothing is sent twice.
    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    assert_eq!(kafka::judge(&messages, &versions), kafka::Verdict::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relays_shards_are_taken_over() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let writers = Writers::start(&database, &topic, 4, 20).await;
    let first = Process::start(&database, &kafka::bootstrap(), &SHORT);
    database.is_shared(&[64]).await;
    let second = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    database.is_shared(&[32, 32]).await;
    first.signal(Signal::SIGKILL);
    first.ended().await;
    database.is_shared(&[64]).await;
    let versions = writers.end().await;
    database.drained().await;
    second.stop().await.unwrap();
    let verdict = kafka::judge(&kafka::read(&kafka::bootstrap(), &topic).await, &versions);
    assert_eq!((verdict.lost, verdict.inverted), (0, 0), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stops_hands_over_at_once() {
    let database = Database::fresh().await;
    // With these terms a lease that is not given back would be waited for longer than the test waits.
    let long = [
        "--delivery-timeout",
        "100s",
        "--drain",
        "200s",
        "--lease",
        "200s",
        "--renew-every",
        "200ms",
    ];
    let first = Relay::start(&database, &kafka::bootstrap(), &long).await;
    database.is_shared(&[64]).await;
    let second = Relay::start(&database, &kafka::bootstrap(), &long).await;
    database.is_shared(&[32, 32]).await;
    first.stop().await.unwrap();
    database.is_shared(&[64]).await;
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_was_stopped_past_its_lease_sends_nothing_and_begins_anew() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let writers = Writers::start(&database, &topic, 4, 20).await;
    let zombie = Process::start(&database, &kafka::bootstrap(), &SHORT);
    database.progress(50).await;
    let before = database.owners().await;
    zombie.signal(Signal::SIGSTOP);
    let successor = Relay::start(&database, &kafka::bootstrap(), &SHORT).await;
    crate::eventually("the successor has taken every shard", async || {
        database.shares().await == [64] && database.owners().await != before
    })
    .await;
    database.progress(50).await;
    zombie.signal(Signal::SIGCONT);
    // It joins again, under a new name.
    database.is_shared(&[32, 32]).await;
    assert!(!database.owners().await.contains(&before[0]), "a lease that was lost is used again");
    let versions = writers.end().await;
    database.drained().await;
    zombie.signal(Signal::SIGTERM);
    assert_eq!(zombie.ended().await, Some(0));
    successor.stop().await.unwrap();
    let verdict = kafka::judge(&kafka::read(&kafka::bootstrap(), &topic).await, &versions);
    assert_eq!((verdict.lost, verdict.inverted), (0, 0), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_not_moved_for_a_lease_of_the_past() {
    let database = Database::fresh().await;
    let config = config(&database, "127.0.0.1:1", &[]);
    let mut connection =
        cluster::connect(&config.given.all().next().unwrap().database).await.unwrap();
    let cluster = Cluster::identify(&mut connection, false).await.unwrap();
    let terms = |lease: u64| Terms {
        name: "relay".to_owned(),
        lease: Duration::from_millis(lease),
        delivery_timeout: Duration::ZERO,
        renew_every: Duration::from_millis(1),
    };
    let old = lease::join(&mut connection, &terms(1)).await.unwrap();
    let taken = lease::claim(&mut connection, &old, &cluster, 64).await.unwrap();
    assert_eq!(taken, Shards::ALL);
    let [lane] = Lane::load(&mut connection, &old).await.unwrap().try_into().unwrap();
    crate::eventually("the lease runs out", async || ended(&mut connection).await).await;
    assert!(!old.may_send());

    // Ended, but nobody has taken the shards yet: whatever was sent meanwhile may still be noted.
    lane.record(&mut connection, &old, Followers::New).await.unwrap();
    let new = lease::join(&mut connection, &terms(60_000)).await.unwrap();
    assert_eq!(lease::claim(&mut connection, &new, &cluster, 64).await.unwrap(), Shards::ALL);
    assert!(matches!(
        lane.record(&mut connection, &old, Followers::New).await,
        Err(Error::LeaseLost(_))
    ));
    assert!(matches!(
        lease::claim(&mut connection, &old, &cluster, 1).await,
        Err(Error::LeaseLost(_))
    ));
    lease::release(&mut connection, &old, Shards::ALL, true).await.unwrap();
    assert_eq!(lease::claim(&mut connection, &new, &cluster, 64).await.unwrap(), Shards::NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_ends_while_another_is_succeeded_keeps_its_shards_together() {
    let database = Database::fresh().await;
    let config = config(&database, "127.0.0.1:1", &[]);
    let source = config.given.all().next().unwrap().clone();
    let mut connection = cluster::connect(&source.database).await.unwrap();
    let cluster = Cluster::identify(&mut connection, false).await.unwrap();
    let terms = Terms {
        name: "relay".to_owned(),
        lease: Duration::from_secs(600),
        delivery_timeout: Duration::ZERO,
        renew_every: Duration::from_secs(1),
    };
    let mut owners = Vec::new();
    for _ in 0..2 {
        let grant = lease::join(&mut connection, &terms).await.unwrap();
        lease::claim(&mut connection, &grant, &cluster, 32).await.unwrap();
        let [lane] = Lane::load(&mut connection, &grant).await.unwrap().try_into().unwrap();
        lane.record(&mut connection, &grant, Followers::New).await.unwrap();
        owners.push(grant);
    }
    let successor = lease::join(&mut connection, &terms).await.unwrap();
    lease::abandon(&mut connection, &owners[0]).await.unwrap();
    let mut blocker = database.connect().await;
    let mut blocking = sqlx::Connection::begin(&mut blocker).await.unwrap();
    blocking
        .execute("select from messaging.outbox_cursor where shard = 31 for update")
        .await
        .unwrap();

    let claim = async {
        let mut own = cluster::connect(&source.database).await.unwrap();
        lease::claim(&mut own, &successor, &cluster, 40).await.unwrap()
    };
    let meanwhile = async {
        let mut watcher = database.connect().await;
        crate::eventually("the successor waits for a row", async || {
            sqlx::query(
                "select from pg_stat_activity
                 where datname = current_database()
                   and wait_event_type = 'Lock'",
            )
            .fetch_optional(&mut watcher)
            .await
            .unwrap()
            .is_some()
        })
        .await;
        lease::abandon(&mut connection, &owners[1]).await.unwrap();
        blocking.rollback().await.unwrap();
    };
    let (taken, ()) = tokio::join!(claim, meanwhile);
    assert_eq!(taken, Shards::ALL.without(Shards::ALL.last(32)), "the second was not spread yet");
    let torn: i64 = sqlx::query_scalar(
        "select count(*)
         from messaging.outbox_cursor shard
         join messaging.outbox_cursor stand on stand.shard = shard.follows
         where shard.owner is distinct from stand.owner",
    )
    .fetch_one(&mut database.connect().await)
    .await
    .unwrap();
    assert_eq!(torn, 0, "shards follow one that is another's");
    let rest = lease::claim(&mut connection, &successor, &cluster, 40).await.unwrap();
    assert_eq!(rest, Shards::ALL.last(32));
}

/// Ends the leases that have run out, as every relay does.
async fn ended(connection: &mut PgConnection) -> bool {
    connection
        .execute("delete from messaging.outbox_relay where lease_until < clock_timestamp()")
        .await
        .unwrap()
        .rows_affected()
        > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_is_refused_until_it_is_adopted_and_then_sends_its_ring_again() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    append(&mut connection, &topic, "k", Some(b"1")).await;
    // As after a dump: numbers of transactions that this cluster has not reached, and a cursor far ahead.
    for statement in [
        "update messaging.outbox set xid = '90000000000'",
        "update messaging.outbox_cursor set system_identifier = 42, follows = null, acked = '80000000000:80000000000:'",
    ] {
        connection.execute(statement).await.unwrap();
    }
    append(&mut connection, &topic, "k", Some(b"2")).await;
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    relay.says("belongs to cluster 42").await;
    relay.stop().await.unwrap();
    let relay = Relay::start(&database, &kafka::bootstrap(), &["--adopt-cluster"]).await;
    relay.says("test: shipping").await;
    append(&mut connection, &topic, "k", Some(b"3")).await;
    database.drained().await;
    relay.stop().await.unwrap();
    let numbers = kafka::by_key(&kafka::read(&kafka::bootstrap(), &topic).await);
    assert_eq!(numbers["k"], [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_names_its_cluster_before_any_relay_has_shipped_from_it() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    let strangers: i64 = sqlx::query_scalar(
        "select count(*)
         from messaging.outbox_cursor cursor
         cross join pg_control_system() here
         where cursor.system_identifier is distinct from here.system_identifier
            or timeline is null",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(strangers, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_counts_transactions_to_come_is_refused_until_it_is_adopted() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = database.connect().await;
    append(&mut connection, &topic, "k", Some(b"1")).await;
    // Restored from a dump that was made before the cursor named its cluster.
    connection
        .execute(
            "update messaging.outbox_cursor
             set system_identifier = null,
                 timeline = null,
                 acked = '80000000000:80000000000:'",
        )
        .await
        .unwrap();
    let relay = Relay::start(&database, &kafka::bootstrap(), &[]).await;
    relay.says("the cursor has seen transactions below 80000000000").await;
    relay.says("Start once with --adopt-cluster").await;
    relay.stop().await.unwrap();

    // Inside of the adoption, and right after it.
    connection
        .execute(
            "create table public.timeouts (value text);
             grant insert on public.timeouts to outbox_relay;
             create function note() returns trigger language plpgsql as $$
             begin
                 insert into public.timeouts values (current_setting('statement_timeout'));
                 return new;
             end $$;
             create trigger adopting after update on messaging.outbox for each row execute function note();
             create trigger joining after insert on messaging.outbox_relay for each row execute function note()",
        )
        .await
        .unwrap();
    let relay = Relay::start(&database, &kafka::bootstrap(), &["--adopt-cluster"]).await;
    relay.says("test: shipping").await;
    append(&mut connection, &topic, "k", Some(b"2")).await;
    database.drained().await;
    relay.stop().await.unwrap();
    let timeouts: Vec<String> =
        sqlx::query_scalar("select value from timeouts").fetch_all(&mut connection).await.unwrap();
    assert_eq!(timeouts, ["0", "30s"], "a huge ring takes long to adopt, and nothing else may");
    let numbers = kafka::by_key(&kafka::read(&kafka::bootstrap(), &topic).await);
    assert_eq!(numbers["k"], [1, 2]);
}
