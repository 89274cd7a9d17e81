//! Deliveries: opens one for every order it hears of or is told of, and arbitrates between cancelling and shipping.
//! Its row decides that race, in the one pure state machine of [`domain`].

pub mod config;

pub mod api;
pub mod commands;
pub mod domain;
pub mod parcel;
pub mod policies;

pub mod book;
pub mod error;
pub mod events;
pub mod store;
pub mod validate;
pub mod wire;

use chassis::{
    inbox::Inbox,
    service::{LARGEST_MESSAGE, Service},
    switches::Switch,
};
use proto::delivery::v1::delivery_service_server::DeliveryServiceServer;
use sqlx::migrate::Migrator;
use tonic::codec::CompressionEncoding::Gzip;

use crate::{book::Book, domain::Carriers};

/// The service's name: the source of its events and the consumer in its trail.
pub const NAME: &str = "delivery";

/// The service's own tables.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/delivery");

/// Runs the service until it is told to stop. Errors: what it needs and cannot have, or which task died of what.
pub async fn start(config: config::Config) -> anyhow::Result<()> {
    let mut service = Service::boot(NAME, config.service, &MIGRATIONS).await?;
    let api = api::Api { pool: service.pool(), doorbell: service.doorbell() };
    let deliveries = DeliveryServiceServer::new(api)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .accept_compressed(Gzip)
        .send_compressed(Gzip);
    let carriers = Carriers { none_to: config.no_carrier };
    let refuse = service.switch("refuse", false);
    service.answers(deliveries).reacts(inbox(carriers, refuse))?.run().await
}

/// Every event delivery reacts to, and every command it obeys; while `refuse` is on, no carrier takes anything.
pub fn inbox(carriers: Carriers, refuse: Switch) -> Inbox<Book> {
    Inbox::new(NAME)
        .on(policies::OpenDelivery { carriers: carriers.clone(), refuse: refuse.clone() })
        .on(policies::ReadyDelivery)
        .on(policies::ArbitrateCancel)
        .on(policies::CancelDelivery)
        .on(commands::StartDelivery { carriers, refuse })
        .on(commands::ReadyDelivery)
        .on(commands::CancelDelivery)
}
