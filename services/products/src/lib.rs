//! The catalogue and its stock: answers calls about them, and reserves stock for orders as it hears of them or is told to. The stock
//! comes and goes only together with the reservation row that says why, or with a call.

pub mod api;
pub mod book;
pub mod commands;
pub mod config;
pub mod domain;
pub mod error;
pub mod lines;
pub mod policies;
pub mod product;
pub mod store;
pub mod validate;
pub mod wire;

use chassis::{
    inbox::Inbox,
    service::{LARGEST_MESSAGE, Service},
};
use proto::products::v1::product_service_server::ProductServiceServer;
use sqlx::migrate::Migrator;
use tonic::codec::CompressionEncoding;

/// This service's name: the source of its events, the consumer in its trail, its group in Kafka.
pub const SERVICE: &str = "products";

/// The tables of this service.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/products");

/// Runs the service until it is told to stop. Errors: what keeps it from starting, or which part of it died.
pub async fn start(config: config::Config) -> anyhow::Result<()> {
    let service = Service::boot(SERVICE, config.service, &MIGRATIONS).await?;
    let api = api::Api::new(service.pool(), service.doorbell());
    let calls = ProductServiceServer::new(api)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    service.answers(calls).reacts(inbox())?.run().await
}

/// What this service reacts to, and the commands it obeys.
pub fn inbox() -> Inbox<book::Book> {
    Inbox::new(SERVICE)
        .on(policies::OrderPlaced)
        .on(policies::OrderCancelled)
        .on(commands::ReserveStock)
        .on(commands::ReleaseStock)
}
