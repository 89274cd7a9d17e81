//! What the tests share: delivery on a database, and orders as it hears them.

use chassis::{
    cause::{Cause, Coordination},
    clock,
    doorbell::Doorbell,
    envelope::{Envelope, Headers},
    inbox::{Inbox, Record, Report},
    switches::Switch,
    telemetry::TraceContext,
    testing::{Database, Sender},
};
use delivery::{api::Api, book::Book, domain::Carriers};
use proto::{
    delivery::v1::{
        CompleteDeliveryRequest, Delivery, DispatchDeliveryRequest, FailDeliveryRequest,
        delivery_service_server::DeliveryService as _,
    },
    event::Event,
    orders::v1::{
        CancelReason, Customer, OrderCancelRequested, OrderCancelled, OrderConfirmed, OrderLine,
        OrderPlaced,
    },
};
use tonic::{Request, Status};
use uuid::Uuid;

pub(crate) struct Shop {
    pub(crate) db: Database,
    pub(crate) inbox: Inbox<Book>,
    pub(crate) refuse: Switch,
    pub(crate) orders: Orders,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let db = Database::create(&delivery::MIGRATIONS).await;
        let carriers = Carriers { none_to: vec!["Atlantis".to_owned()] };
        let refuse = Switch::new(false);
        let inbox = delivery::inbox(carriers, refuse.clone());
        Self { db, inbox, refuse, orders: Orders(Sender::new("orders")) }
    }

    pub(crate) fn api(&self) -> Api {
        Api { pool: self.db.pool.clone(), doorbell: Doorbell::default() }
    }

    pub(crate) async fn hear(&self, records: &[Record]) -> Report {
        let mut conn = self.db.pool.acquire().await.unwrap();
        self.inbox.handle(&mut conn, records).await.unwrap()
    }

    /// An order whose delivery has started.
    pub(crate) async fn started(&mut self) -> Uuid {
        let order_id = Uuid::now_v7();
        let placed = self.orders.placed(order_id);
        self.hear(&[placed]).await;
        order_id
    }

    /// An order whose goods may leave.
    pub(crate) async fn ready(&mut self) -> Uuid {
        let order_id = self.started().await;
        let confirmed = self.orders.confirmed(order_id);
        self.hear(&[confirmed]).await;
        order_id
    }

    /// An order whose goods have left.
    pub(crate) async fn dispatched(&mut self) -> Uuid {
        let order_id = self.ready().await;
        dispatch(&self.api(), order_id, "").await.unwrap();
        order_id
    }

    /// The state of an order's row; empty when there is none.
    pub(crate) async fn state(&self, order_id: Uuid) -> String {
        let state: Option<String> =
            sqlx::query_scalar("select state from deliveries where order_id = $1")
                .bind(order_id)
                .fetch_optional(&self.db.pool)
                .await
                .unwrap();
        state.unwrap_or_default()
    }

    /// What delivery told of an order, in order: short types.
    pub(crate) async fn told(&self, order_id: Uuid) -> Vec<String> {
        let records = self.db.outbox().await;
        let of_order = records.iter().filter(|record| record.key == order_id.to_string());
        of_order.map(|record| envelope(record).short_type().to_owned()).collect()
    }

    /// The last event delivery told.
    pub(crate) async fn last_told(&self) -> Record {
        self.db.outbox().await.pop().expect("delivery has told nothing")
    }

    /// Everything a refused call must leave as it was.
    pub(crate) async fn everything(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select row::text from deliveries as row
             union all
             select row::text from messaging.requests as row
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

/// Orders, as delivery hears it.
pub(crate) struct Orders(pub(crate) Sender);

impl Orders {
    pub(crate) fn placed(&mut self, order_id: Uuid) -> Record {
        self.0.event(order_id, &placed_to(order_id, "서울시"))
    }

    pub(crate) fn confirmed(&mut self, order_id: Uuid) -> Record {
        let order_id_text = order_id.to_string();
        self.0.event(
            order_id,
            &OrderConfirmed { order_id: order_id_text, customer: Some(customer("서울시")) },
        )
    }

    pub(crate) fn cancel_requested(&mut self, order_id: Uuid) -> Record {
        let order_id_text = order_id.to_string();
        self.0.event(
            order_id,
            &OrderCancelRequested {
                order_id: order_id_text, customer: Some(customer("서울시"))
            },
        )
    }

    pub(crate) fn cancelled(&mut self, order_id: Uuid) -> Record {
        self.0.event(order_id, &cancelled(order_id))
    }

    /// The cancellation that follows from an event of delivery.
    pub(crate) fn cancelled_because(&mut self, order_id: Uuid, event: &Record) -> Record {
        let cause = Cause::message("orders", &envelope(event), clock::now());
        self.0.caused(&cause, &cancelled(order_id))
    }

    /// An event of an order that is pinned to orchestration.
    pub(crate) fn orchestrated(&mut self, order_id: Uuid, event: &impl Event) -> Record {
        let trace = TraceContext::random();
        let cause = Cause::local("orders", "PlaceOrder", Uuid::now_v7(), trace, clock::now());
        self.0.caused(&cause.of_order(order_id, Coordination::Orchestration), event)
    }
}

pub(crate) fn placed_to(order_id: Uuid, address: &str) -> OrderPlaced {
    OrderPlaced {
        order_id: order_id.to_string(),
        customer: Some(customer(address)),
        lines: vec![OrderLine {
            product_id: "tv".to_owned(),
            product_name: "TV".to_owned(),
            quantity: 1,
            unit_price: None,
        }],
        total: None,
    }
}

pub(crate) fn cancelled(order_id: Uuid) -> OrderCancelled {
    OrderCancelled {
        order_id: order_id.to_string(),
        reason: CancelReason::Customer.into(),
        customer: Some(customer("서울시")),
        lines: Vec::new(),
    }
}

fn customer(address: &str) -> Customer {
    Customer {
        customer_id: "1@uengine.org".to_owned(),
        name: "홍길동".to_owned(),
        address: address.to_owned(),
    }
}

pub(crate) fn envelope(record: &Record) -> Envelope {
    Envelope::parse(Headers(&record.headers)).unwrap()
}

pub(crate) async fn dispatch(
    api: &Api,
    order_id: Uuid,
    request_id: &str,
) -> Result<Delivery, Status> {
    let request = DispatchDeliveryRequest {
        order_id: order_id.to_string(),
        request_id: request_id.to_owned(),
    };
    Ok(api.dispatch_delivery(Request::new(request)).await?.into_inner().delivery.unwrap())
}

pub(crate) async fn complete(
    api: &Api,
    order_id: Uuid,
    request_id: &str,
) -> Result<Delivery, Status> {
    let request = CompleteDeliveryRequest {
        order_id: order_id.to_string(),
        request_id: request_id.to_owned(),
    };
    Ok(api.complete_delivery(Request::new(request)).await?.into_inner().delivery.unwrap())
}

pub(crate) async fn fail(api: &Api, order_id: Uuid, request_id: &str) -> Result<Delivery, Status> {
    let request = FailDeliveryRequest {
        order_id: order_id.to_string(),
        request_id: request_id.to_owned(),
        reason: "the parcel fell into a river".to_owned(),
    };
    Ok(api.fail_delivery(Request::new(request)).await?.into_inner().delivery.unwrap())
}
