//! The running shop, and what a scenario asks of it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures::future::try_join_all;
use local::{DataDir, Event, Feed, From, Options, Part, Progress, SERVICES, Stack};
use proto::{
    delivery::v1::{
        Delivery, DeliveryState, GetDeliveryRequest, delivery_service_client::DeliveryServiceClient,
    },
    google::r#type::Money,
    operations::v1::operations_service_client::OperationsServiceClient,
    orchestrator::v1::{GetSagaRequest, Saga, SagaView, saga_service_client::SagaServiceClient},
    orders::v1::{
        Coordination, Customer, GetOrderRequest, ListProductReplicasRequest, Order, OrderState,
        OrderView, PlaceOrderLine, PlaceOrderRequest, order_service_client::OrderServiceClient,
    },
    products::v1::{
        CreateProductRequest, GetProductRequest, product_service_client::ProductServiceClient,
    },
};
use sqlx::PgPool;
use tokio::task::AbortHandle;
use tonic::{Status, transport::Channel};
use uuid::Uuid;

use crate::collector::Collector;

/// As long as anything may take before a scenario gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// No command is sent again before.
pub(crate) const PATIENT_STEP: &str = "1m";

/// The shop, its clients, and everything that was ever seen in its topics.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) stack: Arc<Stack>,
    pub(crate) collector: Arc<Collector>,
    pub(crate) orders: OrderServiceClient<Channel>,
    pub(crate) products: ProductServiceClient<Channel>,
    pub(crate) delivery: DeliveryServiceClient<Channel>,
    pub(crate) sagas: SagaServiceClient<Channel>,
    /// How the orders of a scenario are coordinated that do not say.
    pub(crate) style: Coordination,
    journal: Arc<Mutex<Vec<Event>>>,
    reader: AbortHandle,
}

