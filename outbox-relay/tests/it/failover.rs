//! relay.md's eighth: a standby that was behind takes over, and uses the numbers of lost transactions again.

use std::{
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;
use sqlx::{Executor, PgConnection};

use crate::{
    database::{Database, append_many},
    kafka,
    relay::{Process, Relay},
};

const EXACTLY: [&str; 5] =
    ["--exactly-once", "--transaction-timeout", "20s", "--record-every", "1ms"];

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_that_lost_transactions_nothing_of_the_new_timeline_is_skipped() {
    fail_over(&["--record-every", "1ms"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_a_note_of_the_old_timeline_skip_any_in_exactly_once_mode() {
    fail_over(&EXACTLY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_counts_in_kafka_only_once_postgres_cannot_forget_its_numbers() {
    let (primary, topic) = (Database::fresh().await, kafka::topic().await);
    // A server of its own, since its settings change.
    let server = Standby::of(&primary).await;
    let database = primary.on_port(server.port);
    server.cut_off(&database).await;
    let mut connection = database.connect().await;
    connection.execute("select pg_promote()").await.unwrap();
    let patient = [&EXACTLY[..], &["--lease", "60s"]].concat();
    let relay = Relay::start(&database, &kafka::bootstrap(), &patient).await;
    append_many(&mut connection, &topic, 1, 1).await;
    database.drained().await;

    // From now on no commit is certain: the one to confirm it never comes.
    connection.execute("set synchronous_commit = local").await.unwrap();
    connection.execute("alter system set synchronous_standby_names = 'nobody'").await.unwrap();
    connection.execute("select pg_reload_conf()").await.unwrap();
    append_many(&mut connection, &topic, 2, 1).await;
    crate::eventually("the page waits for Postgres", async || {
        sqlx::query_scalar(
            "select exists (
                 select from pg_stat_activity
                 where wait_event = 'SyncRep'
                   and query like '%pg_logical_emit_message%')",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap()
    })
    .await;
    assert_eq!(kafka::read_committed(&kafka::bootstrap(), &topic).await.len(), 1);
    connection.execute("alter system reset synchronous_standby_names").await.unwrap();
    connection.execute("select pg_reload_conf()").await.unwrap();
    database.drained().await;
    relay.stop().await.unwrap();
    assert_eq!(kafka::read_committed(&kafka::bootstrap(), &topic).await.len(), 2);
}

async fn fail_over(settings: &[&str]) {
    let (primary, topic) = (Database::fresh().await, kafka::topic().await);
    let mut connection = primary.connect().await;
    let relay = Process::start(&primary, &kafka::bootstrap(), settings);
    append_many(&mut connection, &topic, 1, 100).await;
    primary.drained().await;
    let standby = Standby::of(&primary).await;
    let database = primary.on_port(standby.port);
    append_many(&mut connection, &topic, 101, 50).await;
    primary.drained().await;
    caught_up(&mut connection, &database).await;

    standby.cut_off(&database).await;
    for number in 151..=200 {
        append_many(&mut connection, &topic, number, 1).await;
    }
    primary.drained().await;
    relay.signal(Signal::SIGKILL);
    relay.ended().await;

    let mut promoted = database.connect().await;
    promoted.execute("select pg_promote()").await.unwrap();
    for number in 1001..=1100 {
        append_many(&mut promoted, &topic, number, 1).await;
    }
    assert!(next_xid(&mut promoted).await > 0);
    let relay = Relay::start(&database, &kafka::bootstrap(), settings).await;
    database.drained().await;
    relay.stop().await.unwrap();
    let mut numbers: Vec<i64> =
        kafka::first_by_key(&kafka::read_committed(&kafka::bootstrap(), &topic).await)
            .into_values()
            .flatten()
            .collect();
    numbers.sort_unstable();
    // What the primary had sent and lost is in Kafka all the same; what the new one wrote is there too.
    let expected: Vec<i64> = (1..=200).chain(1001..=1100).collect();
    assert_eq!(numbers, expected);
}

async fn next_xid(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select pg_current_xact_id()::text::bigint")
        .fetch_one(connection)
        .await
        .unwrap()
}

/// Waits until the standby knows all that the primary has committed.
async fn caught_up(primary: &mut PgConnection, standby: &Database) {
    let end: String = sqlx::query_scalar("select pg_current_wal_flush_lsn()::text")
        .fetch_one(primary)
        .await
        .unwrap();
    let mut connection = standby.connect().await;
    crate::eventually("the standby has caught up", async || {
        sqlx::query_scalar::<_, bool>("select pg_last_wal_replay_lsn() >= $1::pg_lsn")
            .bind(&end)
            .fetch_one(&mut connection)
            .await
            .unwrap()
    })
    .await;
}

/// A physical copy of the test's server that follows it, run by the same user.
struct Standby {
    port: u16,
    server: tokio::process::Child,
    /// The database whose name the primary's slot has.
    slot: Database,
    _dir: tempfile::TempDir,
}

impl Standby {
    async fn of(primary: &Database) -> Self {
        let mut connection = primary.connect().await;
        let (programs, data, connections): (String, String, String) = sqlx::query_as(
            "select (select setting from pg_config where name = 'BINDIR'),
                    current_setting('data_directory'),
                    'max_connections=' || current_setting('max_connections')",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        let programs = PathBuf::from(programs);
        let owner = std::fs::metadata(data).unwrap();
        let (uid, gid) = (owner.uid(), owner.gid());
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        chown(dir.path(), Some(uid), Some(gid)).unwrap();
        let copy = dir.path().join("standby");
        let copied = Command::new(programs.join("pg_basebackup"))
            .args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"])
            // A busy server would otherwise throw away what the copy has yet to read.
            .args(["--create-slot", &format!("--slot={}", primary.name)])
            .arg(format!("--dbname={}", primary.server_url()))
            .arg(format!("--pgdata={}", copy.display()))
            .current_dir(dir.path())
            .uid(uid)
            .gid(gid)
            .status()
            .unwrap();
        assert!(copied.success(), "pg_basebackup: {copied}");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Command::new(programs.join("postgres"));
        server
            .arg("-D")
            .arg(&copy)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", &connections])
            .current_dir(dir.path())
            .stderr(Stdio::null())
            .uid(uid)
            .gid(gid);
        let server = tokio::process::Command::from(server).kill_on_drop(true).spawn().unwrap();
        let standby = Self { port, server, slot: primary.clone(), _dir: dir };
        let database = primary.on_port(port);
        crate::eventually("the standby answers", async || database.answers().await).await;
        assert!(standby.server.id().is_some());
        standby
    }

    /// Nothing of the primary reaches it any more.
    async fn cut_off(&self, database: &Database) {
        let mut connection = database.connect().await;
        connection.execute("alter system set primary_conninfo = ''").await.unwrap();
        connection.execute("select pg_reload_conf()").await.unwrap();
        crate::eventually("the standby is cut off", async || {
            sqlx::query("select from pg_stat_wal_receiver")
                .fetch_optional(&mut connection)
                .await
                .unwrap()
                .is_none()
        })
        .await;
        sqlx::query("select pg_drop_replication_slot($1)")
            .bind(&self.slot.name)
            .execute(&mut self.slot.connect().await)
            .await
            .unwrap();
    }
}
