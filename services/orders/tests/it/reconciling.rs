//! What the reconciler does about an order whose rows do not fit: each remedy, and all the cases in which it keeps its hands off.

use std::time::Duration;

use chassis::{
    clock,
    doorbell::Doorbell,
    envelope::{Envelope, Headers},
    inbox::Record,
    testing::Sender,
};
use chrono::TimeDelta;
use futures::future::try_join_all;
use orders::{
    participants::Participants,
    reconciler::{Error, Reconciler, Swept},
};
use proto::{
    delivery::v1::DeliveryState as Delivery,
    orders::v1::{
        CancelOrder, CancelReason, ConfirmOrder, Coordination as Style,
        OrderState::{self, Cancelled, Cancelling, Completed, Confirmed, Pending},
        PlaceOrderRequest,
    },
    products::v1::ReservationState as Reservation,
};
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::{
    fates::take,
    rows::Rows,
    shop::{Shop, connected, id, in_time, wants},
};

const NOBODY: &str = "http://127.0.0.1:1";

/// The shop, the rows of the others, and the reconciler between them.
struct Shift {
    shop: Shop,
    rows: Rows,
    reconciler: Reconciler,
}

impl Shift {
    async fn begin() -> Self {
        let mut shop = Shop::open().await;
        let (rows, url) = Rows::serve(&mut shop.workers).await;
        let reconciler = reconciler(&shop, &url, &url);
        Self { shop, rows, reconciler }
    }

    /// A sweep in an hour, when no order is new any more.
    async fn sweep(&mut self) -> Result<Swept, Error> {
        in_time(self.reconciler.step(clock::now() + TimeDelta::hours(1))).await
    }

    fn put(&self, order_id: Uuid, reservation: Option<Reservation>, delivery: Option<Delivery>) {
        if let Some(state) = reservation {
            self.rows.reserve(order_id, state);
        }
        if let Some(state) = delivery {
            self.rows.deliver(order_id, state, false);
        }
    }
}

fn reconciler(shop: &Shop, products: &str, delivery: &str) -> Reconciler {
    let participants = Participants::new(connected(products), connected(delivery));
    let after = Duration::from_secs(300);
    Reconciler::new(shop.pool().clone(), Doorbell::default(), participants, after)
}

/// Steps as in [`take`]; the rows; the state after a sweep, and what is told in it.
type Case = (&'static str, Option<Reservation>, Option<Delivery>, OrderState, Option<&'static str>);

const RESERVED: Option<Reservation> = Some(Reservation::Reserved);
const STARTED: Option<Delivery> = Some(Delivery::Started);

const WRONG: [Case; 14] = [
    ("", None, None, Pending, Some("OrderPlaced")),
    ("StockReserved", RESERVED, None, Pending, Some("OrderPlaced")),
    ("", RESERVED, STARTED, Pending, None),
    ("DeliveryStarted", RESERVED, STARTED, Confirmed, Some("OrderConfirmed")),
    ("StockReserved", RESERVED, STARTED, Confirmed, Some("OrderConfirmed")),
    ("", Some(Reservation::Rejected), STARTED, Cancelled, Some("OrderCancelled")),
    ("StockReserved", RESERVED, Some(Delivery::Failed), Cancelled, Some("OrderCancelled")),
    ("confirm", RESERVED, STARTED, Confirmed, Some("OrderConfirmed")),
    ("confirm", RESERVED, Some(Delivery::Failed), Cancelled, Some("OrderCancelled")),
    ("confirm", RESERVED, Some(Delivery::Completed), Completed, None),
    ("confirm cancel", RESERVED, Some(Delivery::Ready), Cancelling, Some("OrderCancelRequested")),
    ("confirm cancel", RESERVED, Some(Delivery::Cancelled), Cancelled, Some("OrderCancelled")),
    ("cancel", RESERVED, Some(Delivery::Cancelled), Cancelled, Some("OrderCancelled")),
    ("cancel", Some(Reservation::Tombstone), STARTED, Cancelled, Some("OrderCancelled")),
];

