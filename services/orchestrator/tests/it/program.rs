//! The real program: it starts without Kafka, sends again what a killed one left unanswered, and ends with 0 when told to.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use proto::orchestrator::v1::{GetSagaRequest, saga_service_client::SagaServiceClient};

use crate::shop::{IMPATIENT, Shop, in_time};

/// A process that does not outlive its test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

/// Starts the program and waits until it says that it answers.
fn start(shop: &Shop) -> (Program, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_orchestrator"))
        .env("DATABASE_URL", sqlx::ConnectOptions::to_url_lossy(&shop.db.options).as_str())
        .env("LISTEN", format!("127.0.0.1:{port}"))
        // Nobody is there: readiness is the database, not Kafka.
        .env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
        .env("STEP_TIMEOUT", "1h")
        .env("STEP_TIMEOUT_MAX", "1h")
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let program = Program(child);
    let mut log = Vec::new();
    while !log.last().is_some_and(|line: &String| line.contains("orchestrator answers")) {
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("the program ended before it answered: {log:#?}"));
        log.push(line.unwrap());
    }
    // Its log is read on, so that it never waits for us.
    std::thread::spawn(move || lines.for_each(drop));
    (program, format!("http://127.0.0.1:{port}"))
}

async fn attempts(url: &str, saga_id: &str) -> i32 {
    let mut sagas = SagaServiceClient::connect(url.to_owned()).await.unwrap();
    let request = GetSagaRequest { saga_id: saga_id.to_owned(), view: 0 };
    sagas.get_saga(request).await.unwrap().into_inner().saga.unwrap().steps[0].attempts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_program_is_followed_by_one_that_goes_on() {
    let mut shop = Shop::open(IMPATIENT).await;
    let saga_id = shop.begun().await.to_string();
    let (killed, url) = start(&shop);
    in_time(async {
        while attempts(&url, &saga_id).await < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(killed);
    sqlx::query("update sagas set due_at = clock_timestamp()")
        .execute(&shop.db.pool)
        .await
        .unwrap();
    let (mut program, url) = start(&shop);
    in_time(async {
        while attempts(&url, &saga_id).await < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    kill(Pid::from_raw(i32::try_from(program.0.id()).unwrap()), Signal::SIGTERM).unwrap();
    let status = tokio::task::spawn_blocking(move || program.0.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}
