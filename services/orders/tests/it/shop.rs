//! What the tests share: orders on a database of its own with its workers, and products and delivery as it hears them.

use std::time::Duration;

use chassis::watch;
use chassis::{
    cause::Coordination,
    clock,
    doorbell::Doorbell,
    inbox::{Inbox, Record, Report},
    testing::{Database, Sender},
};
use orders::{api::Api, book::Book, config::StockCheck, intake, stock_check};
use proto::{
    delivery::v1::{
        DeliveryCancelRefused, DeliveryCancelled, DeliveryCompleted, DeliveryFailed,
        DeliveryStarted,
    },
    google::r#type::Money,
    orders::v1::{
        CancelOrderRequest, Customer, GetOrderRequest, Order, OrderView, PlaceOrderLine,
        PlaceOrderRequest, order_service_server::OrderService as _,
    },
    products::v1::{ProductChanged, ProductOutOfStock, StockReserved},
};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, transport::Channel};
use uuid::Uuid;

pub(crate) struct Shop {
    pub(crate) db: Database,
    pub(crate) api: Api,
    pub(crate) inbox: Inbox<Book>,
    pub(crate) others: Others,
    pub(crate) shutdown: CancellationToken,
    /// Dropped with the shop, which ends them.
    pub(crate) workers: JoinSet<anyhow::Result<()>>,
}

impl Shop {
    /// With ten tv and a hundred clocks in the replica.
    pub(crate) async fn open() -> Self {
        Self::checking(StockCheck::None, "http://127.0.0.1:1").await
    }

    pub(crate) async fn checking(stock_check: StockCheck, products_url: &'static str) -> Self {
        let db = Database::create(&orders::MIGRATIONS).await;
        let shutdown = CancellationToken::new();
        let (intake, clerk) = intake::open(db.pool.clone(), Doorbell::default());
        let (watchers, lookout) = watch::open(db.pool.clone());
        let mut workers = JoinSet::new();
        workers.spawn(clerk.run());
        workers.spawn(lookout.run(shutdown.clone()));
        let timeout = Duration::from_secs(2);
        let api = Api {
            pool: db.pool.clone(),
            doorbell: Doorbell::default(),
            intake,
            watchers,
            stock_check,
            products: stock_check::StockCheck::new(connected(products_url), timeout),
            coordination: Coordination::Choreography,
            deadline: Duration::from_secs(24 * 3600),
        };
        let others = Others(Sender::new("products"), Sender::new("delivery"));
        let mut shop = Self { db, api, inbox: orders::inbox(), others, shutdown, workers };
        let seed = [shop.others.product("tv", 10, 1), shop.others.product("clock", 100, 1)];
        shop.hear(&seed).await;
        sqlx::query("truncate messaging.trail").execute(shop.pool()).await.unwrap();
        shop
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.db.pool
    }

    pub(crate) async fn place(&self, request: PlaceOrderRequest) -> Result<Order, Status> {
        let answer = self.api.place_order(Request::new(request)).await?;
        Ok(answer.into_inner().order.unwrap())
    }

    /// A new order of one tv.
    pub(crate) async fn placed(&self) -> Uuid {
        id(&self.place(wants(&[("tv", 1)])).await.unwrap())
    }

    /// An order that both have agreed to.
    pub(crate) async fn confirmed(&mut self) -> Uuid {
        let order_id = self.placed().await;
        let facts = ["StockReserved", "DeliveryStarted"].map(|it| self.others.tell(order_id, it));
        self.hear(&facts).await;
        order_id
    }

    pub(crate) async fn cancel(&self, order_id: Uuid) -> Result<Order, Status> {
        let order_id = order_id.to_string();
        self.cancel_with(CancelOrderRequest { order_id, ..Default::default() }).await
    }

    pub(crate) async fn cancel_with(&self, request: CancelOrderRequest) -> Result<Order, Status> {
        let answer = self.api.cancel_order(Request::new(request)).await?;
        Ok(answer.into_inner().order.unwrap())
    }

    /// With its transitions.
    pub(crate) async fn order(&self, order_id: Uuid) -> Order {
        let view = OrderView::Full.into();
        let request = GetOrderRequest { order_id: order_id.to_string(), view };
        self.api.get_order(Request::new(request)).await.unwrap().into_inner().order.unwrap()
    }

    /// The inbox takes these messages as one batch.
    pub(crate) async fn hear(&self, records: &[Record]) -> Report {
        let mut conn = self.pool().acquire().await.unwrap();
        in_time(self.inbox.handle(&mut conn, records)).await.unwrap()
    }

    /// The inbox takes what one of the others tells.
    pub(crate) async fn hears(&mut self, order_id: Uuid, what: &str) -> Report {
        let record = self.others.tell(order_id, what);
        self.hear(&[record]).await
    }

