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
    let (_, body) = get(url.trim_start_matches("http://"), path).await?;
    Ok(body)
}

/// The status and the body that a server answers; by HTTP/1.0, so that it comes in one piece.
pub(crate) async fn get(authority: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(authority).await?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
    let status = head.split(' ').nth(1).context("an answer has a status")?;
    Ok((status.parse()?, body.to_owned()))
}