#[tokio::test]
async fn whatever_was_lost_is_learned_or_sent_again() {
    let mut shift = Shift::begin().await;
    for (steps, reservation, delivery, state, told) in WRONG {
        let case = format!("{steps}: {reservation:?}, {delivery:?}");
        let order_id = shift.shop.placed().await;
        for step in steps.split_whitespace() {
            take(&mut shift.shop, order_id, step).await;
        }
        shift.put(order_id, reservation, delivery);
        let before = shift.shop.told(order_id).await;
        assert_eq!(shift.sweep().await.unwrap(), Swept { compared: 1, wrong: 1 }, "{case}");
        assert_eq!(shift.shop.order(order_id).await.state(), state, "{case}");
        let after = shift.shop.told(order_id).await;
        assert_eq!(after[before.len()..].first().map(String::as_str), told, "{case}");
        // The next sweep must not meet the orders of other cases.
        sqlx::query("delete from order_transitions").execute(shift.shop.pool()).await.unwrap();
        sqlx::query("delete from orders").execute(shift.shop.pool()).await.unwrap();
    }
    assert_eq!(shift.shop.count("messaging.inbox_parked").await, 0);
}

#[tokio::test]
async fn a_fact_that_is_learned_is_decided_and_noted_as_if_it_had_been_heard() {
    let mut shift = Shift::begin().await;
    let order_id = shift.shop.placed().await;
    shift.put(order_id, RESERVED, STARTED);
    // One fact after the other.
    assert_eq!(shift.sweep().await.unwrap().wrong, 1);
    assert_eq!(shift.sweep().await.unwrap().wrong, 1);
    let order = shift.shop.order(order_id).await;
    assert_eq!((order.state(), order.revision), (Confirmed, 2));
    assert_eq!(order.transitions[1].cause, "Reconciliation");
    assert!(order.settle_time.is_some());
    let noted = sqlx::query(
        "select kind, outcome, jsonb_array_length(emitted)
         from messaging.trail
         where type = 'Reconciliation' and correlation_id = $1
         order by handled_at",
    )
    .bind(order_id)
    .fetch_all(shift.shop.pool())
    .await
    .unwrap();
    let noted: Vec<(String, String, i32)> =
        noted.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let row = |emitted| ("timer".to_owned(), "applied".to_owned(), emitted);
    assert_eq!(noted, [row(0), row(1)]);
    // The events come after all.
    for late in ["StockReserved", "DeliveryStarted"] {
        shift.shop.hears(order_id, late).await;
    }
    assert_eq!(shift.shop.told(order_id).await, ["OrderPlaced", "OrderConfirmed"]);
    shift.rows.deliver(order_id, Delivery::Ready, false);
    let now = clock::now() + TimeDelta::hours(2);
    let swept = in_time(shift.reconciler.step(now)).await.unwrap();
    assert_eq!(swept, Swept { compared: 1, wrong: 0 });
}

#[tokio::test]
async fn a_refusal_that_was_lost_is_learned_and_without_one_the_wish_is_sent_again() {
    let mut shift = Shift::begin().await;
    let order_id = shift.shop.confirmed().await;
    shift.shop.cancel(order_id).await.unwrap();
    shift.put(order_id, RESERVED, Some(Delivery::Dispatched));
    assert_eq!(shift.sweep().await.unwrap().wrong, 1);
    let told = ["OrderPlaced", "OrderConfirmed", "OrderCancelRequested", "OrderCancelRequested"];
    assert_eq!(shift.shop.told(order_id).await, told);
    assert_eq!(shift.shop.order(order_id).await.state(), Cancelling);
    shift.rows.deliver(order_id, Delivery::Dispatched, true);
    assert_eq!(shift.sweep().await.unwrap().wrong, 1);
    let order = shift.shop.order(order_id).await;
    assert_eq!((order.state(), order.cancel_refused), (Confirmed, true));
    assert_eq!(shift.sweep().await.unwrap().wrong, 0);
    assert_eq!(shift.shop.told(order_id).await, told);
}

