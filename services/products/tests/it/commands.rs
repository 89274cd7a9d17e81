//! What products does when the orchestrator tells it to: given the row, when the command comes, then the answer.

use chassis::{
    inbox::Record,
    testing::{Database, Sender},
    trail::Outcome,
};
use proto::products::v1::{ReleaseStock, ReserveStock, StockLine};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::shop::Shop;

/// The orchestrator, so far as products hears of it.
pub(crate) struct Orchestrator(Sender);

impl Orchestrator {
    pub(crate) fn new() -> Self {
        Self(Sender::new("orchestrator"))
    }

    pub(crate) fn reserve(&mut self, order_id: Uuid, wanted: &[(&str, i32)]) -> Record {
        self.0.orchestrated(order_id, &reserve(order_id, wanted))
    }

    pub(crate) fn release(&mut self, order_id: Uuid) -> Record {
        self.0.orchestrated(order_id, &release(order_id))
    }
}

fn reserve(order_id: Uuid, wanted: &[(&str, i32)]) -> ReserveStock {
    let lines = wanted.iter().map(|(product_id, quantity)| StockLine {
        product_id: (*product_id).to_owned(),
        quantity: *quantity,
    });
    ReserveStock { order_id: order_id.to_string(), lines: lines.collect() }
}

fn release(order_id: Uuid) -> ReleaseStock {
    ReleaseStock { order_id: order_id.to_string() }
}