impl Shop {
    /// Starts the stack on free ports in a temporary directory. All of it is traced.
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let collector = Collector::start().await?;
        let stack =
            Stack::infra(DataDir::temporary()?, &Options::on_free_ports()?, &Progress::silent())
                .await?;
        stack.provision().await?;
        trace_to(&stack, &collector.endpoint);
        be_patient(&stack);
        try_join_all(SERVICES.iter().map(|&part| stack.start(part))).await?;
        stack.start(Part::Relay).await?;
        stack.start(Part::Storefront).await?;
        stack.seed().await?;
        let feed =
            Feed::open(stack.kafka_bootstrap(), From::Beginning, local::all_topics()).await?;
        let journal = Arc::new(Mutex::new(Vec::new()));
        #[expect(clippy::disallowed_methods, reason = "it is aborted when the shop closes")]
        let reader = tokio::spawn(keep_journal(feed, Arc::clone(&journal))).abort_handle();
        let channel = |part| {
            Channel::from_shared(stack.grpc_url(part)).map(|endpoint| endpoint.connect_lazy())
        };
        Ok(Self {
            orders: OrderServiceClient::new(channel(Part::Orders)?),
            products: ProductServiceClient::new(channel(Part::Products)?),
            delivery: DeliveryServiceClient::new(channel(Part::Delivery)?),
            sagas: SagaServiceClient::new(channel(Part::Orchestrator)?),
            stack: Arc::new(stack),
            collector: Arc::new(collector),
            style: Coordination::Choreography,
            journal,
            reader,
        })
    }

    pub(crate) async fn close(&self) {
        self.reader.abort();
        if let Err(error) = self.stack.stop(&Progress::silent()).await {
            self.stack.kill().await;
            panic!("the stack did not stop: {error}");
        }
    }

    /// Where to look when a scenario failed.
    pub(crate) fn whereabouts(&self) -> String {
        let tail = |part| {
            let text = std::fs::read_to_string(self.stack.log(part)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(15)..].join("\n");
            format!("--- the last lines of {part:?}\n{last}")
        };
        SERVICES
            .into_iter()
            .chain([Part::Relay, Part::Storefront])
            .map(tail)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Runs a verb of the `settle` program against this shop; what it wrote to stdout and stderr.
    pub(crate) async fn settle(
        &self,
        verb: &str,
        more: &[&str],
    ) -> anyhow::Result<(String, String)> {
        settle(&self.stack, verb, more).await
    }

    /// Stops a process as it is meant to be stopped, and starts it with what is set for it.
    pub(crate) async fn restart(&self, part: Part) -> anyhow::Result<()> {
        assert!(self.stack.sigterm(part).await?.success());
        Ok(self.stack.start(part).await?)
    }

    pub(crate) fn operations(
        &self,
        part: Part,
    ) -> anyhow::Result<OperationsServiceClient<Channel>> {
        let channel = Channel::from_shared(self.stack.grpc_url(part))?.connect_lazy();
        Ok(OperationsServiceClient::new(channel))
    }

    /// A connection to a service's database.
    pub(crate) async fn database(&self, part: Part) -> anyhow::Result<PgPool> {
        Ok(PgPool::connect(&self.stack.database_url(part)).await?)
    }

    /// A new product of this scenario's own, known to orders too.
    pub(crate) async fn product(&self, stock: i64) -> anyhow::Result<String> {
        let product_id = format!("p-{}", Uuid::now_v7().simple());
        let request = CreateProductRequest {
            product_id: product_id.clone(),
            name: "Thing".to_owned(),
            price: Some(Money { currency_code: "KRW".to_owned(), units: 10_000, nanos: 0 }),
            stock,
            ..Default::default()
        };
        self.products.clone().create_product(request).await?;
        self.until_replica(&product_id, stock).await?;
        Ok(product_id)
    }

    /// Places an order of one product.
    pub(crate) async fn place(&self, product_id: &str, quantity: i32) -> Result<Order, Status> {
        self.place_request(request(&[(product_id, quantity)])).await
    }

    pub(crate) async fn place_request(
        &self,
        mut request: PlaceOrderRequest,
    ) -> Result<Order, Status> {
        if request.coordination == 0 {
            request.set_coordination(self.style);
        }
        let answer = self.orders.clone().place_order(request).await?.into_inner();
        answer.order.ok_or_else(|| Status::internal("no order in the answer"))
    }

    pub(crate) async fn cancel(&self, order_id: &str) -> Result<Order, Status> {
        let request = proto::orders::v1::CancelOrderRequest {
            order_id: order_id.to_owned(),
            ..Default::default()
        };
        let answer = self.orders.clone().cancel_order(request).await?.into_inner();
        answer.order.ok_or_else(|| Status::internal("no order in the answer"))
    }

    pub(crate) async fn order(&self, order_id: &str) -> anyhow::Result<Order> {
        let request =
            GetOrderRequest { order_id: order_id.to_owned(), view: OrderView::Full.into() };
        self.orders
            .clone()
            .get_order(request)
            .await?
            .into_inner()
            .order
            .context("no order in the answer")
    }

    pub(crate) async fn until_order(
        &self,
        order_id: &str,
        state: OrderState,
    ) -> anyhow::Result<Order> {
        until(&format!("order {order_id} is {state:?}"), async || {
            let order = self.order(order_id).await?;
            if order.state() == state { Ok(order) } else { bail!("it is {:?}", order.state()) }
        })
        .await
    }

    /// The same shop, whose orders are coordinated so.
    pub(crate) fn in_style(self, style: Coordination) -> Self {
        Self { style, ..self }
    }

    /// What is to be seen in either style.
    pub(crate) fn by_style<T>(&self, choreographed: T, orchestrated: T) -> T {
        if self.style == Coordination::Orchestration { orchestrated } else { choreographed }
    }

    /// The saga of an order, with its history.
    pub(crate) async fn saga(&self, order_id: &str) -> anyhow::Result<Saga> {
        let request = GetSagaRequest { saga_id: order_id.to_owned(), view: SagaView::Full.into() };
        let answer = self.sagas.clone().get_saga(request).await?.into_inner();
        answer.saga.context("no saga in the answer")
    }

    pub(crate) async fn until_saga(&self, order_id: &str, state: &str) -> anyhow::Result<Saga> {
        until(&format!("the saga of {order_id} is {state}"), async || {
            let saga = self.saga(order_id).await?;
            if saga.state == state { Ok(saga) } else { bail!("it is {}", saga.state) }
        })
        .await
    }

    pub(crate) async fn delivery_of(&self, order_id: &str) -> anyhow::Result<Delivery> {
        let request = GetDeliveryRequest { order_id: order_id.to_owned() };
        let answer = self.delivery.clone().get_delivery(request).await?.into_inner();
        answer.delivery.context("no delivery in the answer")
    }

    pub(crate) async fn until_delivery(
        &self,
        order_id: &str,
        state: DeliveryState,
    ) -> anyhow::Result<()> {
        until(&format!("the delivery of {order_id} is {state:?}"), async || {
            let delivery = self.delivery_of(order_id).await?;
            if delivery.state() == state { Ok(()) } else { bail!("it is {:?}", delivery.state()) }
        })
        .await
    }

    pub(crate) async fn stock(&self, product_id: &str) -> anyhow::Result<i64> {
        let request = GetProductRequest { product_id: product_id.to_owned() };
        let answer = self.products.clone().get_product(request).await?.into_inner();
        Ok(answer.product.context("no product in the answer")?.stock)
    }

    pub(crate) async fn replica(&self, product_id: &str) -> anyhow::Result<i64> {
        let mut page_token = String::new();
        loop {
            let request = ListProductReplicasRequest { page_size: 1000, page_token };
            let page = self.orders.clone().list_product_replicas(request).await?.into_inner();
            if let Some(found) =
                page.products.iter().find(|product| product.product_id == product_id)
            {
                return Ok(found.stock);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                bail!("orders does not know {product_id}");
            }
        }
    }

    /// Waits until products holds so much.
    pub(crate) async fn until_stock(&self, product_id: &str, stock: i64) -> anyhow::Result<()> {
        until(&format!("products has {stock} of {product_id}"), async || {
            let now = self.stock(product_id).await?;
            if now == stock { Ok(()) } else { bail!("it has {now}") }
        })
        .await
    }

    /// Waits until orders' own copy says so much.
    pub(crate) async fn until_replica(&self, product_id: &str, stock: i64) -> anyhow::Result<()> {
        until(&format!("orders knows of {stock} of {product_id}"), async || {
            let now = self.replica(product_id).await?;
            if now == stock { Ok(()) } else { bail!("it knows of {now}") }
        })
        .await
    }

    /// Everything the topics said about an order so far, in the order of arrival here.
    pub(crate) fn events(&self, order_id: &str) -> Vec<Event> {
        let journal = self.journal.lock().unwrap();
        journal.iter().filter(|event| event.order.as_deref() == Some(order_id)).cloned().collect()
    }

    /// Waits until the topics have told these about an order, in whichever order, and nothing else.
    pub(crate) async fn until_events(
        &self,
        order_id: &str,
        names: &[&str],
    ) -> anyhow::Result<Vec<Event>> {
        let mut expected = names.to_vec();
        expected.sort_unstable();
        until(&format!("the topics told {names:?} of {order_id}"), async || {
            let mut events = self.events(order_id);
            // On a slow machine a command may be repeated, and its answer with it.
            let mut seen = HashSet::new();
            events.retain(|event| seen.insert(event.id.clone()));
            let mut told: Vec<_> = events.iter().map(Event::short_type).collect();
            told.sort_unstable();
            if told != expected {
                bail!("they told {told:?}");
            }
            Ok(events)
        })
        .await
    }
}

