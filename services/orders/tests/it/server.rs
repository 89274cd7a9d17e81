//! What the real server does with calls, whatever they are about.

use std::{io::Read as _, time::Duration};

use nix::sys::signal::Signal;
use proto::{
    operations::v1::{GetLagRequest, operations_service_client::OperationsServiceClient},
    orders::v1::{
        Customer, ListOrdersRequest, PlaceOrderRequest, WatchOrderRequest,
        order_service_client::OrderServiceClient,
    },
};
use sqlx::Connection as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Request, codec::CompressionEncoding::Gzip};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::{
    program::{Program, command, free_port},
    shop::{Shop, in_time, reason, wants},
};

/// Asked over HTTP/1.1, since tonic's own client would end the call by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_deadline_passes_is_told_so() {
    let shop = Shop::open().await;
    let program = Program::with(&shop.db, |command| {
        command.env("DEFAULT_DEADLINE", "300ms");
    });
    // Somebody holds the table, so that no call can end in time.
    let mut other = shop.db.connection().await;
    let mut tx = other.begin().await.unwrap();
    sqlx::query("lock table orders in access exclusive mode").execute(&mut *tx).await.unwrap();
    let list = "/shop.orders.v1.OrderService/ListOrders";
    for timeout in ["", "grpc-timeout: 200m\r\n", "grpc-timeout: 1n\r\n"] {
        let answer = from_a_browser(&program.address, list, timeout, &[]).await;
        assert_eq!(status(&answer), Code::DeadlineExceeded, "{timeout}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_when_its_deadline_passes() {
    let shop = Shop::open().await;
    let order_id = shop.placed().await.to_string();
    let program = Program::start(&shop.db);
    let mut client = OrderServiceClient::new(program.channel().await);
    let mut request = Request::new(WatchOrderRequest { order_id, after_revision: 0 });
    request.set_timeout(Duration::from_secs(1));
    let mut stream = client.watch_order(request).await.unwrap().into_inner();
    assert!(in_time(stream.message()).await.unwrap().is_some());
    let status = in_time(stream.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_is_refused() {
    let shop = Shop::open().await;
    let program = Program::start(&shop.db);
    let before = shop.everything().await;
    let large = PlaceOrderRequest {
        customer: Some(Customer { name: "x".repeat(2 << 20), ..Default::default() }),
        ..Default::default()
    };
    let plain = OrderServiceClient::new(program.channel().await);
    // Two megabytes of one letter are some kilobytes on the way.
    let zipped = plain.clone().send_compressed(Gzip);
    for mut client in [plain, zipped] {
        let status = in_time(client.place_order(large.clone())).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    }
    assert_eq!(shop.everything().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_places_are_turned_away_with_a_hint_to_retry() {
    let shop = Shop::open().await;
    let program = Program::with(&shop.db, |command| {
        command.env("MAX_CONCURRENT_CALLS", "3");
    });
    let client = OrderServiceClient::new(program.channel().await);
    let mut other = shop.db.connection().await;
    let mut tx = other.begin().await.unwrap();
    sqlx::query("lock table orders in access exclusive mode").execute(&mut *tx).await.unwrap();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let mut client = client.clone();
            async move { client.list_orders(ListOrdersRequest::default()).await }
        })
        .collect();
    let release = async {
        // Not counting the deadlines' timer, which waits too.
        let waiting = "select count(*) = 3 from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'
                         and query like '%order by order_id desc%'";
        while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(shop.pool()).await.unwrap() {
            tokio::task::yield_now().await;
        }
        // The seven others are answered while these three wait.
        let mut client = client.clone();
        let status = client.list_orders(ListOrdersRequest::default()).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "OVERLOADED"));
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
        tx.rollback().await.unwrap();
    };
    let (answers, ()) =
        in_time(futures::future::join(futures::future::join_all(calls), release)).await;
    assert_eq!(answers.iter().filter(|it| it.is_ok()).count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_names_its_trace_and_follows_the_callers() {
    let shop = Shop::open().await;
    let program = Program::start(&shop.db);
    let mut client = OrderServiceClient::new(program.channel().await);
    let id = "0af7651916cd43dd8448eb211c80319c";
    let call = |traceparent: &str| {
        let mut request = Request::new(wants(&[("tv", 1)]));
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        request
    };
    let answer = client.place_order(call(&format!("00-{id}-b7ad6b7169203331-01"))).await.unwrap();
    assert_eq!(answer.metadata().get("x-trace-id").unwrap(), id);
    let traceparent: String =
        sqlx::query_scalar("select headers ->> 'traceparent' from messaging.outbox")
            .fetch_one(shop.pool())
            .await
            .unwrap();
    assert_eq!(traceparent.split('-').nth(1), Some(id));

    let mut seen = vec![id.to_owned()];
    let malformed = [
        "nonsense",
        "00-zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    ];
    for traceparent in malformed {
        let answer = client.place_order(call(traceparent)).await.unwrap();
        let id = answer.metadata().get("x-trace-id").unwrap().to_str().unwrap().to_owned();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert!(!seen.contains(&id), "{traceparent}: {id}");
        seen.push(id);
    }
    // So does a refusal.
    let status = client.place_order(PlaceOrderRequest::default()).await.unwrap_err();
    assert!(status.metadata().contains_key("x-trace-id"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_both_reflections_answer() {
    use tonic_reflection::pb::{v1, v1alpha};

    let shop = Shop::open().await;
    let program = Program::start(&shop.db);
    let channel = program.channel().await;
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "shop.orders.v1.OrderService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        // It asks its database first.
        in_time(async {
            while !health.check(request.clone()).await.is_ok_and(|it| it.into_inner().status == 1) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let expected = [
        "grpc.health.v1.Health",
        "shop.operations.v1.OperationsService",
        "shop.orders.v1.OrderService",
    ];
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let stream = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = in_time(stream.into_inner().message()).await.unwrap().unwrap();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.message_response
    else {
        panic!("{answer:?}")
    };
    let mut names: Vec<_> = list.service.into_iter().map(|it| it.name).collect();
    names.sort();
    names.retain(|name| !name.starts_with("grpc.reflection"));
    assert_eq!(names, expected);

    let symbol = "shop.orders.v1.OrderService".to_owned();
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol),
        ),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let stream = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = in_time(stream.into_inner().message()).await.unwrap().unwrap();
    assert!(matches!(
        answer.message_response,
        Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
    ));
}

/// Sends one HTTP/1.1 request as a browser does, and reads the whole answer.
async fn from_a_browser(address: &str, path: &str, headers: &str, message: &[u8]) -> String {
    let host = address.trim_start_matches("http://");
    let mut socket = tokio::net::TcpStream::connect(host).await.unwrap();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n\
         content-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&body).await.unwrap();
    let mut answer = Vec::new();
    in_time(socket.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// The gRPC status of such an answer, wherever it stands.
fn status(answer: &str) -> Code {
    let (_, after) = answer.split_once("grpc-status:").expect(answer);
    let digits = after.trim_start().split(|it: char| !it.is_ascii_digit()).next().unwrap();
    digits.parse::<i32>().unwrap().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_is_answered_over_http_1() {
    let shop = Shop::open().await;
    let program = Program::start(&shop.db);
    let place = "/shop.orders.v1.OrderService/PlaceOrder";
    let request = prost::Message::encode_to_vec(&wants(&[("tv", 1)]));
    let answer = from_a_browser(&program.address, place, "", &request).await;
    assert_eq!(status(&answer), Code::Ok, "{answer}");
    assert!(answer.contains("x-trace-id: "), "{answer}");
    assert_eq!(shop.count("orders").await, 1);
    // An error comes as well-formed.
    let answer = from_a_browser(&program.address, place, "", &[]).await;
    assert_eq!(status(&answer), Code::InvalidArgument, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_calls_are_understood() {
    let shop = Shop::open().await;
    let program = Program::start(&shop.db);
    let channel = program.channel().await;
    let mut client =
        OrderServiceClient::new(channel.clone()).send_compressed(Gzip).accept_compressed(Gzip);
    let answer = client.place_order(wants(&[("tv", 1)])).await.unwrap();
    assert_eq!(answer.metadata().get("grpc-encoding").unwrap(), "gzip");
    // Also where an operator asks.
    let mut operations = OperationsServiceClient::new(channel).send_compressed(Gzip);
    let lag = operations.get_lag(GetLagRequest {}).await.unwrap().into_inner();
    assert_eq!(lag.outbox_rows, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_named_and_so_is_what_to_do() {
    let shop = Shop::open().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut child = command(&shop.db, port).spawn().unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("LISTEN"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_follows_the_database() {
    let shop = Shop::open().await;
    let pages = free_port();
    let program = Program::with(&shop.db, |command| {
        command.env("METRICS_LISTEN", format!("127.0.0.1:{pages}"));
    });
    let page = async |path: &str| {
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", pages)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(page("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(page("/readyz").await.starts_with("HTTP/1.1 200"));
    let mut client = OrderServiceClient::new(program.channel().await);
    client.place_order(wants(&[("tv", 1)])).await.unwrap();
    assert!(page("/metrics").await.contains("rpc_server_call_duration"));

    let name = shop.db.options.get_database().unwrap().to_owned();
    let postgres = shop.db.options.clone().database("postgres");
    let mut server = sqlx::PgConnection::connect_with(&postgres).await.unwrap();
    let allow = async |server: &mut sqlx::PgConnection, allowed: bool| {
        let alter = format!("alter database {name} allow_connections {allowed}");
        sqlx::query(sqlx::AssertSqlSafe(alter)).execute(&mut *server).await.unwrap();
    };
    allow(&mut server, false).await;
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1")
        .bind(&name)
        .execute(&mut server)
        .await
        .unwrap();
    in_time(async { while page("/readyz").await.starts_with("HTTP/1.1 200") {} }).await;
    let status = client.place_order(wants(&[("tv", 1)])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    allow(&mut server, true).await;
    in_time(async { while !page("/readyz").await.starts_with("HTTP/1.1 200") {} }).await;
    in_time(async { while client.place_order(wants(&[("tv", 1)])).await.is_err() {} }).await;
    program.signal(Signal::SIGTERM);
    drop(client);
    assert!(in_time(program.ended()).await.success());
}
