//! What orders decides when the orchestrator asks: the state, what a caller sees, and the answers.

use chassis::{
    envelope::{Envelope, Headers},
    inbox::Record,
    testing::Sender,
    trail::Outcome,
};
use proto::orders::v1::{self, CancelReason, Coordination, OrderState, PlaceOrderRequest};
use uuid::Uuid;

use crate::{
    batches::outcome,
    fates::{self, History},
    shop::{Shop, deadline_passes, id, wants},
};

use CancelReason::{Customer, DeliveryFailed, OutOfStock, TimedOut, Unspecified as Nothing};
use OrderState::{Cancelled, Cancelling, Completed, Confirmed, Pending};

/// The orchestrator, so far as orders hears of it.
pub(crate) struct Orchestrator(Sender);

impl Orchestrator {
    pub(crate) fn new() -> Self {
        Self(Sender::new("orchestrator"))
    }

    /// A command by its name; one to cancel with its reason behind a colon.
    pub(crate) fn command(&mut self, of: Uuid, what: &str) -> Record {
        let order_id = of.to_string();
        match what.split(':').collect::<Vec<_>>()[..] {
            ["ConfirmOrder"] => self.0.orchestrated(of, &v1::ConfirmOrder { order_id }),
            ["RefuseCancel"] => self.0.orchestrated(of, &v1::RefuseCancel { order_id }),
            ["CompleteOrder"] => self.0.orchestrated(of, &v1::CompleteOrder { order_id }),
            ["CancelOrder", reason] => {
                let reason = CancelReason::from_str_name(&format!("CANCEL_REASON_{reason}"));
                let reason = reason.unwrap().into();
                self.0.orchestrated(of, &v1::CancelOrder { order_id, reason })
            }
            _ => panic!("there is no command {what}"),
        }
    }
}

/// A new order that the orchestrator drives.
pub(crate) async fn orchestrated(shop: &Shop) -> Uuid {
    let coordination = Coordination::Orchestration.into();
    let request = PlaceOrderRequest { coordination, ..wants(&[("tv", 1)]) };
    id(&shop.place(request).await.unwrap())
}

async fn row(shop: &Shop, order_id: Uuid) -> String {
    sqlx::query_scalar("select row::text from orders as row where order_id = $1")
        .bind(order_id)
        .fetch_one(shop.pool())
        .await
        .unwrap()
}

const HISTORIES: [History; 16] = [
    ("ConfirmOrder", Confirmed, Nothing, false, 2, "OrderConfirmed"),
    ("CancelOrder:OUT_OF_STOCK", Cancelled, OutOfStock, false, 2, "OrderCancelled"),
    ("CancelOrder:DELIVERY_FAILED", Cancelled, DeliveryFailed, false, 2, "OrderCancelled"),
    ("cancel ConfirmOrder", Cancelled, Customer, false, 2, "OrderCancelled OrderCancelled"),
    ("deadline ConfirmOrder", Cancelled, TimedOut, false, 2, "OrderCancelled OrderCancelled"),
    (
        "cancel CancelOrder:OUT_OF_STOCK",
        Cancelled,
        Customer,
        false,
        2,
        "OrderCancelled OrderCancelled",
    ),
    ("ConfirmOrder deadline!", Confirmed, Nothing, false, 2, "OrderConfirmed"),
    (
        "ConfirmOrder CancelOrder:CUSTOMER",
        Confirmed,
        Nothing,
        false,
        2,
        "OrderConfirmed OrderConfirmed",
    ),
    (
        "ConfirmOrder CancelOrder:DELIVERY_FAILED",
        Cancelled,
        DeliveryFailed,
        false,
        3,
        "OrderConfirmed OrderCancelled",
    ),
    ("ConfirmOrder cancel", Cancelling, Nothing, false, 3, "OrderConfirmed OrderCancelRequested"),
    (
        "ConfirmOrder cancel CancelOrder:CUSTOMER cancel",
        Cancelled,
        Customer,
        false,
        4,
        "OrderConfirmed OrderCancelRequested OrderCancelled",
    ),
    (
        "ConfirmOrder cancel CancelOrder:OUT_OF_STOCK",
        Cancelling,
        Nothing,
        false,
        3,
        "OrderConfirmed OrderCancelRequested OrderConfirmed",
    ),
    (
        "ConfirmOrder cancel RefuseCancel CANCEL_REFUSED RefuseCancel",
        Confirmed,
        Nothing,
        true,
        4,
        "OrderConfirmed OrderCancelRequested OrderCancelRefused OrderCancelRefused",
    ),
    (
        "ConfirmOrder cancel RefuseCancel CancelOrder:CUSTOMER CancelOrder:DELIVERY_FAILED",
        Cancelled,
        DeliveryFailed,
        true,
        5,
        "OrderConfirmed OrderCancelRequested OrderCancelRefused OrderConfirmed OrderCancelled",
    ),
    (
        "ConfirmOrder cancel CompleteOrder ORDER_COMPLETED RefuseCancel",
        Completed,
        Nothing,
        true,
        4,
        "OrderConfirmed OrderCancelRequested OrderCompleted OrderCancelRefused",
    ),
    (
        "ConfirmOrder CompleteOrder CompleteOrder ConfirmOrder",
        Completed,
        Nothing,
        false,
        3,
        "OrderConfirmed OrderCompleted OrderCompleted OrderCompleted",
    ),
];