/// Runs a verb of the `settle` program against a stack; what it wrote to stdout and stderr.
pub(crate) async fn settle(
    stack: &Stack,
    verb: &str,
    more: &[&str],
) -> anyhow::Result<(String, String)> {
    let mut settle = tokio::process::Command::new(program("settle")?);
    settle.arg(verb).args(more);
    let jaeger = stack.jaeger_url().map(|url| ("--jaeger-port", url));
    let services = [
        ("--orders-port", stack.grpc_url(Part::Orders)),
        ("--products-port", stack.grpc_url(Part::Products)),
        ("--delivery-port", stack.grpc_url(Part::Delivery)),
        ("--orchestrator-port", stack.grpc_url(Part::Orchestrator)),
    ];
    for (flag, url) in services.into_iter().chain(jaeger) {
        settle.args([flag, url.rsplit(':').next().unwrap_or_default()]);
    }
    let output = settle.output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (out, error) = (text(output.stdout), text(output.stderr));
    anyhow::ensure!(output.status.success() == error.is_empty(), "{}: {error}", output.status);
    Ok((out, error))
}

/// A program of ours; cargo puts tests one directory below the programs.
pub(crate) fn program(name: &str) -> anyhow::Result<std::path::PathBuf> {
    let us = std::env::current_exe()?;
    Ok(us.ancestors().nth(2).context("the directory of the programs")?.join(name))
}

/// Sends the spans and the metrics of all programs there, from their next start on, and soon.
pub(crate) fn trace_to(stack: &Stack, endpoint: &str) {
    for part in SERVICES.into_iter().chain([Part::Relay, Part::Storefront]) {
        stack.set_env(part, "OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        stack.set_env(part, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint);
        stack.set_env(part, "OTEL_METRIC_EXPORT_INTERVAL", "1000");
        stack.set_env(part, "OTEL_BSP_SCHEDULE_DELAY", "50");
    }
}

/// A person would rather be told that a service is slow, and a saga sends its command again. Scenarios run on busy machines,
/// and wait: what is away refuses at once, and what Kafka has is not lost.
fn be_patient(stack: &Stack) {
    stack.set_env(Part::Storefront, "STOREFRONT_CALL_TIMEOUT", "30s");
    stack.set_env(Part::Storefront, "REQUEST_TIMEOUT", "120s");
    stack.set_env(Part::Orchestrator, "STEP_TIMEOUT", PATIENT_STEP);
}

async fn keep_journal(mut feed: Feed, journal: Arc<Mutex<Vec<Event>>>) {
    loop {
        // Kafka is restarted by scenarios; the client finds it again.
        if let Ok(event) = feed.next().await {
            journal.lock().unwrap().push(event);
        }
    }
}

/// A request for these products by a customer of his own.
pub(crate) fn request(lines: &[(&str, i32)]) -> PlaceOrderRequest {
    PlaceOrderRequest {
        request_id: Uuid::now_v7().to_string(),
        customer: Some(Customer {
            customer_id: format!("{}@uengine.org", Uuid::now_v7().simple()),
            name: "홍길동".to_owned(),
            address: "서울시".to_owned(),
        }),
        lines: lines
            .iter()
            .map(|(product_id, quantity)| PlaceOrderLine {
                product_id: (*product_id).to_owned(),
                quantity: *quantity,
            })
            .collect(),
        ..Default::default()
    }
}

/// Asks again until it is so; fails with the last answer when patience ends.
pub(crate) async fn until<T>(
    what: &str,
    ask: impl AsyncFn() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if tokio::time::Instant::now() > give_up => {
                return Err(error.context(format!("waited in vain until {what}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
