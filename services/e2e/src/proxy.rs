//! A TCP proxy to stand in a connection: it cuts what goes through it, or slows it down, and keeps on listening.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
};

#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    /// Connections that were there before the last cut are no more.
    cuts: u64,
    /// How long each piece is held back.
    delay: Duration,
}

/// A proxy on loopback; it listens until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    weather: watch::Sender<Weather>,
    server: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Proxy {
    /// Listens on a free port, for a server on another port of loopback, which need not be there yet.
    pub async fn open(target: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (weather, seen) = watch::channel(Weather::default());
        #[expect(clippy::disallowed_methods, reason = "it is aborted when this is dropped")]
        let server = tokio::spawn(serve(listener, target, seen)).abort_handle();
        Ok(Self { port, weather, server })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection, in the middle of whatever it carries. New ones are let through.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Holds back each piece that goes through for so long, in both directions; zero lets it flow again.
    pub fn slow(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }
}

async fn serve(listener: TcpListener, target: u16, weather: watch::Receiver<Weather>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                connections.spawn(carry(client, target, weather.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(client: TcpStream, target: u16, mut weather: watch::Receiver<Weather>) {
    let cuts = weather.borrow().cuts;
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let there = pump(from_client, to_server, weather.clone());
    let back = pump(from_server, to_client, weather.clone());
    tokio::select! {
        _ = weather.wait_for(|now| now.cuts != cuts) => {}
        // An error on one side is the end of both.
        _ = async { tokio::try_join!(there, back) } => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    weather: watch::Receiver<Weather>,
) -> std::io::Result<()> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        let delay = weather.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        to.write_all(&piece[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        port
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn what_is_cut_ends_and_a_new_connection_gets_through() {
        let proxy = Proxy::open(echo().await).await.unwrap();
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()));
        let mut before = connect().await.unwrap();
        assert_eq!(&ask(&mut before).await.unwrap(), b"ping");
        proxy.cut();
        // The end may be seen by the write or by the read.
        let ended = async { while ask(&mut before).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap();
        assert_eq!(&ask(&mut connect().await.unwrap()).await.unwrap(), b"ping");
    }

    #[tokio::test]
    async fn what_is_slowed_takes_its_time_in_both_directions() {
        let proxy = Proxy::open(echo().await).await.unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap();
        proxy.slow(Duration::from_millis(100));
        let asked = Instant::now();
        ask(&mut stream).await.unwrap();
        assert!(asked.elapsed() >= Duration::from_millis(200), "{:?}", asked.elapsed());
    }
}
