//! The shop with a proxy of ours in every connection that faults are to hit: services and relay to Postgres, all of them to
//! Kafka, customers, warehouse and supplier to the services.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    time::Duration,
};

use anyhow::Context as _;
use futures::future::try_join_all;
use local::{DataDir, Detour, Options, Part, Progress, SERVICES, Stack};
use proto::{
    delivery::v1::delivery_service_client::DeliveryServiceClient,
    google::r#type::Money,
    operations::v1::operations_service_client::OperationsServiceClient,
    orders::v1::{ListProductReplicasRequest, order_service_client::OrderServiceClient},
    products::v1::{CreateProductRequest, product_service_client::ProductServiceClient},
};
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};

use crate::{ledger::Ledger, proxy::Proxy, sender::Sender};

/// Everything of ours that can be killed.
pub const PROGRAMS: [Part; 5] =
    [Part::Products, Part::Delivery, Part::Orchestrator, Part::Orders, Part::Relay];

/// A caller asks again after so long.
const CALL_LIMIT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection with a proxy in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// Of one program to Postgres.
    Postgres(Part),
    /// Of every program to Kafka.
    Kafka,
    /// Of the callers to one service.
    Calls(Part),
}

impl Link {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Postgres(Part::Products),
        Self::Postgres(Part::Delivery),
        Self::Postgres(Part::Orchestrator),
        Self::Postgres(Part::Orders),
        Self::Postgres(Part::Relay),
        Self::Kafka,
        Self::Calls(Part::Orders),
        Self::Calls(Part::Delivery),
        Self::Calls(Part::Products),
    ];
}

/// The running shop.
#[derive(Debug)]
pub struct Arena {
    /// Its processes.
    pub stack: Stack,
    /// What the outside knows.
    pub ledger: Ledger,
    /// A producer of our own.
    pub sender: Sender,
    proxies: BTreeMap<Link, Proxy>,
}

impl Arena {
    /// Starts everything in a temporary directory, with nothing in the catalogue.
    pub async fn open(progress: &Progress) -> anyhow::Result<Self> {
        let detour = free_port()?;
        let kafka = Proxy::open(detour).await?;
        let advertised = kafka.port();
        let options = Options {
            kafka_detour: Some(Detour { listen: detour, advertised }),
            ..Options::on_free_ports()?
        };
        let stack = Stack::infra(DataDir::temporary()?, &options, progress).await?;
        stack.provision().await?;
        let mut proxies = BTreeMap::from([(Link::Kafka, kafka)]);
        for link in Link::ALL {
            let target = match link {
                Link::Kafka => continue,
                Link::Postgres(_) => port(&stack.database_url(Part::Orders))?,
                Link::Calls(part) => port(&stack.grpc_url(part))?,
            };
            proxies.insert(link, Proxy::open(target).await?);
        }
        lead_through(&stack, &proxies);
        try_join_all(PROGRAMS.map(|part| stack.start(part))).await?;
        let sender = Sender::new(stack.kafka_bootstrap())?;
        Ok(Self { stack, ledger: Ledger::default(), sender, proxies })
    }

    /// Makes a product, and waits until orders has heard of it.
    pub async fn product(&self, product_id: &str, stock: i64) -> anyhow::Result<()> {
        let request = CreateProductRequest {
            product_id: product_id.to_owned(),
            name: "Thing".to_owned(),
            price: Some(Money { currency_code: "KRW".to_owned(), units: 10_000, nanos: 0 }),
            stock,
            ..Default::default()
        };
        let products = straight(&self.stack.grpc_url(Part::Products))?;
        ProductServiceClient::new(products).create_product(request).await?;
        self.ledger.stocked(product_id, stock);
        let mut orders = self.orders_unhurt()?;
        until("orders knows the product", PATIENCE, async || {
            let page = ListProductReplicasRequest { page_size: 1000, ..Default::default() };
            let known = orders.list_product_replicas(page).await?.into_inner().products;
            let known: BTreeSet<_> = known.into_iter().map(|it| it.product_id).collect();
            anyhow::ensure!(known.contains(product_id), "it knows {known:?}");
            Ok(())
        })
        .await
    }

