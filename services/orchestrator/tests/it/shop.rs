//! What the tests share: the orchestrator on a database, and the participants as it hears them.

use std::time::Duration;

use chassis::{
    cause::{Cause, Coordination},
    clock,
    doorbell::Doorbell,
    envelope::{Envelope, Headers},
    inbox::{Inbox, Record, Report},
    telemetry::TraceContext,
    testing::{Database, Sender},
    watch,
};
use orchestrator::{api::Api, book::Book, patience::Patience, retries};
use proto::{
    delivery::v1::{
        DeliveryCancelRefused, DeliveryCancelled, DeliveryFailed, DeliveryReady, DeliveryStarted,
    },
    event::Event,
    orchestrator::v1::{
        Act, GetSagaRequest, Saga, SagaView, saga_service_server::SagaService as _,
    },
    orders::v1::{
        Customer, OrderCancelRefused, OrderCancelled, OrderCompleted, OrderConfirmed, OrderLine,
        OrderPlaced,
    },
    products::v1::{ProductOutOfStock, StockReleased, StockReserved},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use uuid::Uuid;

/// Sends again at once, and gives up after three attempts.
pub(crate) const IMPATIENT: Patience =
    Patience { first: Duration::ZERO, longest: Duration::ZERO, attempts: 3 };
/// Never sends again while a test runs.
pub(crate) const PATIENT: Patience =
    Patience { first: Duration::from_secs(3600), longest: Duration::from_secs(3600), attempts: 3 };

pub(crate) struct Shop {
    pub(crate) db: Database,
    pub(crate) api: Api,
    pub(crate) inbox: Inbox<Book>,
    pub(crate) patience: Patience,
    pub(crate) shutdown: CancellationToken,
    participants: Sender,
    /// Dropped with the shop, which ends them.
    _workers: JoinSet<anyhow::Result<()>>,
}

impl Shop {
    pub(crate) async fn open(patience: Patience) -> Self {
        let db = Database::create(&orchestrator::MIGRATIONS).await;
        let shutdown = CancellationToken::new();
        let (watchers, lookout) = watch::open(db.pool.clone());
        let mut workers = JoinSet::new();
        workers.spawn(lookout.run(shutdown.clone()));
        let api = Api { pool: db.pool.clone(), doorbell: Doorbell::default(), watchers, patience };
        Self {
            db,
            api,
            inbox: orchestrator::inbox(patience),
            patience,
            shutdown,
            participants: Sender::new("participant"),
            _workers: workers,
        }
    }

    pub(crate) async fn hear(&self, records: &[Record]) -> Report {
        let mut conn = self.db.pool.acquire().await.unwrap();
        self.inbox.handle(&mut conn, records).await.unwrap()
    }

    /// An order's placement.
    pub(crate) fn placed(&mut self, order_id: Uuid, coordination: Coordination) -> Record {
        self.told(order_id, coordination, &placed(order_id))
    }

    /// An event that answers no command.
    pub(crate) fn told(
        &mut self,
        order_id: Uuid,
        coordination: Coordination,
        event: &impl Event,
    ) -> Record {
        let trace = TraceContext::random();
        let cause = Cause::local("orders", "Test", Uuid::now_v7(), trace, clock::now());
        self.participants.caused(&cause.of_order(order_id, coordination), event)
    }

    /// A saga that has just begun.
    pub(crate) async fn begun(&mut self) -> Uuid {
        let order_id = Uuid::now_v7();
        let placed = self.placed(order_id, Coordination::Orchestration);
        self.hear(&[placed]).await;
        order_id
    }

    /// A saga whose goods may leave.
    pub(crate) async fn fulfilling(&mut self) -> Uuid {
        let order_id = self.begun().await;
        for answer in ["StockReserved", "DeliveryStarted", "OrderConfirmed", "DeliveryReady"] {
            self.answer(order_id, answer).await;
        }
        order_id
    }

    /// Lets the participant answer the last command of an order.
    pub(crate) async fn answer(&mut self, order_id: Uuid, event: &str) -> Report {
        let command = self.last_sent(order_id).await;
        let answer = self.answer_to(&command, event);
        self.hear(&[answer]).await
    }

    /// The answer of a participant to a command.
    pub(crate) fn answer_to(&mut self, command: &Record, event: &str) -> Record {
        let order_id = command.key.clone();
        let to = &mut self.participants;
        match event {
            "StockReserved" => {
                to.answer(command, &StockReserved { order_id, ..Default::default() })
            }
            "StockReleased" => {
                to.answer(command, &StockReleased { order_id, ..Default::default() })
            }
            "ProductOutOfStock" => {
                to.answer(command, &ProductOutOfStock { order_id, ..Default::default() })
            }
            "DeliveryStarted" => {
                to.answer(command, &DeliveryStarted { order_id, ..Default::default() })
            }
            "DeliveryReady" => {
                to.answer(command, &DeliveryReady { order_id, ..Default::default() })
            }
            "DeliveryFailed" => {
                to.answer(command, &DeliveryFailed { order_id, ..Default::default() })
            }
            "DeliveryCancelled" => {
                to.answer(command, &DeliveryCancelled { order_id, ..Default::default() })
            }
            "DeliveryCancelRefused" => {
                to.answer(command, &DeliveryCancelRefused { order_id, ..Default::default() })
            }
            "OrderConfirmed" => {
                to.answer(command, &OrderConfirmed { order_id, ..Default::default() })
            }
            "OrderCancelled" => {
                to.answer(command, &OrderCancelled { order_id, ..Default::default() })
            }
            "OrderCancelRefused" => {
                to.answer(command, &OrderCancelRefused { order_id, ..Default::default() })
            }
            "OrderCompleted" => {
                to.answer(command, &OrderCompleted { order_id, ..Default::default() })
            }
            other => panic!("nobody answers with {other}"),
        }
    }

    /// The commands of an order, in the order of their sending.
    pub(crate) async fn sent(&self, order_id: Uuid) -> Vec<Record> {
        let mut all = self.db.outbox().await;
        all.retain(|record| record.key == order_id.to_string());
        all
    }

    pub(crate) async fn last_sent(&self, order_id: Uuid) -> Record {
        self.sent(order_id).await.pop().expect("nothing was sent")
    }

    /// The short types of the commands of an order.
    pub(crate) async fn sent_names(&self, order_id: Uuid) -> Vec<String> {
        let sent = self.sent(order_id).await;
        sent.iter().map(|record| envelope(record).short_type().to_owned()).collect()
    }

    /// The saga with its history.
    pub(crate) async fn saga(&self, saga_id: Uuid) -> Saga {
        let view = SagaView::Full.into();
        let request = GetSagaRequest { saga_id: saga_id.to_string(), view };
        self.api.get_saga(Request::new(request)).await.unwrap().into_inner().saga.unwrap()
    }

    /// Sends again what is due; returns how many sagas that were.
    pub(crate) async fn retry(&self) -> usize {
        let mut conn = self.db.pool.acquire().await.unwrap();
        retries::step(&mut conn, &self.patience).await.unwrap()
    }

    /// Everything that a refused call must leave as it was.
    pub(crate) async fn everything(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select row::text from sagas as row
             union all
             select row::text from saga_changes as row
             union all
             select row::text from messaging.trail as row
             union all
             select row::text from messaging.outbox as row",
        )
        .fetch_all(&self.db.pool)
        .await
        .unwrap()
    }
}

/// Somebody who has seen this version.
pub(crate) fn act(expected_version: i64) -> Option<Act> {
    Some(Act { actor: "kim".to_owned(), reason: "the test says so".to_owned(), expected_version })
}

pub(crate) fn placed(order_id: Uuid) -> OrderPlaced {
    OrderPlaced {
        order_id: order_id.to_string(),
        customer: Some(Customer {
            customer_id: "1@uengine.org".to_owned(),
            name: "홍길동".to_owned(),
            address: "서울시".to_owned(),
        }),
        lines: vec![OrderLine {
            product_id: "tv".to_owned(),
            product_name: "TV".to_owned(),
            quantity: 2,
            unit_price: None,
        }],
        total: None,
    }
}

pub(crate) fn envelope(record: &Record) -> Envelope {
    Envelope::parse(Headers(&record.headers)).unwrap()
}

/// What a test waits for comes soon, or never.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}
