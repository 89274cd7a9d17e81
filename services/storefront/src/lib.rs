//! The storefront: the web page of the shop, where people order and watch it settle. A client of the services like any other,
//! with no database; what it shows is theirs, and it says which of them is away.

pub mod config;

mod card;
mod catalogue;
mod chain;
mod live;
mod operator;
mod orders;

mod failure;
mod form;
mod guard;
mod hall;
mod outlook;
mod page;
mod service;
mod shop;
mod visitor;

mod assets;
#[cfg(test)]
mod contrast;
mod language;
mod texts;

use axum::{
    Router, middleware,
    routing::{get, post},
};
use chassis::site::Site;

use crate::hall::Hall;

/// Runs the site until it is told to stop. Errors: what is wrong with its configuration, or which task died of what.
pub async fn start(config: config::Config) -> anyhow::Result<()> {
    let site = Site::boot("storefront", config.site.clone())?;
    let hall = Hall::new(&config, &site);
    let outlooks = hall.outlooks.clone().run(hall.shop.clone(), site.shutdown());
    let (streams, shutdown) = (hall.tasks.clone(), site.shutdown());
    let streams = async move {
        shutdown.cancelled().await;
        streams.close();
        streams.wait().await;
        Ok(())
    };
    site.works("outlooks", outlooks).works("live updates", streams).run(pages(hall)).await
}

/// Every page, and what is sent from it.
fn pages(hall: Hall) -> Router {
    let mut pages = Router::new()
        .route("/", get(catalogue::page))
        .route("/live", get(live::catalogue))
        .route("/orders", get(orders::list).post(catalogue::place))
        .route("/orders/live", get(live::orders))
        .route("/orders/{order_id}", get(orders::page))
        .route("/orders/{order_id}/live", get(live::order))
        .route("/orders/{order_id}/cancel", post(orders::cancel));
    if hall.operator {
        pages = pages
            .route("/operator", get(operator::page))
            .route("/operator/live", get(live::operator))
            .route("/operator/orders/{order_id}", get(orders::operators_page))
            .route("/operator/orders/{order_id}/live", get(live::operators_order))
            .route("/operator/deliveries/{order_id}/{act}", post(operator::deliver))
            .route("/operator/parked/{service}/{act}", post(operator::redrive))
            .route("/operator/switches/{service}", post(operator::turn));
    }
    pages
        .fallback(failure::nowhere)
        .layer(middleware::from_fn_with_state(hall.clone(), visitor::recognise))
        .route("/static/{name}", get(assets::file))
        .layer(middleware::from_fn_with_state(hall.clone(), guard::guard))
        .with_state(hall)
}
