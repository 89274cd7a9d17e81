//! The supplier: goods come and go beside the orders, so that stock does not move by them alone.

use std::sync::Arc;

use proto::products::v1::{AdjustStockRequest, product_service_client::ProductServiceClient};
use tonic::transport::Channel;

use crate::{arena::Arena, customer::insist, tally::Tally};

/// Adjusts the stock of a product once, however often that has to be asked for, and writes it down.
pub async fn adjust(
    arena: Arc<Arena>,
    products: ProductServiceClient<Channel>,
    request: AdjustStockRequest,
    tally: Arc<Tally>,
) {
    let adjusted = insist(&tally, || {
        let (mut products, request) = (products.clone(), request.clone());
        async move { products.adjust_stock(request).await }
    });
    if adjusted.await.is_ok() {
        arena.ledger.stocked(&request.product_id, request.delta);
        tally.count("stock adjusted");
    }
}