fn envelope(record: &Record) -> Envelope {
    Envelope::parse(Headers(&record.headers)).unwrap()
}

/// The first and the last event of an order: the same, but for the trace and all of the path but its end.
async fn told_twice(shift: &Shift, order_id: Uuid, short_type: &str, from: &str) {
    let told = shift.shop.db.outbox().await.into_iter();
    let told: Vec<Record> = told
        .filter(|it| it.key == order_id.to_string() && envelope(it).short_type() == short_type)
        .collect();
    let [first, again] = &told[..] else { panic!("{short_type} was told {} times", told.len()) };
    assert_eq!((&first.topic, &first.payload), (&again.topic, &again.payload));
    let (first, again) = (envelope(first), envelope(again));
    assert_eq!((first.event_id, first.time), (again.event_id, again.time));
    assert_eq!(first.event_type, again.event_type);
    assert_eq!((&first.source, first.causation_id), (&again.source, again.causation_id));
    assert_eq!(
        (first.correlation_id, first.coordination),
        (again.correlation_id, again.coordination)
    );
    let path = again.path.to_string();
    assert!(first.path.to_string().ends_with(&path) && path.starts_with(from), "{path}");
    assert!(again.path.contains(again.causation_id.unwrap()), "{path}");
    assert_ne!(first.trace.trace_id(), again.trace.trace_id());
}

#[tokio::test]
async fn what_is_sent_again_is_the_same_event_and_nothing_else_is_written() {
    let mut shift = Shift::begin().await;
    let order_id = shift.shop.placed().await;
    let before = shift.shop.everything().await;
    shift.sweep().await.unwrap();
    let mut after = shift.shop.everything().await;
    assert_eq!(after.len(), before.len() + 1);
    after.retain(|row| before.contains(row));
    assert_eq!(after, before);
    told_twice(&shift, order_id, "OrderPlaced", "orders/PlaceOrder/").await;
}

#[tokio::test]
async fn a_cancellation_that_is_sent_again_still_says_whose_doing_it_was() {
    let mut shift = Shift::begin().await;
    let rejected = shift.shop.placed().await;
    shift.shop.hears(rejected, "ProductOutOfStock").await;
    shift.put(rejected, Some(Reservation::Rejected), STARTED);
    let failed = shift.shop.confirmed().await;
    shift.shop.hears(failed, "DeliveryFailed").await;
    shift.put(failed, RESERVED, Some(Delivery::Failed));
    let driven = orchestrated(&shift.shop).await;
    let mut orchestrator = Sender::new("orchestrator");
    let command =
        CancelOrder { order_id: driven.to_string(), reason: CancelReason::DeliveryFailed.into() };
    shift.shop.hear(&[orchestrator.orchestrated(driven, &command)]).await;
    shift.put(driven, RESERVED, Some(Delivery::Failed));

    assert_eq!(shift.sweep().await.unwrap(), Swept { compared: 3, wrong: 3 });
    told_twice(&shift, rejected, "OrderCancelled", "products/ProductOutOfStock/").await;
    told_twice(&shift, failed, "OrderCancelled", "delivery/DeliveryFailed/").await;
    told_twice(&shift, driven, "OrderCancelled", "orchestrator/CancelOrder/").await;
}

async fn orchestrated(shop: &Shop) -> Uuid {
    let coordination = Style::Orchestration.into();
    let request = PlaceOrderRequest { coordination, ..wants(&[("tv", 1)]) };
    id(&shop.place(request).await.unwrap())
}

