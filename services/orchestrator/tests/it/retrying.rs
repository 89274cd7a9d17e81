//! Time-outs: a command that is not answered goes out again under its own id; what undoes is given up after some attempts.

use chassis::{cause::Coordination, trail::Outcome};
use proto::{
    orchestrator::v1::{ListSagasRequest, saga_service_server::SagaService as _},
    orders::v1::OrderCancelled,
};
use tokio::sync::Barrier;
use tonic::Request;
use uuid::Uuid;

use crate::shop::{IMPATIENT, PATIENT, Shop, envelope};

async fn cancelled_by_orders(shop: &mut Shop, order_id: Uuid) {
    let event = OrderCancelled { order_id: order_id.to_string(), ..Default::default() };
    let event = shop.told(order_id, Coordination::Orchestration, &event);
    shop.hear(&[event]).await;
}

#[tokio::test]
async fn a_command_that_is_not_answered_is_sent_again_under_its_own_id() {
    let mut shop = Shop::open(IMPATIENT).await;
    let order_id = shop.begun().await;
    for _ in 0..5 {
        assert_eq!(shop.retry().await, 1);
    }
    let sent = shop.sent(order_id).await;
    assert_eq!(sent.len(), 6, "however often: only what undoes is given up");
    let first = envelope(&sent[0]);
    assert!(sent.iter().all(|it| envelope(it).event_id == first.event_id));
    assert!(sent.iter().all(|it| it.payload == sent[0].payload));
    let saga = shop.saga(order_id).await;
    assert_eq!((saga.version, saga.steps[0].attempts, saga.parked), (1, 6, false));
    assert!(saga.steps[0].retry_time.is_some());
    shop.answer(order_id, "StockReserved").await;
    assert_eq!(shop.saga(order_id).await.state, "STARTING_DELIVERY");
}

#[tokio::test]
async fn nothing_is_sent_again_before_its_time() {
    let mut shop = Shop::open(PATIENT).await;
    shop.begun().await;
    assert_eq!(shop.retry().await, 0);
}

#[tokio::test]
async fn a_saga_that_waits_for_the_world_sends_nothing() {
    let mut shop = Shop::open(IMPATIENT).await;
    let order_id = shop.fulfilling().await;
    assert_eq!(shop.retry().await, 0);
    assert_eq!(shop.saga(order_id).await.steps.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_what_is_due() {
    let mut shop = Shop::open(IMPATIENT).await;
    let mut orders = Vec::new();
    for _ in 0..10 {
        orders.push(shop.begun().await);
    }
    let barrier = Barrier::new(2);
    let mut first = shop.db.pool.begin().await.unwrap();
    let held = orchestrator::store::lock_due(&mut first, 4).await.unwrap();
    assert_eq!(held.len(), 4);
    // The other one does not wait for what is held.
    assert_eq!(shop.retry().await, 6);
    first.rollback().await.unwrap();
    for order_id in &orders {
        let expected = if held.contains(order_id) { 1 } else { 2 };
        assert_eq!(shop.sent(*order_id).await.len(), expected);
    }
    // Each is sent by one of two that look at the same moment.
    shop.patience = PATIENT;
    let due = "update sagas set due_at = now() - interval '1 second'";
    sqlx::query(due).execute(&shop.db.pool).await.unwrap();
    let shop = &shop;
    let replica = async || {
        barrier.wait().await;
        shop.retry().await
    };
    let (one, other) = tokio::join!(replica(), replica());
    assert_eq!(one + other, 10);
}

/// As during an upgrade, or after one that was taken back.
#[tokio::test]
async fn a_saga_of_an_unknown_definition_stops_nobody_but_itself() {
    let mut shop = Shop::open(IMPATIENT).await;
    let (foreign, ours) = (shop.begun().await, shop.begun().await);
    let command = shop.last_sent(foreign).await;
    sqlx::query("update sagas set definition_version = 99 where saga_id = $1")
        .bind(foreign)
        .execute(&shop.db.pool)
        .await
        .unwrap();
    assert_eq!(shop.retry().await, 1);
    assert_eq!(shop.sent(ours).await.len(), 2);
    let answers = [
        shop.answer_to(&command, "StockReserved"),
        shop.answer_to(&shop.last_sent(ours).await, "StockReserved"),
    ];
    let report = shop.hear(&answers).await;
    assert_eq!((report.count(Outcome::Parked), report.count(Outcome::Applied)), (1, 1));
    assert_eq!(shop.saga(ours).await.state, "STARTING_DELIVERY");
    let listed = shop
        .api
        .list_sagas(Request::new(ListSagasRequest::default()))
        .await
        .unwrap()
        .into_inner()
        .sagas;
    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn a_command_that_cannot_be_written_parks_its_saga_and_no_other() {
    let mut shop = Shop::open(IMPATIENT).await;
    let (broken, sound) = (shop.begun().await, shop.begun().await);
    sqlx::query("update sagas set data = '{\"lines\": 7}' where saga_id = $1")
        .bind(broken)
        .execute(&shop.db.pool)
        .await
        .unwrap();
    assert_eq!(shop.retry().await, 2);
    let saga = shop.saga(broken).await;
    assert!(saga.parked && saga.parked_reason.contains("the order that the saga began with"));
    assert_eq!((shop.sent(broken).await.len(), shop.sent(sound).await.len()), (1, 2));
}

#[tokio::test]
async fn an_undo_that_nobody_answers_parks_the_saga_and_an_answer_still_ends_it() {
    let mut shop = Shop::open(IMPATIENT).await;
    let order_id = shop.begun().await;
    let reserve = shop.last_sent(order_id).await;
    cancelled_by_orders(&mut shop, order_id).await;
    assert_eq!(shop.retry().await, 1);
    assert_eq!(shop.retry().await, 1);
    assert!(!shop.saga(order_id).await.parked);
    assert_eq!(shop.retry().await, 1);
    let saga = shop.saga(order_id).await;
    assert!(saga.parked);
    assert_eq!(saga.parked_reason, "no answer to ReleaseStock after 3 attempts");
    let last = saga.history.last().unwrap();
    assert_eq!((last.cause.as_str(), last.parked), ("StepTimeout", true));
    assert_eq!(last.reason, saga.parked_reason);
    assert_eq!(shop.retry().await, 0);
    assert_eq!(shop.sent(order_id).await.len(), 4);

    // What was answered late changes nothing; the answer that was waited for does.
    let late = shop.answer_to(&reserve, "StockReserved");
    shop.hear(&[late]).await;
    assert!(shop.saga(order_id).await.parked);
    shop.answer(order_id, "StockReleased").await;
    let saga = shop.saga(order_id).await;
    assert_eq!((saga.state.as_str(), saga.parked), ("CANCELLED", false));
}

#[tokio::test]
async fn a_saga_that_has_ended_sends_nothing_again() {
    let mut shop = Shop::open(IMPATIENT).await;
    let order_id = shop.begun().await;
    cancelled_by_orders(&mut shop, order_id).await;
    shop.answer(order_id, "StockReleased").await;
    assert_eq!(shop.retry().await, 0);
    let after = shop.everything().await;
    cancelled_by_orders(&mut shop, order_id).await;
    assert_eq!(shop.everything().await.len(), after.len() + 1, "only the trail tells of it");
}