/// The reservations, times and decisions included.
async fn rows(database: &Database) -> Vec<String> {
    sqlx::query_scalar("select row::text from reservations as row order by 1")
        .fetch_all(&database.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_reservation_is_answered_under_an_id_that_follows_from_the_command_and_that_the_row_keeps()
 {
    let (shop, mut orchestrator) =
        (Shop::open(&[("tv", 10), ("clock", 5)]).await, Orchestrator::new());
    let order_id = Uuid::now_v7();
    let command = orchestrator.reserve(order_id, &[("tv", 3), ("clock", 5)]);
    let report = shop.hears(std::slice::from_ref(&command)).await;
    assert_eq!((report.count(Outcome::Applied), report.emitted), (1, 3));
    assert_eq!((shop.stock("tv").await, shop.stock("clock").await), (7, 0));
    assert_eq!(shop.state(order_id).await.as_deref(), Some("RESERVED"));
    assert_eq!(shop.database.answers(&command).await, ["StockReserved"]);
    let told = shop.told().await;
    assert!(told[0].0.ends_with(".StockReserved") && told[0].4);
    let lines = json!([{"productId": "tv", "quantity": 3}, {"productId": "clock", "quantity": 5}]);
    assert_eq!(told[0].2, json!({"orderId": order_id.to_string(), "lines": lines}));
    assert_eq!((told[1].1.as_str(), told[2].1.as_str()), ("tv", "clock"));
    let headers: Vec<Value> = sqlx::query_scalar("select headers from messaging.outbox")
        .fetch_all(shop.pool())
        .await
        .unwrap();
    assert!(headers.iter().all(|headers| headers["ce_coordination"] == "orchestration"));
}

#[tokio::test]
async fn a_command_that_comes_again_is_answered_as_before_and_changes_nothing() {
    let (shop, mut orchestrator) = (Shop::open(&[("tv", 10)]).await, Orchestrator::new());
    let commands = [
        (orchestrator.reserve(Uuid::now_v7(), &[("tv", 4)]), "StockReserved"),
        (orchestrator.reserve(Uuid::now_v7(), &[("tv", 7), ("mask", 1)]), "ProductOutOfStock"),
    ];
    for (command, answer) in commands {
        let twice = shop.hears(&[command.clone(), command.clone()]).await;
        assert_eq!((twice.count(Outcome::Applied), twice.count(Outcome::Duplicate)), (1, 1));
        let before = rows(&shop.database).await;
        let again = shop.hears(std::slice::from_ref(&command)).await;
        assert_eq!((again.count(Outcome::Duplicate), again.emitted), (1, 1));
        assert_eq!(shop.database.answers(&command).await, [answer; 3]);
        assert_eq!(rows(&shop.database).await, before);
        assert_eq!(shop.stock("tv").await, 6);
        // Word by word.
        let told = shop.told().await.into_iter().filter(|told| told.0.ends_with(answer));
        let told: Vec<_> = told.map(|told| told.2).collect();
        assert_eq!(told, vec![told[0].clone(); 3]);
    }
}

#[tokio::test]
async fn a_release_brings_back_what_is_held_once_and_says_so_every_time() {
    let (shop, mut orchestrator) = (Shop::open(&[("tv", 10)]).await, Orchestrator::new());
    let order_id = Uuid::now_v7();
    let reserve = orchestrator.reserve(order_id, &[("tv", 4)]);
    let release = orchestrator.release(order_id);
    shop.hears(std::slice::from_ref(&reserve)).await;
    shop.hears(&[release.clone(), release.clone()]).await;
    shop.hears(std::slice::from_ref(&release)).await;
    assert_eq!(shop.stock("tv").await, 10);
    assert_eq!(shop.state(order_id).await.as_deref(), Some("RELEASED"));
    assert_eq!(shop.database.answers(&release).await, ["StockReleased"; 3]);
    let told = shop.told().await;
    let released = told.iter().find(|told| told.0.ends_with(".StockReleased")).unwrap();
    assert_eq!(released.2["lines"], json!([{"productId": "tv", "quantity": 4}]));
    let changed = told.iter().filter(|told| told.0.ends_with(".ProductChanged"));
    assert_eq!(changed.count(), 2);
    // The reservation that comes late takes nothing any more.
    shop.hears(std::slice::from_ref(&reserve)).await;
    assert_eq!(shop.database.answers(&reserve).await, ["StockReserved", "StockReleased"]);
    assert_eq!(shop.stock("tv").await, 10);
}

#[tokio::test]
async fn a_release_that_overtakes_its_reservation_leaves_nothing_to_hold() {
    let (shop, mut orchestrator) = (Shop::open(&[("tv", 10)]).await, Orchestrator::new());
    let order_id = Uuid::now_v7();
    let reserve = orchestrator.reserve(order_id, &[("tv", 4)]);
    let release = orchestrator.release(order_id);
    let report = shop.hears(&[release.clone(), reserve.clone()]).await;
    assert_eq!((report.count(Outcome::Applied), report.count(Outcome::Raced)), (1, 1));
    assert_eq!(shop.state(order_id).await.as_deref(), Some("TOMBSTONE"));
    assert_eq!(shop.stock("tv").await, 10);
    assert_eq!(shop.database.answers(&release).await, ["StockReleased"]);
    assert_eq!(shop.database.answers(&reserve).await, ["StockReleased"]);
    assert_eq!(shop.database.emitted().await, ["StockReleased"; 2]);
}

#[tokio::test]
async fn a_rejected_order_has_nothing_to_release_and_stays_rejected() {
    let (shop, mut orchestrator) = (Shop::open(&[("tv", 3)]).await, Orchestrator::new());
    let order_id = Uuid::now_v7();
    let reserve = orchestrator.reserve(order_id, &[("tv", 4)]);
    let release = orchestrator.release(order_id);
    shop.hears(&[reserve, release.clone()]).await;
    assert_eq!(shop.state(order_id).await.as_deref(), Some("REJECTED"));
    assert_eq!(shop.stock("tv").await, 3);
    assert_eq!(shop.database.answers(&release).await, ["StockReleased"]);
    assert_eq!(shop.outcomes(order_id).await, ["applied", "ignored"]);
}

#[tokio::test]
async fn commands_about_orders_that_the_orchestrator_does_not_drive_are_refused() {
    let (shop, mut orchestrator) = (Shop::open(&[("tv", 10)]).await, Orchestrator::new());
    let (choreographed, unsaid, other) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let mut silent = orchestrator.reserve(unsaid, &[("tv", 1)]);
    silent.headers.retain(|(name, _)| name != "ce_coordination");
    let refused = [
        orchestrator.0.event(choreographed, &reserve(choreographed, &[("tv", 1)])),
        orchestrator.0.event(Uuid::now_v7(), &release(Uuid::now_v7())),
        silent,
        orchestrator.0.orchestrated(other, &reserve(Uuid::now_v7(), &[("tv", 1)])),
    ];
    assert_eq!(shop.hears(&refused).await.count(Outcome::Parked), refused.len());
    assert_eq!(shop.stock("tv").await, 10);
    assert!(rows(&shop.database).await.is_empty() && shop.database.emitted().await.is_empty());
}

#[test]
fn products_listens_to_its_commands() {
    assert!(products::inbox().topics().any(|topic| topic == "shop.products.commands"));
}