#[tokio::test]
async fn what_the_orchestrator_sees_to_is_left_to_it() {
    let mut shift = Shift::begin().await;
    let order_id = orchestrated(&shift.shop).await;
    assert_eq!(shift.sweep().await.unwrap().wrong, 1);
    told_twice(&shift, order_id, "OrderPlaced", "orders/PlaceOrder/").await;
    let before = shift.shop.everything().await;
    for (reservation, delivery) in [
        (RESERVED, None),
        (RESERVED, STARTED),
        (Some(Reservation::Rejected), STARTED),
        (RESERVED, Some(Delivery::Failed)),
    ] {
        shift.put(order_id, reservation, delivery);
        assert_eq!(shift.sweep().await.unwrap(), Swept { compared: 1, wrong: 0 });
    }
    assert_eq!(shift.shop.everything().await, before);

    let mut orchestrator = Sender::new("orchestrator");
    let confirm = ConfirmOrder { order_id: order_id.to_string() };
    shift.shop.hear(&[orchestrator.orchestrated(order_id, &confirm)]).await;
    assert_eq!(shift.shop.order(order_id).await.state(), Confirmed);
    shift.shop.cancel(order_id).await.unwrap();
    let before = shift.shop.everything().await;
    for (delivery, cancel_refused) in [
        (Delivery::Dispatched, true),
        (Delivery::Cancelled, false),
        (Delivery::Failed, false),
        (Delivery::Completed, false),
    ] {
        shift.rows.deliver(order_id, delivery, cancel_refused);
        assert_eq!(shift.sweep().await.unwrap(), Swept { compared: 1, wrong: 0 });
    }
    assert_eq!(shift.shop.everything().await, before);
    // Nobody has asked delivery to call it off.
    shift.rows.deliver(order_id, Delivery::Ready, false);
    assert_eq!(shift.sweep().await.unwrap(), Swept { compared: 1, wrong: 1 });
    told_twice(&shift, order_id, "OrderCancelRequested", "orders/CancelOrder/").await;
}

#[tokio::test]
async fn a_contradiction_is_counted_and_changes_nothing() {
    let mut shift = Shift::begin().await;
    let shipped = shift.shop.placed().await;
    shift.shop.cancel(shipped).await.unwrap();
    shift.put(shipped, RESERVED, Some(Delivery::Dispatched));
    let pending = shift.shop.placed().await;
    shift.put(pending, RESERVED, Some(Delivery::Ready));
    let lost = shift.shop.confirmed().await;
    shift.put(lost, RESERVED, None);
    let before = shift.shop.everything().await;
    for _ in 0..2 {
        assert_eq!(shift.sweep().await.unwrap(), Swept { compared: 3, wrong: 3 });
    }
    assert_eq!(shift.shop.everything().await, before);
}

