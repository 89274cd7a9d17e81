//! The real program: it starts on an empty database without Kafka, answers, and ends with 0 when it is told to.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use chassis::trail::Outcome;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use proto::{
    delivery::v1::{
        DispatchDeliveryRequest, GetDeliveryRequest, delivery_service_client::DeliveryServiceClient,
    },
    operations::v1::{
        ListParkedRequest, RetryParkedRequest, SkipParkedRequest,
        operations_service_client::OperationsServiceClient,
    },
};
use tonic::Code;

use crate::shop::Shop;

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
    let mut child = Command::new(env!("CARGO_BIN_EXE_delivery"))
        .env("DATABASE_URL", sqlx::ConnectOptions::to_url_lossy(&shop.db.options).as_str())
        .env("LISTEN", format!("127.0.0.1:{port}"))
        // Nobody is there: readiness is the database, not Kafka.
        .env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let program = Program(child);
    let mut log = Vec::new();
    while !log.last().is_some_and(|line: &String| line.contains("delivery answers")) {
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("the program ended before it answered: {log:#?}"));
        log.push(line.unwrap());
    }
    // Its log is read on, so that it never waits for us.
    std::thread::spawn(move || lines.for_each(drop));
    (program, format!("http://127.0.0.1:{port}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_answers_gives_up_what_is_parked_and_stops() {
    let mut shop = Shop::open().await;
    let order_id = shop.dispatched().await;
    let key = order_id.to_string();
    let batch = [shop.orders.cancelled(order_id), shop.orders.cancel_requested(order_id)];
    assert_eq!(shop.hear(&batch).await.count(Outcome::Parked), 2);

    let (mut program, address) = start(&shop);
    let mut operations = OperationsServiceClient::connect(address.clone()).await.unwrap();
    let mut deliveries = DeliveryServiceClient::connect(address).await.unwrap();
    let found =
        deliveries.get_delivery(GetDeliveryRequest { order_id: key.clone() }).await.unwrap();
    assert!(found.metadata().contains_key("x-trace-id"));
    let request = DispatchDeliveryRequest { order_id: key.clone(), request_id: String::new() };
    let refused = deliveries.dispatch_delivery(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);

    let still = operations.retry_parked(RetryParkedRequest { key: key.clone() }).await.unwrap_err();
    assert_eq!(still.code(), Code::FailedPrecondition);
    let parked =
        operations.list_parked(ListParkedRequest { key: key.clone(), ..Default::default() }).await;
    let parked = parked.unwrap().into_inner().messages;
    assert_eq!(parked.len(), 2);
    let skip = SkipParkedRequest {
        key,
        parked_id: parked[0].parked_id,
        reason: "settled by phone".to_owned(),
    };
    let skipped = operations.skip_parked(skip).await.unwrap().into_inner();
    assert_eq!(skipped.handled, 1, "the cancel request behind it is handled");
    assert_eq!(
        shop.told(order_id).await,
        ["DeliveryStarted", "DeliveryDispatched", "DeliveryCancelRefused"]
    );

    kill(Pid::from_raw(i32::try_from(program.0.id()).unwrap()), Signal::SIGTERM).unwrap();
    drop((operations, deliveries));
    let status = tokio::task::spawn_blocking(move || program.0.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}
