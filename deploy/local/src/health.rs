//! Is it ready? Asked of a gRPC service by the standard health protocol, of the relay by HTTP.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Whether the gRPC server on that loopback port says it is serving.
pub(crate) async fn serves_grpc(port: u16) -> bool {
    let Ok(channel) = channel(&format!("http://127.0.0.1:{port}")) else { return false };
    let answer =
        HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await;
    answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving)
}

/// Whether GET /readyz on that loopback port answers 200.
pub(crate) async fn ready_by_http(port: u16) -> bool {
    answers_ok(port, "/readyz").await
}

/// Whether GET of that path on that loopback port answers 200.
pub(crate) async fn answers_ok(port: u16, path: &str) -> bool {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let ask = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    ask.await.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

/// A channel that connects when it is first used.
pub(crate) fn channel(url: &str) -> Result<Channel, tonic::transport::Error> {
    use std::time::Duration;
    let endpoint = Endpoint::from_shared(url.to_owned())?;
    Ok(endpoint.connect_timeout(Duration::from_secs(2)).connect_lazy())
}
