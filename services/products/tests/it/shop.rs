//! The shop around products: a database of its own, products in it, and orders that tells what happened to its orders.

use chassis::{
    cause::{Cause, Coordination},
    clock,
    doorbell::Doorbell,
    envelope::{Envelope, Headers},
    inbox::{Record, Report},
    telemetry::TraceContext,
    testing::{Database, Sender},
};
use products::{api::Api, product::Product, store};
use proto::{
    money::Money,
    orders::v1::{OrderCancelled, OrderLine, OrderPlaced},
};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

pub(crate) struct Shop {
    pub(crate) database: Database,
    pub(crate) orders: Orders,
    pub(crate) api: Api,
}

impl Shop {
    /// With these products, by id and stock.
    pub(crate) async fn open(products: &[(&str, i64)]) -> Self {
        let database = Database::create(&products::MIGRATIONS).await;
        let mut conn = database.connection().await;
        for (product_id, stock) in products {
            assert!(store::insert_product(&mut conn, &product(product_id, *stock)).await.unwrap());
        }
        let api = Api::new(database.pool.clone(), Doorbell::default());
        Self { database, orders: Orders::new(), api }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.database.pool
    }

    /// The inbox takes these messages as one batch.
    pub(crate) async fn hears(&self, records: &[Record]) -> Report {
        let mut conn = self.database.connection().await;
        products::inbox().handle(&mut conn, records).await.unwrap()
    }

    pub(crate) async fn stock(&self, product_id: &str) -> i64 {
        sqlx::query_scalar("select stock from products where product_id = $1")
            .bind(product_id)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    /// The state of an order's reservation.
    pub(crate) async fn state(&self, order_id: Uuid) -> Option<String> {
        sqlx::query_scalar("select state from reservations where order_id = $1")
            .bind(order_id)
            .fetch_optional(self.pool())
            .await
            .unwrap()
    }

    /// Both tables, without times and random ids.
    pub(crate) async fn tables(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select (to_jsonb(products) - '{created_at, updated_at}'::text[])::text
             from products
             union all
             select (to_jsonb(reservations) - '{created_at, updated_at, decision_event_id}'::text[])::text
             from reservations
             order by 1",
        )
        .fetch_all(self.pool())
        .await
        .unwrap()
    }

    /// What was told, in order, without times and random ids; whether under the id that the reservation keeps.
    pub(crate) async fn told(&self) -> Vec<(String, String, Value, Option<String>, bool)> {
        sqlx::query_as(
            "select headers ->> 'ce_type', key, convert_from(payload, 'UTF8')::jsonb, headers ->> 'ce_causationid',
                    exists (select from reservations where decision_event_id = event_id)
             from messaging.outbox
             order by seq",
        )
        .fetch_all(self.pool())
        .await
        .unwrap()
    }

    /// What came of the messages about an order, in the order of their times.
    pub(crate) async fn outcomes(&self, order_id: Uuid) -> Vec<String> {
        sqlx::query_scalar(
            "select outcome
             from messaging.trail
             where correlation_id = $1
             order by created_at, event_id",
        )
        .bind(order_id)
        .fetch_all(self.pool())
        .await
        .unwrap()
    }

    /// The only event of this type that was told about an order.
    pub(crate) async fn event(&self, order_id: Uuid, short_type: &str) -> Record {
        let told = self.database.outbox().await;
        let mut found = told.into_iter().filter(|record| {
            let envelope = Envelope::parse(Headers(&record.headers)).unwrap();
            record.key == order_id.to_string() && envelope.short_type() == short_type
        });
        let record = found.next().expect("it was told");
        assert!(found.next().is_none(), "{short_type} was told twice");
        record
    }
}

/// The service orders, so far as products hears of it.
pub(crate) struct Orders(pub(crate) Sender);

impl Orders {
    pub(crate) fn new() -> Self {
        Self(Sender::new("orders"))
    }

    pub(crate) fn placed(&mut self, order_id: Uuid, wanted: &[(&str, i32)]) -> Record {
        self.0.event(order_id, &order_placed(order_id, wanted))
    }

    /// The customer's cancellation, or a deadline's: it follows from nothing that products did.
    pub(crate) fn cancelled(&mut self, order_id: Uuid) -> Record {
        self.0.event(order_id, &order_cancelled(order_id))
    }

    /// The cancellation that orders decides on when it hears this message.
    pub(crate) fn cancelled_because_of(&mut self, order_id: Uuid, heard: &Record) -> Record {
        let envelope = Envelope::parse(Headers(&heard.headers)).unwrap();
        let cause = Cause::message("orders", &envelope, clock::now());
        self.0.caused(&cause, &order_cancelled(order_id))
    }
}

pub(crate) fn product(product_id: &str, stock: i64) -> Product {
    let now = clock::now();
    Product {
        product_id: product_id.to_owned(),
        name: product_id.to_uppercase(),
        price: Money::new("KRW", 10_000, 0).unwrap(),
        stock,
        image_url: format!("/images/{product_id}.png"),
        options: Vec::new(),
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

pub(crate) fn order_placed(order_id: Uuid, wanted: &[(&str, i32)]) -> OrderPlaced {
    let lines = wanted.iter().map(|(product_id, quantity)| OrderLine {
        product_id: (*product_id).to_owned(),
        quantity: *quantity,
        ..OrderLine::default()
    });
    OrderPlaced { order_id: order_id.to_string(), lines: lines.collect(), ..OrderPlaced::default() }
}

pub(crate) fn order_cancelled(order_id: Uuid) -> OrderCancelled {
    OrderCancelled { order_id: order_id.to_string(), ..OrderCancelled::default() }
}

/// An act of orders about an order that is coordinated so.
pub(crate) fn act_of_orders(order_id: Uuid, coordination: Coordination) -> Cause {
    let (id, trace) = (Uuid::now_v7(), TraceContext::random());
    Cause::local("orders", "Test", id, trace, clock::now()).of_order(order_id, coordination)
}
