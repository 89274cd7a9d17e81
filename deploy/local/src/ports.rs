//! Loopback ports: which are wanted, which are taken, which are free. All are checked before anything is started.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use clap::Args;
use rand::Rng as _;

use crate::error::{Error, Result, TakenPort};
use crate::process::Part;

/// A service answers /metrics and /healthz this far above its gRPC port.
const METRICS_OFFSET: u16 = 1000;
/// Below the ports that the kernel hands out to outgoing connections, which come and go at any time.
const FREE_RANGE: std::ops::Range<u16> = 20_000..31_000;

/// Where everything listens, on loopback. 0 means any free port.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Ports (0 is any free one)")]
pub struct Ports {
    /// Postgres.
    #[arg(id = "postgres-port", long, env = "SETTLE_POSTGRES_PORT", default_value_t = 54329)]
    pub postgres: u16,
    /// Kafka.
    #[arg(id = "kafka-port", long, env = "SETTLE_KAFKA_PORT", default_value_t = 9092)]
    pub kafka: u16,
    /// Jaeger's pages and API.
    #[arg(id = "jaeger-port", long, env = "SETTLE_JAEGER_PORT", default_value_t = 16686)]
    pub jaeger: u16,
    /// Where Jaeger takes spans by OTLP.
    #[arg(id = "otlp-port", long, env = "SETTLE_OTLP_PORT", default_value_t = 4317)]
    pub otlp: u16,
    /// The relay's metrics and health.
    #[arg(id = "relay-port", long, env = "SETTLE_RELAY_PORT", default_value_t = 9464)]
    pub relay: u16,
    /// The gRPC calls of products; its metrics are 1000 above.
    #[arg(id = "products-port", long, env = "SETTLE_PRODUCTS_PORT", default_value_t = 8085)]
    pub products: u16,
    /// The gRPC calls of delivery; its metrics are 1000 above.
    #[arg(id = "delivery-port", long, env = "SETTLE_DELIVERY_PORT", default_value_t = 8082)]
    pub delivery: u16,
    /// The gRPC calls of the orchestrator; its metrics are 1000 above.
    #[arg(
        id = "orchestrator-port",
        long,
        env = "SETTLE_ORCHESTRATOR_PORT",
        default_value_t = 8083
    )]
    pub orchestrator: u16,
    /// The gRPC calls of orders; its metrics are 1000 above.
    #[arg(id = "orders-port", long, env = "SETTLE_ORDERS_PORT", default_value_t = 8081)]
    pub orders: u16,
    /// The web page; its metrics are 1000 above.
    #[arg(id = "storefront-port", long, env = "SETTLE_STOREFRONT_PORT", default_value_t = 8080)]
    pub storefront: u16,
}

impl Ports {
    /// Any free ones.
    pub const FREE: Self = Self {
        postgres: 0,
        kafka: 0,
        jaeger: 0,
        otlp: 0,
        relay: 0,
        products: 0,
        delivery: 0,
        orchestrator: 0,
        orders: 0,
        storefront: 0,
    };

    /// Every 0 replaced by a free port.
    pub(crate) fn chosen(&self) -> Self {
        Self {
            postgres: or_free(self.postgres),
            kafka: or_free(self.kafka),
            jaeger: or_free(self.jaeger),
            otlp: or_free(self.otlp),
            relay: or_free(self.relay),
            products: or_free(self.products),
            delivery: or_free(self.delivery),
            orchestrator: or_free(self.orchestrator),
            orders: or_free(self.orders),
            storefront: or_free(self.storefront),
        }
    }

    /// The port a part answers its clients on; the relay has only the other one.
    pub fn of(&self, part: Part) -> u16 {
        match part {
            Part::Postgres => self.postgres,
            Part::Kafka => self.kafka,
            Part::Jaeger => self.jaeger,
            Part::Relay => self.relay,
            Part::Products => self.products,
            Part::Delivery => self.delivery,
            Part::Orchestrator => self.orchestrator,
            Part::Orders => self.orders,
            Part::Storefront => self.storefront,
        }
    }

    /// The port a part answers /metrics and its health on, where it does.
    pub fn metrics_of(&self, part: Part) -> Option<u16> {
        match part {
            Part::Postgres | Part::Kafka | Part::Jaeger => None,
            Part::Relay => Some(self.relay),
            Part::Products
            | Part::Delivery
            | Part::Orchestrator
            | Part::Orders
            | Part::Storefront => Some(self.of(part).saturating_add(METRICS_OFFSET)),
        }
    }

    /// Fails with all ports these parts want and something else listens on.
    pub(crate) fn check(&self, parts: &[Part]) -> Result<()> {
        let wanted = parts.iter().flat_map(|&part| self.wanted(part));
        let taken: Vec<_> = wanted.filter(|wanted| !is_free(wanted.port)).collect();
        if taken.is_empty() { Ok(()) } else { Err(Error::PortsTaken(taken)) }
    }

    fn wanted(&self, part: Part) -> impl Iterator<Item = TakenPort> {
        let (port, flag) = (self.of(part), flag(part));
        let metrics = self.metrics_of(part).filter(|&metrics| metrics != port);
        let metrics = metrics.map(|port| TakenPort { port, what: "metrics of ", part, flag });
        let otlp = TakenPort { port: self.otlp, what: "OTLP of ", part, flag: "--otlp-port" };
        let otlp = (part == Part::Jaeger).then_some(otlp);
        [Some(TakenPort { port, what: "", part, flag }), metrics, otlp].into_iter().flatten()
    }
}

const fn flag(part: Part) -> &'static str {
    match part {
        Part::Postgres => "--postgres-port",
        Part::Kafka => "--kafka-port",
        Part::Jaeger => "--jaeger-port",
        Part::Relay => "--relay-port",
        Part::Products => "--products-port",
        Part::Delivery => "--delivery-port",
        Part::Orchestrator => "--orchestrator-port",
        Part::Orders => "--orders-port",
        Part::Storefront => "--storefront-port",
    }
}

/// The port itself, or a free one where it is 0; then the one 1000 above is free as well.
pub(crate) fn or_free(port: u16) -> u16 {
    /// Given out by this process: what was chosen need not be listened on yet.
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    if port != 0 {
        return port;
    }
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut random = rand::rng();
    loop {
        let port = random.random_range(FREE_RANGE);
        let both = [port, port + METRICS_OFFSET];
        if both.iter().all(|port| !given.contains(port) && is_free(*port)) {
            given.extend(both);
            return port;
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
