//! The orchestrator: drives the sagas of orders that are pinned to orchestration. It asks, the participants answer, and
//! orders decides; what each saga does is data, in [`order`], weighed by one pure engine, in [`saga`].

pub mod config;

pub mod api;
pub mod definition;
pub mod order;
pub mod saga;

pub mod book;
pub mod definitions;
pub mod error;
pub mod filter;
pub mod patience;
pub mod policies;
pub mod retries;
pub mod row;
pub mod store;
pub mod validate;
pub mod watch;
pub mod wire;

use chassis::{
    cause::Coordination,
    inbox::Inbox,
    saga as sagas,
    service::{LARGEST_MESSAGE, Service},
    watch as watches,
};
use proto::orchestrator::v1::saga_service_server::SagaServiceServer;
use sqlx::migrate::Migrator;
use tonic::codec::CompressionEncoding::Gzip;

use crate::{book::Book, patience::Patience};

/// The service's name: the source of its commands and the consumer in its trail.
pub const NAME: &str = "orchestrator";

/// The service's own tables.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/orchestrator");

/// Everything the orchestrator reacts to, of the orders that it drives.
pub fn inbox(patience: Patience) -> Inbox<Book> {
    order::hears(Inbox::new(NAME).only(Coordination::Orchestration), patience)
}

/// Runs the service until it is told to stop. Errors: what it needs and cannot have, or which task died of what.
pub async fn start(config: config::Config) -> anyhow::Result<()> {
    let patience = config.patience();
    let service = Service::boot(NAME, config.service, &MIGRATIONS).await?;
    let (watchers, lookout) = watches::open(service.pool());
    let retries = retries::run(service.pool(), service.doorbell(), patience, service.shutdown());
    let lookout = lookout.run(service.shutdown());
    let parked = sagas::watch_parked(service.pool(), store::PARKED, service.shutdown());
    let api = api::Api { pool: service.pool(), doorbell: service.doorbell(), watchers, patience };
    let server = SagaServiceServer::new(api)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .accept_compressed(Gzip)
        .send_compressed(Gzip);
    service
        .answers(server)
        .reacts(inbox(patience))?
        .works("watches", lookout)
        .works("retries", retries)
        .works("parked sagas", parked)
        .run()
        .await
}