    /// A customer's way to orders.
    pub fn orders(&self) -> anyhow::Result<OrderServiceClient<Channel>> {
        Ok(OrderServiceClient::new(self.call(Part::Orders)?))
    }

    /// A way to orders which no fault hits.
    pub fn orders_unhurt(&self) -> anyhow::Result<OrderServiceClient<Channel>> {
        Ok(OrderServiceClient::new(straight(&self.stack.grpc_url(Part::Orders))?))
    }

    /// The supplier's way to products.
    pub fn products(&self) -> anyhow::Result<ProductServiceClient<Channel>> {
        Ok(ProductServiceClient::new(self.call(Part::Products)?))
    }

    /// The warehouse's way to delivery.
    pub fn delivery(&self) -> anyhow::Result<DeliveryServiceClient<Channel>> {
        Ok(DeliveryServiceClient::new(self.call(Part::Delivery)?))
    }

    /// An operator's way to a service, which no fault hits.
    pub fn operations(&self, part: Part) -> anyhow::Result<OperationsServiceClient<Channel>> {
        Ok(OperationsServiceClient::new(straight(&self.stack.grpc_url(part))?))
    }

    /// The proxy in a connection.
    pub fn proxy(&self, link: Link) -> anyhow::Result<&Proxy> {
        self.proxies.get(&link).context("there is a proxy in every link")
    }

    fn call(&self, part: Part) -> anyhow::Result<Channel> {
        straight(&format!("http://127.0.0.1:{}", self.proxy(Link::Calls(part))?.port()))
    }

    /// Ends everything.
    pub async fn close(&self) -> anyhow::Result<()> {
        if let Err(error) = self.stack.stop(&Progress::silent()).await {
            self.stack.kill().await;
            return Err(error.into());
        }
        Ok(())
    }
}

/// Connects when it is first used, and notices a connection that leads nowhere.
fn straight(url: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(Duration::from_secs(2))
        .timeout(CALL_LIMIT)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5));
    Ok(endpoint.connect_lazy())
}

/// Tells the programs to go through the proxies; the orchestrator to wait at most ten seconds until it asks again, so that a run
/// of minutes does not end with waiting for it; and the reconciler to look within the run, at what only waits too.
fn lead_through(stack: &Stack, proxies: &BTreeMap<Link, Proxy>) {
    let port = |link| proxies.get(&link).map(Proxy::port).unwrap_or_default();
    let database = |by: Part, role: &str, of: Part| {
        format!("postgres://{role}@127.0.0.1:{}/{}", port(Link::Postgres(by)), of.name())
    };
    for part in PROGRAMS {
        let kafka = format!("127.0.0.1:{}", port(Link::Kafka));
        stack.set_env(part, "KAFKA_BOOTSTRAP_SERVERS", kafka);
    }
    for part in SERVICES {
        stack.set_env(part, "DATABASE_URL", database(part, part.name(), part));
    }
    let source =
        |&part: &Part| format!("{}={}", part.name(), database(Part::Relay, "outbox_relay", part));
    let sources = SERVICES.iter().map(source).collect::<Vec<_>>().join(",");
    stack.set_env(Part::Relay, "RELAY_SOURCES", sources);
    stack.set_env(Part::Orchestrator, "STEP_TIMEOUT_MAX", "10s");
    stack.set_env(Part::Orders, "RECONCILE_EVERY", "5s");
    stack.set_env(Part::Orders, "RECONCILE_AFTER", "20s");
}

fn port(url: &str) -> anyhow::Result<u16> {
    let after = url.rsplit(':').next().and_then(|rest| rest.split('/').next());
    after.and_then(|port| port.parse().ok()).context("an address without a port")
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Asks again until it is so; fails with the last answer when patience ends.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let give_up = Instant::now() + patience;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > give_up => {
                return Err(error.context(format!("waited in vain until {what}")));
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