#[tokio::test]
async fn every_history_ends_as_the_saga_has_it() {
    let (mut shop, mut orchestrator) = (Shop::open().await, Orchestrator::new());
    for (steps, state, why, refused, revision, told) in HISTORIES {
        let order_id = orchestrated(&shop).await;
        for step in steps.split_whitespace() {
            if step.contains("Order") || step == "RefuseCancel" {
                let command = orchestrator.command(order_id, step);
                assert_eq!(shop.hear(std::slice::from_ref(&command)).await.emitted, 1, "{steps}");
                assert_eq!(shop.db.answers(&command).await.len(), 1, "{steps}");
            } else {
                fates::take(&mut shop, order_id, step).await;
            }
        }
        let order = shop.order(order_id).await;
        let seen = (order.state(), order.cancel_reason(), order.cancel_refused, order.revision);
        assert_eq!(seen, (state, why, refused, revision), "{steps}");
        let expected: Vec<_> = ["OrderPlaced"].into_iter().chain(told.split_whitespace()).collect();
        assert_eq!(shop.told(order_id).await, expected, "{steps}");
        assert_eq!(order.transitions.len() as i64, revision, "{steps}");
        assert_eq!(order.transitions.last().unwrap().state(), state, "{steps}");
        assert!(order.settle_time.is_some(), "{steps}");
    }
    assert_eq!(shop.count("messaging.inbox_parked").await, 0);
}

#[tokio::test]
async fn a_transition_names_the_command_that_caused_it_and_the_answer_that_told_of_it() {
    let (shop, mut orchestrator) = (Shop::open().await, Orchestrator::new());
    let order_id = orchestrated(&shop).await;
    let command = orchestrator.command(order_id, "ConfirmOrder");
    shop.hear(std::slice::from_ref(&command)).await;
    let command_id = Envelope::parse(Headers(&command.headers)).unwrap().event_id;
    let order = shop.order(order_id).await;
    let transition = order.transitions.last().unwrap();
    assert_eq!((order.etag.as_str(), transition.cause.as_str()), ("r2", "ConfirmOrder"));
    assert_eq!(transition.cause_id, command_id.to_string());
    assert_eq!(transition.event_id, Uuid::new_v5(&command_id, b"answer").to_string());
    assert_eq!(order.settle_time, transition.create_time);
    let told = shop.db.outbox().await.pop().unwrap();
    let told = Envelope::parse(Headers(&told.headers)).unwrap();
    assert_eq!((told.short_type(), told.causation_id), ("OrderConfirmed", Some(command_id)));
    assert_eq!(told.correlation_id, Some(order_id));
    assert_eq!(told.coordination, Some(chassis::cause::Coordination::Orchestration));
}

