//! Who hears what: asked of the inboxes that run in production.

use std::{collections::HashMap, time::Duration};

use chassis::{cause::Coordination, switches::Switch};
use orchestrator::patience::Patience;

use crate::message::Body;

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// The register of decisions.
    Orders,
    /// The stock.
    Products,
    /// The deliveries.
    Delivery,
    /// The sagas.
    Orchestrator,
}

/// The services that react to a type of message.
#[derive(Clone, Debug)]
pub struct Routes(HashMap<&'static str, Vec<Service>>);

impl Routes {
    /// As the inboxes have it.
    pub fn of_production() -> Self {
        let patience = Patience { first: Duration::ZERO, longest: Duration::ZERO, attempts: 1 };
        let (orders, products) = (orders::inbox(), products::inbox());
        let delivery = delivery::inbox(delivery::domain::Carriers::default(), Switch::new(false));
        let orchestrator = orchestrator::inbox(patience);
        let hears = |event_type: &str| {
            let all = [
                (Service::Orders, orders.hears(event_type)),
                (Service::Products, products.hears(event_type)),
                (Service::Delivery, delivery.hears(event_type)),
                (Service::Orchestrator, orchestrator.hears(event_type)),
            ];
            all.into_iter().filter_map(|(service, hears)| hears.then_some(service)).collect()
        };
        let kinds = Body::ALL.into_iter().map(Body::kind);
        Self(kinds.map(|kind| (kind.name, hears(&(kind.full_name)()))).collect())
    }

    /// Who gets a message about an order that is pinned so. Whoever would pass over it does not.
    pub fn receivers(&self, body: Body, pinned: Coordination) -> impl Iterator<Item = Service> {
        let commanded = Coordination::is_commanded(Some(pinned));
        let all = self.0.get(body.kind().name).into_iter().flatten().copied();
        all.filter(move |service| match service {
            Service::Orchestrator => commanded,
            Service::Orders | Service::Products | Service::Delivery => {
                body.is_command() || !commanded
            }
        })
    }
}