    /// What orders told of an order, in order: short types.
    pub(crate) async fn told(&self, order_id: Uuid) -> Vec<String> {
        sqlx::query_scalar(
            "select regexp_replace(headers ->> 'ce_type', '^.*\\.', '')
             from messaging.outbox
             where key = $1
             order by seq",
        )
        .bind(order_id.to_string())
        .fetch_all(self.pool())
        .await
        .unwrap()
    }

    /// Every row of every table that a refused call must leave as it was.
    pub(crate) async fn everything(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select row::text from orders as row
             union all
             select row::text from order_transitions as row
             union all
             select row::text from product_replicas as row
             union all
             select row::text from messaging.requests as row
             union all
             select row::text from messaging.trail as row
             union all
             select row::text from messaging.inbox_parked as row
             union all
             select row::text from messaging.outbox as row
             order by 1",
        )
        .fetch_all(self.pool())
        .await
        .unwrap()
    }

    pub(crate) async fn count(&self, table: &'static str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(self.pool())
            .await
            .unwrap()
    }
}

/// products and delivery, so far as orders hears of them.
pub(crate) struct Others(Sender, Sender);

impl Others {
    /// Tells a fact about an order, by the short type of the event.
    pub(crate) fn tell(&mut self, order_id: Uuid, what: &str) -> Record {
        let Self(products, delivery) = self;
        let id = order_id.to_string();
        match what {
            "StockReserved" => {
                let event = StockReserved { order_id: id, ..Default::default() };
                products.event(order_id, &event)
            }
            "ProductOutOfStock" => {
                let event = ProductOutOfStock { order_id: id, ..Default::default() };
                products.event(order_id, &event)
            }
            "DeliveryStarted" => {
                let event = DeliveryStarted { order_id: id, ..Default::default() };
                delivery.event(order_id, &event)
            }
            "DeliveryCancelled" => {
                let event = DeliveryCancelled { order_id: id, ..Default::default() };
                delivery.event(order_id, &event)
            }
            "DeliveryCancelRefused" => {
                let event = DeliveryCancelRefused { order_id: id, ..Default::default() };
                delivery.event(order_id, &event)
            }
            "DeliveryCompleted" => {
                let event = DeliveryCompleted { order_id: id, ..Default::default() };
                delivery.event(order_id, &event)
            }
            "DeliveryFailed" => {
                let event = DeliveryFailed { order_id: id, ..Default::default() };
                delivery.event(order_id, &event)
            }
            other => panic!("nobody tells {other}"),
        }
    }

    pub(crate) fn product(&mut self, product_id: &str, stock: i64, version: i64) -> Record {
        let event = ProductChanged {
            product_id: product_id.to_owned(),
            product_name: product_id.to_uppercase(),
            product_price: Some(won(10_000)),
            product_stock: stock,
            version,
            ..Default::default()
        };
        self.0.event(Uuid::now_v7(), &event)
    }
}

/// A connection that is made when it is first needed.
pub(crate) fn connected(url: &str) -> Channel {
    Channel::from_shared(url.to_owned()).unwrap().connect_lazy()
}

pub(crate) fn won(units: i64) -> Money {
    Money { currency_code: "KRW".to_owned(), units, nanos: 0 }
}

/// A request for these products and pieces.
pub(crate) fn wants(lines: &[(&str, i32)]) -> PlaceOrderRequest {
    let lines = lines.iter().map(|(product_id, quantity)| PlaceOrderLine {
        product_id: (*product_id).to_owned(),
        quantity: *quantity,
    });
    PlaceOrderRequest {
        customer: Some(Customer {
            customer_id: "1@uengine.org".to_owned(),
            name: "홍길동".to_owned(),
            address: "서울시".to_owned(),
        }),
        lines: lines.collect(),
        ..Default::default()
    }
}

pub(crate) fn id(order: &Order) -> Uuid {
    order.order_id.parse().unwrap()
}

/// The reason in the status's ErrorInfo.
pub(crate) fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().expect("an ErrorInfo").reason
}

/// The fields that the status's BadRequest names.
pub(crate) fn named(status: &Status) -> Vec<String> {
    use tonic_types::StatusExt as _;
    let details = status.get_details_bad_request().expect("a BadRequest");
    details.field_violations.into_iter().map(|it| it.field).collect()
}

/// The future's answer, which must not take for ever.
pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes for ever")
}

/// The deadline of an order passes.
pub(crate) async fn deadline_passes(shop: &Shop, order_id: Uuid) -> usize {
    let now = clock::now() + chrono::Duration::hours(1);
    sqlx::query("update orders set deadline_at = $2 where order_id = $1")
        .bind(order_id)
        .bind(now)
        .execute(shop.pool())
        .await
        .unwrap();
    let mut conn = shop.db.connection().await;
    let early = now - chrono::Duration::microseconds(1);
    assert_eq!(orders::deadline::step(&mut conn, early).await.unwrap(), 0);
    orders::deadline::step(&mut conn, now).await.unwrap()
}