#[tokio::test]
async fn a_command_that_comes_again_is_answered_again_and_changes_nothing() {
    let (shop, mut orchestrator) = (Shop::open().await, Orchestrator::new());
    let cases = [
        ("", "ConfirmOrder", "OrderConfirmed"),
        ("", "CancelOrder:OUT_OF_STOCK", "OrderCancelled"),
        ("ConfirmOrder", "CancelOrder:DELIVERY_FAILED", "OrderCancelled"),
        ("ConfirmOrder cancel", "RefuseCancel", "OrderCancelRefused"),
        ("ConfirmOrder", "CompleteOrder", "OrderCompleted"),
    ];
    for (steps, command, answer) in cases {
        let order_id = orchestrated(&shop).await;
        for step in steps.split_whitespace() {
            if step == "cancel" {
                shop.cancel(order_id).await.unwrap();
            } else {
                let command = orchestrator.command(order_id, step);
                shop.hear(&[command]).await;
            }
        }
        let command = orchestrator.command(order_id, command);
        let twice = shop.hear(&[command.clone(), command.clone()]).await;
        assert_eq!((twice.count(Outcome::Applied), twice.count(Outcome::Duplicate)), (1, 1));
        let (before, revision) = (row(&shop, order_id).await, shop.order(order_id).await.revision);
        let again = shop.hear(std::slice::from_ref(&command)).await;
        assert_eq!((again.count(Outcome::Duplicate), again.emitted), (1, 1));
        assert_eq!(shop.db.answers(&command).await, [answer; 3]);
        assert_eq!(row(&shop, order_id).await, before);
        let order = shop.order(order_id).await;
        assert_eq!((order.revision, order.transitions.len() as i64), (revision, revision));
    }
}

#[tokio::test]
async fn commands_about_orders_that_the_orchestrator_does_not_drive_are_refused() {
    let (mut shop, mut orchestrator) = (Shop::open().await, Orchestrator::new());
    let (choreographed, driven) = (shop.confirmed().await, orchestrated(&shop).await);
    let told = shop.db.emitted().await;
    let order_id = driven.to_string();
    let refused = [
        // The row decides, whatever the headers say; and the headers must agree.
        orchestrator.command(choreographed, "CompleteOrder"),
        orchestrator.0.event(driven, &v1::ConfirmOrder { order_id }),
        orchestrator.command(Uuid::now_v7(), "ConfirmOrder"),
    ];
    assert_eq!(shop.hear(&refused).await.count(Outcome::Parked), refused.len());
    assert_eq!(shop.order(choreographed).await.state(), Confirmed);
    assert_eq!(shop.order(driven).await.state(), Pending);
    assert_eq!(shop.db.emitted().await, told);
}

#[tokio::test]
async fn commands_that_make_no_sense_wait_for_a_person() {
    let (shop, mut orchestrator) = (Shop::open().await, Orchestrator::new());
    let mut orders = Vec::new();
    for _ in 0..5 {
        orders.push(orchestrated(&shop).await);
    }
    shop.cancel(orders[4]).await.unwrap();
    let told = shop.db.emitted().await;
    let cancel = |of: Uuid, reason| v1::CancelOrder { order_id: of.to_string(), reason };
    let refused = [
        orchestrator.0.orchestrated(orders[0], &cancel(orders[0], 0)),
        // No JSON says it so, but protobuf may.
        binary(
            orchestrator.0.orchestrated(orders[1], &cancel(orders[1], 0)),
            &cancel(orders[1], 99),
        ),
        orchestrator.command(orders[2], "RefuseCancel"),
        orchestrator.command(orders[3], "CompleteOrder"),
        orchestrator.command(orders[4], "CompleteOrder"),
    ];
    assert_eq!(shop.hear(&refused).await.count(Outcome::Parked), refused.len());
    assert_eq!(shop.db.emitted().await, told);
    let reasons: Vec<String> =
        sqlx::query_scalar("select reason from messaging.inbox_parked order by parked_id")
            .fetch_all(shop.pool())
            .await
            .unwrap();
    assert!(reasons[..2].iter().all(|it| it.contains("needs a reason")), "{reasons:?}");
    assert!(reasons[2..4].iter().all(|it| it.contains("still pending")), "{reasons:?}");
    assert!(reasons[4].contains("for an order that is cancelled"), "{reasons:?}");
}

