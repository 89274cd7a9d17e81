//! Deliveries: opens one for every order it hears of, and arbitrates between cancelling and shipping.
//! Its row decides that race, in the one pure state machine of [`domain`].

use chassis::{
    inbox::Inbox,
    service::{LARGEST_MESSAGE, Service},
};
use clap::Parser as _;
use proto::delivery::v1::delivery_service_server::DeliveryServiceServer;
use sqlx::migrate::Migrator;
use tonic::codec::CompressionEncoding;

pub mod config;
pub mod domain;
pub mod parcel;

pub mod api;
pub mod policies;

pub mod error;
pub mod events;
pub mod store;
pub mod wire;

/// The service's name: the source of its events and the consumer in its trail.
pub const NAME: &str = "delivery";

/// The service's own tables.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/delivery");

/// Runs the service until it is told to stop. Errors: why it could not start, or what died.
pub async fn start() -> anyhow::Result<()> {
    let config = config::Config::parse();
    let service = Service::boot(NAME, config.shared, &MIGRATIONS).await?;
    let api = api::Api { pool: service.pool(), doorbell: service.doorbell() };
    let calls = DeliveryServiceServer::new(api)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .accept_compressed(CompressionEncoding::Gzip);
    service
        .answers(calls)
        .reacts(inbox(domain::Carriers { none_to: config.no_carrier }))?
        .run()
        .await
}

/// Every event delivery reacts to.
pub fn inbox(carriers: domain::Carriers) -> Inbox<store::Book> {
    Inbox::new(NAME)
        .on(policies::OpenDelivery { carriers })
        .on(policies::ReadyDelivery)
        .on(policies::ArbitrateCancel)
        .on(policies::CancelDelivery)
}
