//! The delivery service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    delivery::start().await
}
