//! A stack's own promises: data is kept, faults are survived, nothing is started on taken ports.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use local::{Backend, DataDir, Error, Options, Part, Ports, Progress, Stack};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection as _, PgConnection};

fn options() -> Options {
    let settle = PathBuf::from(env!("CARGO_BIN_EXE_settle"));
    let programs = settle.parent().unwrap().to_owned();
    Options { programs, ..Options::on_free_ports().unwrap() }
}

/// Outside of anybody's home, so that Postgres' own user can enter.
fn directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let permissions = std::fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().permissions(permissions).tempdir().unwrap()
}

async fn infra(dir: &Path) -> Stack {
    Stack::infra(DataDir::open(dir).unwrap(), &options(), &Progress::silent()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_keeps_the_data_and_provisioning_again_changes_nothing() {
    let dir = directory();
    let stack = infra(dir.path()).await;
    stack.provision().await.unwrap();
    let mut orders = PgConnection::connect(&stack.database_url(Part::Orders)).await.unwrap();
    sqlx::raw_sql("create table kept (word text); insert into kept values ('still here')")
        .execute(&mut orders)
        .await
        .unwrap();
    orders.close().await.unwrap();
    stack.stop(&Progress::silent()).await.unwrap();
    drop(stack);

    let stack = infra(dir.path()).await;
    stack.provision().await.unwrap();
    let mut orders = PgConnection::connect(&stack.database_url(Part::Orders)).await.unwrap();
    let word: String =
        sqlx::query_scalar("select word from kept").fetch_one(&mut orders).await.unwrap();
    assert_eq!(word, "still here");
    let roles: Vec<String> = sqlx::query_scalar(
        "select rolname::text from pg_roles where rolname like 'outbox%' order by 1",
    )
    .fetch_all(&mut orders)
    .await
    .unwrap();
    let granted_to = ["outbox_operator", "outbox_relay"];
    assert_eq!(roles, granted_to, "the services' migrations grant to these roles");
    let topics = local::all_topics();
    local::Feed::open(stack.kafka_bootstrap(), local::From::Now, topics).await.unwrap();
    stack.stop(&Progress::silent()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_kafka_can_be_killed_paused_and_started_again() {
    let dir = directory();
    let stack = infra(dir.path()).await;
    for part in [Part::Postgres, Part::Kafka] {
        let first = stack.pid(part).unwrap();
        stack.kill9(part).await.unwrap();
        assert!(matches!(stack.pid(part), Err(Error::NotRunning(_))));
        stack.start(part).await.unwrap();
        assert_ne!(stack.pid(part).unwrap(), first);
    }
    stack.pause(Part::Postgres).unwrap();
    let connected = PgConnection::connect(&stack.postgres_url());
    tokio::pin!(connected);
    let paused = tokio::time::timeout(std::time::Duration::from_millis(300), &mut connected).await;
    assert!(paused.is_err(), "a paused Postgres answered");
    stack.resume(Part::Postgres).unwrap();
    connected.await.unwrap();

    assert!(stack.sigterm(Part::Postgres).await.unwrap().success());
    stack.stop(&Progress::silent()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_has_the_settings_asked_for_and_keeps_its_own() {
    let dir = directory();
    let postgres_settings =
        ["wal_level=logical", "max_wal_senders=3", "port=1"].map(|text| text.parse().unwrap());
    let options = Options { postgres_settings: postgres_settings.into(), ..options() };
    let data = DataDir::open(dir.path()).unwrap();
    let stack = Stack::infra(data, &options, &Progress::silent()).await.unwrap();
    let mut connection = PgConnection::connect(&stack.postgres_url()).await.unwrap();
    for (name, expected) in [("wal_level", "logical"), ("max_wal_senders", "3")] {
        let value: String = sqlx::query_scalar("select current_setting($1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(value, expected, "{name}");
    }
    connection.close().await.unwrap();
    stack.stop(&Progress::silent()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_is_named_and_one_that_was_asked_to_end_is_not() {
    let dir = directory();
    let stack = infra(dir.path()).await;
    stack.sigterm(Part::Postgres).await.unwrap();
    kill(Pid::from_raw(stack.pid(Part::Kafka).unwrap()), Signal::SIGKILL).unwrap();
    let Error::Died { name, log, .. } = stack.died().await else {
        panic!("a death is told as one")
    };
    assert_eq!(name, "kafka");
    assert!(log.ends_with("logs/kafka.log"));
}

#[tokio::test]
async fn taken_ports_are_all_named_with_their_flags_before_anything_starts() {
    let taken = [0, 0, 0, 0].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
    let [postgres, kafka, jaeger, otlp] =
        taken.each_ref().map(|taken| taken.local_addr().unwrap().port());
    let dir = directory();
    let ports = Ports { postgres, kafka, jaeger, otlp, ..Ports::FREE };
    let options = Options { ports, jaeger: Some(Backend::Own), ..options() };
    let refused =
        Stack::infra(DataDir::open(dir.path()).unwrap(), &options, &Progress::silent()).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains(&format!("{postgres}, wanted for the postgres")), "{text}");
    assert!(text.contains(&format!("{kafka}, wanted for the kafka")), "{text}");
    assert!(text.contains(&format!("{jaeger}, wanted for the jaeger")), "{text}");
    assert!(text.contains(&format!("{otlp}, wanted for the OTLP of jaeger")), "{text}");
    assert!(text.contains("--jaeger-port") && text.contains("--otlp-port"), "{text}");
    assert!(text.contains("--postgres-port") && text.contains("--kafka-port"), "{text}");
    assert!(!dir.path().join("postgres").exists(), "something was started");
}

#[test]
fn two_stacks_never_share_a_directory() {
    let dir = directory();
    let first = DataDir::open(dir.path()).unwrap();
    let text = DataDir::open(dir.path()).unwrap_err().to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    drop(first);
    DataDir::open(dir.path()).unwrap();
}

#[test]
fn forgetting_removes_what_a_stack_wrote_and_nothing_else() {
    let dir = directory();
    let data = DataDir::open(dir.path()).unwrap();
    std::fs::write(data.logs().join("orders.log"), "words").unwrap();
    std::fs::write(dir.path().join("diary"), "mine").unwrap();
    data.forget().unwrap();
    assert!(!data.logs().exists());
    assert!(dir.path().join("diary").exists());
}
