//! What may happen: how many orders there are, who acts, and what the network does.

use chassis::cause::Coordination;

use crate::network::Network;

/// What may happen.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name in tables.
    pub name: &'static str,
    /// How each order is coordinated. All of them want one piece of the one product.
    pub orders: Vec<Coordination>,
    /// Pieces in stock at the start: each of these is tried.
    pub stocks: Vec<u8>,
    /// What the network may do.
    pub network: Network,
    /// Who acts, at any moment.
    pub actors: Actors,
}

/// Who acts beside the services.
#[derive(Clone, Copy, Debug, Default)]
pub struct Actors {
    /// The customer may cancel.
    pub customer: bool,
    /// The deadline may pass.
    pub deadline: bool,
    /// The warehouse may dispatch and complete.
    pub warehouse: bool,
    /// A delivery may fail, and there may be no carrier for it.
    pub failure: bool,
    /// How often the orchestrator may lose its patience with each order.
    pub impatience: u8,
    /// An operator may give a saga up, and let a parked one go on.
    pub operator: bool,
    /// The client may click again.
    pub client: bool,
    /// orders hears of the product's changes.
    pub replica: bool,
}

impl Actors {
    /// Everybody who decides about an order.
    pub const ALL: Self = Self {
        customer: true,
        deadline: true,
        warehouse: true,
        failure: true,
        impatience: 1,
        operator: false,
        client: false,
        replica: false,
    };

    /// Those who race with each other over the last piece.
    pub const RACE: Self = Self { customer: true, warehouse: true, ..Self::NONE };

    /// Nobody: the services are left alone.
    pub const NONE: Self = Self {
        customer: false,
        deadline: false,
        warehouse: false,
        failure: false,
        impatience: 0,
        operator: false,
        client: false,
        replica: false,
    };
}

/// What is looked at as it is in production; `full` takes minutes and gigabytes.
pub fn all(full: bool) -> Vec<Scenario> {
    use Coordination::{Choreography, Orchestration};

    let mut all = Vec::new();
    for (name, style) in
        [("one order, choreography", Choreography), ("one order, orchestration", Orchestration)]
    {
        all.extend(Network::ALL.map(|it| Scenario::of(name, &[style], it, Actors::ALL)));
    }
    let races = [
        ("two orders race, choreography", [Choreography; 2]),
        ("two orders race, one of each style", [Choreography, Orchestration]),
        ("two orders race, orchestration", [Orchestration; 2]),
    ];
    for (name, orders) in races {
        let once = [Network::Fifo, Network::Reordering];
        let networks = Network::ALL.into_iter().filter(|it| full || once.contains(it));
        all.extend(networks.map(|it| Scenario::of(name, &orders, it, Actors::RACE)));
    }
    if full {
        let operator = Actors { operator: true, ..Actors::ALL };
        let name = "one order, orchestration, and an operator";
        all.extend(Network::ALL.map(|it| Scenario::of(name, &[Orchestration], it, operator)));
        let name = "two orders, choreography, everybody acts";
        all.extend(Network::ALL.map(|it| Scenario::of(name, &[Choreography; 2], it, Actors::ALL)));
        // Of two orders that sagas drive, commands that are sent again would be too many states.
        let patient = Actors { impatience: 0, ..Actors::ALL };
        let name = "two orders, one of each style, everybody acts";
        let mixed = [Choreography, Orchestration];
        all.extend(Network::ALL.map(|it| Scenario::of(name, &mixed, it, patient)));
        let name = "two orders, orchestration, everybody acts";
        let networks = Network::ALL.into_iter().filter(|it| *it != Network::Duplicating);
        all.extend(networks.map(|it| Scenario::of(name, &[Orchestration; 2], it, patient)));
    }
    all
}

impl Scenario {
    /// With no more pieces in stock than orders, down to none.
    fn of(name: &'static str, orders: &[Coordination], network: Network, actors: Actors) -> Self {
        let stocks = (0..=orders.len() as u8).collect();
        Self { name, orders: orders.to_vec(), stocks, network, actors }
    }
}
