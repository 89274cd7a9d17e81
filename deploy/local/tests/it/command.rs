//! The `settle` program as a person or a script runs it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn settle() -> Command {
    Command::new(env!("CARGO_BIN_EXE_settle"))
}

#[test]
fn a_command_finds_both_servers_and_its_exit_code_is_passed_on() {
    let script = "echo $SETTLE_TEST_POSTGRES $SETTLE_TEST_KAFKA
                  ls $SETTLE_TEST_KAFKA_JARS
                  test -x $SETTLE_TEST_JAVA && echo $SETTLE_TEST_KAFKA_VERSION
                  exit 7";
    let done = settle().args(["infra", "--", "sh", "-c", script]).output().unwrap();
    assert_eq!(done.status.code(), Some(7));
    let out = String::from_utf8(done.stdout).unwrap();
    assert!(
        out.starts_with("postgres://postgres@127.0.0.1:") && out.contains("/postgres 127.0.0.1:"),
        "{out}"
    );
    assert!(out.contains("kafka-clients-"), "{out}");
    assert!(out.trim_end().ends_with(local::KAFKA_VERSION), "{out}");
}

#[test]
fn when_settle_is_killed_nothing_is_left_running() {
    let mut infra = settle();
    // The command ends with our end of its stdin.
    infra.args(["infra", "--", "sh", "-c", "echo $SETTLE_TEST_POSTGRES; exec cat"]);
    let mut killed = infra.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines().map(Result::unwrap);
    let url = lines.find(|line| line.starts_with("postgres://")).unwrap();
    let address =
        url.trim_start_matches("postgres://postgres@").trim_end_matches("/postgres").to_owned();
    assert!(std::net::TcpStream::connect(&address).is_ok());
    killed.kill().unwrap();
    killed.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(&address).is_ok() {
        assert!(Instant::now() < deadline, "Postgres still answers at {address}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn missing_programs_are_named_with_the_command_that_builds_them() {
    let alone = tempfile::tempdir().unwrap();
    let program = alone.path().join("settle");
    std::fs::copy(env!("CARGO_BIN_EXE_settle"), &program).unwrap();
    let data = alone.path().join("data");
    let refused = Command::new(program)
        .args(["up", "--free-ports", "--data-dir"])
        .arg(data)
        .output()
        .unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let missing = "outbox-relay, products, delivery, orchestrator, orders, storefront not found";
    assert!(text.contains(missing), "{text}");
    assert!(text.contains("cargo build --workspace --bins"), "{text}");
}

#[test]
fn a_reset_without_a_terminal_needs_yes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("kafka/data")).unwrap();
    let reset = |arguments: &[&str]| {
        settle()
            .arg("reset")
            .args(arguments)
            .arg("--data-dir")
            .arg(dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let refused = reset(&[]);
    assert!(!refused.status.success());
    assert!(String::from_utf8(refused.stderr).unwrap().contains("settle reset --yes"));
    assert!(dir.path().join("kafka/data").exists());
    assert!(reset(&["--yes"]).status.success());
    assert!(!dir.path().join("kafka").exists());
}
