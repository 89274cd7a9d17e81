//! The service `orders`: takes orders, and is the one register of decisions about them.

pub mod config;

pub mod api;
pub mod domain;
pub mod order;
pub mod policies;

pub mod book;
pub mod catalogue;
pub mod commands;
pub mod comparison;
pub mod deadline;
pub mod error;
pub mod filter;
pub mod intake;
pub mod participants;
pub mod placement;
pub mod reconciler;
pub mod remedy;
pub mod repetition;
pub mod stock_check;
pub mod store;
pub mod validate;
pub mod watch;
pub mod wire;

use chassis::{
    inbox::Inbox,
    saga,
    service::{LARGEST_MESSAGE, Service},
    watch as watches,
};
use proto::orders::v1::order_service_server::OrderServiceServer;
use tonic::{
    codec::CompressionEncoding::Gzip,
    transport::{Channel, Uri},
};

use crate::{
    api::Api,
    book::Book,
    participants::Participants,
    policies::{
        CancelWhenDeliveryCancelled, CancelWhenDeliveryFailed, CancelWhenOutOfStock,
        CompleteWhenDelivered, NoteDeliveryStarted, NoteStockReserved, RefuseCancel,
        ReplicateProduct,
    },
    reconciler::Reconciler,
};

/// The service's own tables.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/orders");

/// What orders reacts to, and the commands it obeys.
pub fn inbox() -> Inbox<Book> {
    Inbox::new("orders")
        .on(NoteStockReserved)
        .on(NoteDeliveryStarted)
        .on(CancelWhenOutOfStock)
        .on(CancelWhenDeliveryFailed)
        .on(CancelWhenDeliveryCancelled)
        .on(RefuseCancel)
        .on(CompleteWhenDelivered)
        .on(ReplicateProduct)
        .on(commands::ConfirmOrder)
        .on(commands::CancelOrder)
        .on(commands::RefuseCancel)
        .on(commands::CompleteOrder)
}

/// Runs the service until it is told to stop. Errors: what it needs and cannot have, or which task died of what.
pub async fn start(config: config::Config) -> anyhow::Result<()> {
    let service = Service::boot("orders", config.service, &MIGRATIONS).await?;
    let (intake, clerk) = intake::open(service.pool(), service.doorbell());
    let (watchers, lookout) = watches::open(service.pool());
    let deadlines = deadline::run(service.pool(), service.doorbell(), service.shutdown());
    let unsettled = saga::watch(service.pool(), store::UNSETTLED, service.shutdown());
    let lookout = lookout.run(service.shutdown());
    // Connected when they are first needed, and again when the other comes back.
    let connect =
        |to: Uri| Channel::builder(to).connect_timeout(config.live_check_timeout).connect_lazy();
    let (products, delivery) = (connect(config.products_url), connect(config.delivery_url));
    let participants = Participants::new(products.clone(), delivery);
    let (pool, doorbell) = (service.pool(), service.doorbell());
    let reconciler = Reconciler::new(pool, doorbell, participants, config.reconcile_after)
        .run(config.reconcile_every, service.shutdown());
    let api = Api {
        pool: service.pool(),
        doorbell: service.doorbell(),
        intake,
        watchers,
        stock_check: config.stock_check,
        products: stock_check::StockCheck::new(products, config.live_check_timeout),
        coordination: config.coordination,
        deadline: config.deadline,
    };
    let orders = OrderServiceServer::new(api)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .accept_compressed(Gzip)
        .send_compressed(Gzip);
    service
        .answers(orders)
        .reacts(inbox())?
        .works("intake", clerk.run())
        .works("watches", lookout)
        .works("order deadlines", deadlines)
        .works("unsettled orders", unsettled)
        .works("reconciler", reconciler)
        .run()
        .await
}
