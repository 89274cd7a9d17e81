//! What the processes answer by HTTP.

use anyhow::Context as _;
use local::Part;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::shop::Shop;

/// The body of a page.
pub(crate) async fn page(shop: &Shop, part: Part, path: &str) -> anyhow::Result<String> {
    let url = shop.stack.http_url(part).context("it has pages")?;
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
    Ok(body.to_owned())
}
