//! Every row of every database and every message of every topic, read when nothing moves any more.

use std::collections::BTreeMap;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use local::{Event, Part, SERVICES, Stack};
use sqlx::{Connection as _, FromRow, PgConnection, types::Json};
use uuid::Uuid;

/// An order as orders has it.
#[derive(Clone, Debug, FromRow)]
#[expect(missing_docs, reason = "the columns of orders")]
pub struct Order {
    pub order_id: Uuid,
    pub customer_id: String,
    pub coordination: String,
    pub state: String,
    pub cancel: String,
}

/// One revision of an order.
#[derive(Clone, Debug, FromRow)]
#[expect(missing_docs, reason = "the columns of order_transitions")]
pub struct Transition {
    pub order_id: Uuid,
    pub revision: i64,
    pub state: String,
    pub event_id: Option<Uuid>,
}

/// What was taken for an order.
#[derive(Clone, Debug, FromRow)]
#[expect(missing_docs, reason = "the columns of reservations")]
pub struct Reservation {
    pub order_id: Uuid,
    pub state: String,
    pub lines: Json<Vec<Line>>,
    pub decision_event_id: Option<Uuid>,
}

/// One line of a reservation.
#[derive(Clone, Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the fields of reservations.lines")]
pub struct Line {
    pub product_id: String,
    pub quantity: i64,
}

/// A product, or orders' copy of one.
#[derive(Clone, Debug, FromRow)]
#[expect(missing_docs, reason = "the columns of products and product_replicas")]
pub struct Product {
    pub product_id: String,
    pub stock: i64,
    pub version: i64,
}

/// The delivery of an order.
#[derive(Clone, Debug, FromRow)]
#[expect(missing_docs, reason = "the columns of deliveries")]
pub struct Delivery {
    pub order_id: Uuid,
    pub state: String,
    pub decision_event_id: Option<Uuid>,
}

/// The saga of an order.
#[derive(Clone, Debug, FromRow)]
#[expect(missing_docs, reason = "the columns of sagas")]
pub struct Saga {
    pub saga_id: Uuid,
    pub state: String,
    pub finished: bool,
    pub parked_reason: Option<String>,
}

/// What a service has handled.
#[derive(Clone, Debug, FromRow)]
#[expect(missing_docs, reason = "the columns of messaging.trail")]
pub struct Trail {
    pub correlation_id: Option<Uuid>,
    pub received_at: DateTime<Utc>,
    pub handled_at: DateTime<Utc>,
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    pub outcome: String,
    pub emitted: Json<Vec<Emitted>>,
    pub deliveries: i32,
}

/// An event that was appended in the same transaction.
#[derive(Clone, Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the fields of messaging.trail.emitted")]
pub struct Emitted {
    pub id: Uuid,
    pub r#type: String,
    pub topic: String,
    pub key: String,
}

/// A row that is still in an outbox.
#[derive(Clone, Debug, FromRow)]
#[expect(missing_docs, reason = "the columns of messaging.outbox")]
pub struct Row {
    pub event_id: Uuid,
    pub topic: String,
    pub key: String,
}

/// What every service has.
#[derive(Clone, Debug)]
pub struct Messaging {
    /// Its name.
    pub service: &'static str,
    /// All it has handled.
    pub trail: Vec<Trail>,
    /// What is left of its outbox, by sequence.
    pub outbox: Vec<Row>,
    /// The keys that it has parked, received or to be sent.
    pub parked: Vec<String>,
}

/// All of it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "one table or topic each")]
pub struct Snapshot {
    pub orders: BTreeMap<Uuid, Order>,
    /// By order and revision.
    pub transitions: Vec<Transition>,
    pub replicas: BTreeMap<String, Product>,
    pub products: BTreeMap<String, Product>,
    pub reservations: BTreeMap<Uuid, Reservation>,
    pub deliveries: BTreeMap<Uuid, Delivery>,
    pub sagas: BTreeMap<Uuid, Saga>,
    pub messaging: Vec<Messaging>,
    pub topics: Vec<Event>,
}

impl Snapshot {
    /// Reads everything.
    pub async fn take(stack: &Stack) -> anyhow::Result<Self> {
        let orders = &mut database(stack, Part::Orders).await?;
        let products = &mut database(stack, Part::Products).await?;
        let delivery = &mut database(stack, Part::Delivery).await?;
        let orchestrator = &mut database(stack, Part::Orchestrator).await?;
        let mut messaging = Vec::new();
        for part in SERVICES {
            messaging.push(read_messaging(stack, part).await?);
        }
        let topics = local::everything(stack.kafka_bootstrap(), local::all_topics()).await?;
        Ok(Self {
            orders: keyed(
                rows(
                    orders,
                    "select order_id, customer_id, coordination, state, cancel from orders",
                )
                .await?,
                |it: &Order| it.order_id,
            ),
            transitions: rows(
                orders,
                "select order_id, revision, state, event_id
                 from order_transitions
                 order by order_id, revision",
            )
            .await?,
            replicas: keyed(
                rows(orders, "select product_id, stock, version from product_replicas").await?,
                |it: &Product| it.product_id.clone(),
            ),
            products: keyed(
                rows(products, "select product_id, stock, version from products").await?,
                |it: &Product| it.product_id.clone(),
            ),
            reservations: keyed(
                rows(
                    products,
                    "select order_id, state, lines, decision_event_id from reservations",
                )
                .await?,
                |it: &Reservation| it.order_id,
            ),
            deliveries: keyed(
                rows(delivery, "select order_id, state, decision_event_id from deliveries").await?,
                |it: &Delivery| it.order_id,
            ),
            sagas: keyed(
                rows(orchestrator, "select saga_id, state, finished, parked_reason from sagas")
                    .await?,
                |it: &Saga| it.saga_id,
            ),
            messaging,
            topics,
        })
    }

    /// Everything that any service has emitted, with the trail row that says so.
    pub fn emitted(&self) -> impl Iterator<Item = (&Trail, &Emitted)> {
        let trail = self.messaging.iter().flat_map(|messaging| &messaging.trail);
        trail.flat_map(|row| row.emitted.iter().map(move |emitted| (row, emitted)))
    }
}

async fn read_messaging(stack: &Stack, part: Part) -> anyhow::Result<Messaging> {
    let conn = &mut database(stack, part).await?;
    let trail = "select correlation_id, received_at, handled_at, topic, partition, \"offset\", outcome, emitted, deliveries
                 from messaging.trail";
    let outbox = "select event_id, topic, key
                  from messaging.outbox
                  order by seq";
    let parked = "select key
                  from messaging.inbox_parked
                  union
                  select key
                  from messaging.outbox_parked";
    Ok(Messaging {
        service: part.name(),
        trail: rows(conn, trail).await?,
        outbox: rows(conn, outbox).await?,
        parked: sqlx::query_scalar(parked).fetch_all(conn).await?,
    })
}

async fn database(stack: &Stack, part: Part) -> anyhow::Result<PgConnection> {
    let connected = PgConnection::connect(&stack.database_url(part)).await;
    connected.with_context(|| format!("connect to the database of {}", part.name()))
}

async fn rows<T>(conn: &mut PgConnection, statement: &'static str) -> anyhow::Result<Vec<T>>
where
    T: for<'r> FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
{
    sqlx::query_as(statement).fetch_all(conn).await.context(statement)
}

fn keyed<K: Ord, T>(rows: Vec<T>, key: impl Fn(&T) -> K) -> BTreeMap<K, T> {
    rows.into_iter().map(|row| (key(&row), row)).collect()
}
