//! What the processes answer by HTTP.

use anyhow::Context as _;
use local::Part;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::shop::{Shop, until};

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

/// The sum of a metric's samples.
pub(crate) async fn metric(shop: &Shop, part: Part, name: &str) -> anyhow::Result<f64> {
    let text = page(shop, part, "/metrics").await?;
    let samples = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let values = samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.reduce(|one, other| one + other).with_context(|| format!("{part:?} has no {name}"))
}

/// Waits until a metric's value is as it should be.
pub(crate) async fn until_metric(
    shop: &Shop,
    part: Part,
    name: &str,
    is_so: impl Fn(f64) -> bool,
) -> anyhow::Result<()> {
    until(&format!("{part:?} shows it in {name}"), async || {
        let value = metric(shop, part, name).await?;
        anyhow::ensure!(is_so(value), "{name} is {value}");
        Ok(())
    })
    .await
}