#[tokio::test]
async fn an_order_that_cannot_be_put_right_does_not_keep_the_others_waiting() {
    let mut shift = Shift::begin().await;
    let (stuck, other) = (shift.shop.placed().await, shift.shop.placed().await);
    for order_id in [stuck, other] {
        shift.put(order_id, RESERVED, STARTED);
    }
    let refused = format!("check (order_id <> '{stuck}' or not stock_reserved)");
    let refused = AssertSqlSafe(format!("alter table orders add constraint stuck {refused}"));
    sqlx::query(refused).execute(shift.shop.pool()).await.unwrap();
    // One fact each time.
    for _ in 0..2 {
        assert!(matches!(shift.sweep().await, Err(Error::Remedy(_))));
    }
    let states = [shift.shop.order(stuck).await.state(), shift.shop.order(other).await.state()];
    assert_eq!(states, [Pending, Confirmed]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_moves_while_the_others_are_asked_is_left_for_the_next_sweep() {
    let mut shift = Shift::begin().await;
    let order_id = shift.shop.placed().await;
    let contradicted = shift.shop.placed().await;
    shift.put(contradicted, RESERVED, Some(Delivery::Ready));
    let (gate, asked) = (shift.rows.gate.clone(), shift.rows.asked.clone());
    let closed = gate.acquire().await.unwrap();
    let shop = &shift.shop;
    let meanwhile = async {
        asked.notified().await;
        shop.cancel(order_id).await.unwrap();
        shop.cancel(contradicted).await.unwrap();
        drop(closed);
    };
    let now = clock::now() + TimeDelta::minutes(6);
    let (swept, ()) = in_time(futures::future::join(shift.reconciler.step(now), meanwhile)).await;
    // As settled ones they are compared once more, and cancelled is what they are then.
    assert_eq!(swept.unwrap().compared, 4);
    assert_eq!(shift.shop.told(order_id).await, ["OrderPlaced", "OrderCancelled"]);
    let told = shift.shop.told(contradicted).await;
    assert_eq!(told, ["OrderPlaced", "OrderCancelled", "OrderCancelled"]);
}

#[tokio::test]
async fn while_one_of_the_others_is_away_nothing_is_compared() {
    let mut shift = Shift::begin().await;
    let order_id = shift.shop.placed().await;
    let before = shift.shop.everything().await;
    let (_, url) = Rows::serve(&mut shift.shop.workers).await;
    for (products, delivery, who) in [(NOBODY, &*url, "products"), (&*url, NOBODY, "delivery")] {
        let mut reconciler = reconciler(&shift.shop, products, delivery);
        let swept = in_time(reconciler.step(clock::now() + TimeDelta::hours(1))).await;
        assert!(is_away(&swept.unwrap_err(), who));
    }
    // Frozen: it has the question, and does not answer.
    let gate = shift.rows.gate.clone();
    let closed = gate.acquire().await.unwrap();
    assert!(is_away(&shift.sweep().await.unwrap_err(), "delivery"));
    assert_eq!(shift.shop.everything().await, before);
    drop(closed);
    assert_eq!(shift.sweep().await.unwrap(), Swept { compared: 1, wrong: 1 });
    assert_eq!(shift.shop.told(order_id).await, ["OrderPlaced", "OrderPlaced"]);
}

fn is_away(error: &Error, who: &str) -> bool {
    use orders::participants::Error::Away;
    matches!(error, Error::Unknown(Away { who: away, .. }) if *away == who)
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_compares_nothing() {
    use orders::participants::Error::Nonsense;
    let mut shift = Shift::begin().await;
    let order_id = shift.shop.placed().await;
    let before = shift.shop.everything().await;
    shift.put(order_id, RESERVED, Some(Delivery::Unspecified));
    let error = shift.sweep().await.unwrap_err();
    assert!(matches!(error, Error::Unknown(Nonsense { who: "delivery", .. })), "{error}");
    shift.put(order_id, Some(Reservation::Unspecified), STARTED);
    let error = shift.sweep().await.unwrap_err();
    assert!(matches!(error, Error::Unknown(Nonsense { who: "products", .. })), "{error}");
    assert_eq!(shift.shop.everything().await, before);
}

#[tokio::test]
async fn every_order_has_its_turn_and_young_ones_have_none() {
    let mut shift = Shift::begin().await;
    let place =
        |count: usize| try_join_all((0..count).map(|_| shift.shop.place(wants(&[("tv", 1)]))));
    let settled = place(130).await.unwrap();
    sqlx::query("update orders set state = 'cancelled', cancel_reason = 'customer'")
        .execute(shift.shop.pool())
        .await
        .unwrap();
    let pending = place(120).await.unwrap();
    let cancelling = shift.shop.confirmed().await;
    shift.shop.cancel(cancelling).await.unwrap();

    assert_eq!(in_time(shift.reconciler.step(clock::now())).await.unwrap(), Swept::default());
    assert!(shift.rows.questions.lock().unwrap().is_empty());

    let mut compared = Vec::new();
    for _ in 0..3 {
        compared.push(shift.sweep().await.unwrap().compared);
    }
    // Hundreds, then the rest, then the first ones again.
    assert_eq!(compared, [200, 51, 200]);
    let questions = shift.rows.questions.lock().unwrap().clone();
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let expected = |orders: &[proto::orders::v1::Order]| {
        orders.iter().map(|order| order.order_id.clone()).collect::<Vec<_>>()
    };
    let mut unsettled = expected(&pending);
    unsettled.push(cancelling.to_string());
    assert_eq!([&*questions[0], &questions[2]].concat(), sorted(unsettled));
    assert_eq!([&*questions[1], &questions[3]].concat(), sorted(expected(&settled)));
    assert_eq!((&questions[4], &questions[5]), (&questions[0], &questions[1]));
}