/// The orchestrator repeats it until it is answered, each time at another offset.
#[tokio::test]
async fn a_command_that_makes_no_sense_waits_once_however_often_it_is_repeated() {
    let (shop, mut orchestrator) = (Shop::open().await, Orchestrator::new());
    let command = orchestrator.command(orchestrated(&shop).await, "CompleteOrder");
    for attempt in 0..3 {
        let again = Record { offset: command.offset + attempt, ..command.clone() };
        assert_eq!(shop.hear(&[again]).await.count(Outcome::Parked), 1);
    }
    assert_eq!(shop.count("messaging.inbox_parked").await, 1);
}

/// The same message, with this payload in protobuf.
fn binary(mut record: Record, payload: &impl prost::Message) -> Record {
    record.headers.retain(|(name, _)| name != "content-type");
    record.headers.push(("content-type".to_owned(), Some(b"application/protobuf".to_vec())));
    Record { payload: Some(payload.encode_to_vec()), ..record }
}

#[tokio::test]
async fn a_batch_of_commands_gives_what_they_give_one_by_one() {
    let (shop, mut orchestrator) = (Shop::open().await, Orchestrator::new());
    let commands = [
        "ConfirmOrder",
        "CancelOrder:CUSTOMER",
        "CancelOrder:DELIVERY_FAILED",
        "ConfirmOrder",
        "RefuseCancel",
    ];
    let (together, alone) = (orchestrated(&shop).await, orchestrated(&shop).await);
    let mut batch = Vec::new();
    for command in commands {
        batch.push(orchestrator.command(together, command));
        let command = orchestrator.command(alone, command);
        shop.hear(std::slice::from_ref(&command)).await;
        shop.hear(&[command]).await;
    }
    let batch: Vec<_> = batch.iter().flat_map(|it| [it.clone(), it.clone()]).collect();
    shop.hear(&batch).await;
    let [together, alone] =
        [outcome(&shop, &[together], "tv").await, outcome(&shop, &[alone], "tv").await];
    assert_eq!(together, alone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancellation_and_a_deadline_and_a_confirmation_at_once_have_one_winner() {
    let (shop, mut orchestrator) = (Shop::open().await, Orchestrator::new());
    for round in 0..20 {
        let order_id = orchestrated(&shop).await;
        let confirm = [orchestrator.command(order_id, "ConfirmOrder")];
        let (cancelled, _, _) = tokio::join!(
            shop.cancel(order_id),
            shop.hear(&confirm),
            deadline_passes(&shop, order_id)
        );
        cancelled.unwrap();
        let order = shop.order(order_id).await;
        let answer = match order.state() {
            Cancelled => "OrderCancelled",
            Cancelling => "OrderConfirmed",
            other => panic!("round {round}: {other:?}"),
        };
        assert_eq!(shop.db.answers(&confirm[0]).await, [answer], "round {round}");
        assert_eq!(order.transitions.len() as i64, order.revision, "round {round}");
    }
}

#[test]
fn orders_listens_to_its_commands() {
    assert!(orders::inbox().topics().any(|topic| topic == "shop.orders.commands"));
}
