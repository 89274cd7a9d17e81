//! What all visitors see alike: the catalogue with its stock, and which services are away. Asked once for all who look, and
//! only while somebody does.

use std::{sync::Arc, time::Duration};

use askama::Template;
use chassis::telemetry::TraceContext;
use futures::future::join_all;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    page::{amount, grouped},
    service::Service,
    shop::Shop,
    texts::Texts,
};

/// How old what is seen may be.
const EVERY: Duration = Duration::from_millis(400);

/// A product, as it is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) product_id: String,
    pub(crate) name: String,
    pub(crate) price: String,
    pub(crate) stock: i64,
}

/// The shop at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outlook {
    pub(crate) offers: Vec<Offer>,
    /// products could not be asked: the offers are those that orders knows of.
    pub(crate) from_replica: bool,
    /// Nobody could be asked.
    pub(crate) blind: bool,
    pub(crate) away: Vec<Service>,
}

impl Outlook {
    /// Asks now.
    pub(crate) async fn look(shop: &Shop, trace: &TraceContext) -> Self {
        let (up, live) = tokio::join!(
            join_all(Service::ALL.map(|service| shop.is_up(service))),
            shop.catalogue(trace)
        );
        let away = Service::ALL.into_iter().zip(up).filter(|(_, up)| !up).map(|(it, _)| it);
        let away = away.collect();
        if let Ok(products) = live {
            let offers = products.into_iter().map(|product| Offer {
                price: amount(product.price.as_ref()),
                product_id: product.product_id,
                name: product.name,
                stock: product.stock,
            });
            return Self { offers: offers.collect(), away, ..Self::default() };
        }
        let replica = shop.replica(trace).await;
        let blind = replica.is_err();
        let offers = replica.unwrap_or_default().into_iter().map(|product| Offer {
            price: amount(product.price.as_ref()),
            product_id: product.product_id,
            name: product.name,
            stock: product.stock,
        });
        Self { offers: offers.collect(), from_replica: true, blind, away }
    }
}

/// Tells everybody who looks what there is to see.
#[derive(Clone, Debug)]
pub(crate) struct Outlooks {
    seen: watch::Sender<Arc<Outlook>>,
    arrival: Arc<Notify>,
}

impl Default for Outlooks {
    fn default() -> Self {
        Self { seen: watch::Sender::new(Arc::default()), arrival: Arc::default() }
    }
}

impl Outlooks {
    /// What is seen from now on; nothing that was seen before.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<Outlook>> {
        let mut follower = self.seen.subscribe();
        follower.mark_unchanged();
        self.arrival.notify_one();
        follower
    }

    /// Looks again and again while anybody follows.
    pub(crate) async fn run(self, shop: Shop, shutdown: CancellationToken) -> anyhow::Result<()> {
        let trace = TraceContext::random();
        while !shutdown.is_cancelled() {
            let next = async {
                if self.seen.receiver_count() == 0 {
                    self.arrival.notified().await;
                }
                self.seen.send_replace(Arc::new(Outlook::look(&shop, &trace).await));
                tokio::time::sleep(EVERY).await;
            };
            tokio::select! {
                () = next => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }
}

/// How many there are.
#[derive(Template)]
#[template(path = "stock.html")]
pub(crate) struct Stock {
    pub(crate) t: &'static Texts,
    pub(crate) pieces: i64,
}

impl askama::filters::HtmlSafe for Stock {}

impl Stock {
    fn written(&self) -> String {
        grouped(self.pieces.unsigned_abs())
    }
}

/// Who does not answer, and what that means.
#[derive(Template)]
#[template(path = "away.html")]
pub(crate) struct Away {
    pub(crate) t: &'static Texts,
    pub(crate) services: Vec<Service>,
}

impl askama::filters::HtmlSafe for Away {}

impl Away {
    fn meaning(&self, service: &Service) -> &'static str {
        match service {
            Service::Orders => self.t.away_orders,
            Service::Products => self.t.away_products,
            Service::Delivery => self.t.away_delivery,
            Service::Orchestrator => self.t.away_orchestrator,
        }
    }
}
