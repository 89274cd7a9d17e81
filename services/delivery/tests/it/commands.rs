//! What delivery does when the orchestrator tells it to, one command at a time.

use chassis::{inbox::Record, testing::Sender, trail::Outcome};
use proto::delivery::v1::{CancelDelivery, DeliveryLine, ReadyDelivery, StartDelivery};
use serde_json::Value;
use uuid::Uuid;

use crate::shop::{Shop, complete, dispatch, envelope, fail};

/// A delivery that the orchestrator drives, and how far it has come.
struct Driven {
    shop: Shop,
    orchestrator: Sender,
    order_id: Uuid,
}

impl Driven {
    async fn open() -> Self {
        let orchestrator = Sender::new("orchestrator");
        Self { shop: Shop::open().await, orchestrator, order_id: Uuid::now_v7() }
    }

    /// A delivery of a new order, brought so far by these steps.
    async fn go_on_with_another(&mut self, steps: &str) {
        self.order_id = Uuid::now_v7();
        let (api, order_id) = (self.shop.api(), self.order_id);
        for step in steps.split_whitespace() {
            match step {
                "Dispatch" => drop(dispatch(&api, order_id, "").await.unwrap()),
                "Complete" => drop(complete(&api, order_id, "").await.unwrap()),
                "Fail" => drop(fail(&api, order_id, "").await.unwrap()),
                command => {
                    let command = self.command(command);
                    self.hear(&[command]).await;
                }
            }
        }
    }

    fn command(&mut self, what: &str) -> Record {
        let order_id = self.order_id;
        match what {
            "Start" => self.orchestrator.orchestrated(order_id, &start(order_id, "서울시")),
            "StartNowhere" => {
                self.orchestrator.orchestrated(order_id, &start(order_id, "Atlantis 1"))
            }
            "Ready" => self.orchestrator.orchestrated(order_id, &ready(order_id)),
            "Cancel" => self.orchestrator.orchestrated(order_id, &cancel(order_id)),
            other => panic!("there is no command {other}"),
        }
    }

    async fn hear(&self, records: &[Record]) -> chassis::inbox::Report {
        self.shop.hear(records).await
    }

    async fn state(&self) -> String {
        self.shop.state(self.order_id).await
    }

    async fn row(&self) -> Option<String> {
        sqlx::query_scalar("select row::text from deliveries as row where order_id = $1")
            .bind(self.order_id)
            .fetch_optional(&self.shop.db.pool)
            .await
            .unwrap()
    }
}

fn start(order_id: Uuid, address: &str) -> StartDelivery {
    StartDelivery {
        order_id: order_id.to_string(),
        lines: vec![DeliveryLine {
            product_id: "tv".to_owned(),
            product_name: "TV".to_owned(),
            quantity: 1,
        }],
        customer_id: "1@uengine.org".to_owned(),
        customer_name: "홍길동".to_owned(),
        delivery_address: address.to_owned(),
    }
}

fn ready(order_id: Uuid) -> ReadyDelivery {
    ReadyDelivery { order_id: order_id.to_string() }
}

fn cancel(order_id: Uuid) -> CancelDelivery {
    CancelDelivery { order_id: order_id.to_string() }
}

/// Steps that bring a delivery somewhere; a command; the state it leads to, and the answer.
const ANSWERS: [(&str, &str, &str, &str); 22] = [
    ("", "Start", "started", "DeliveryStarted"),
    ("", "StartNowhere", "failed", "DeliveryFailed"),
    ("Start", "Start", "started", "DeliveryStarted"),
    ("Start Ready", "Start", "ready", "DeliveryStarted"),
    ("Start Fail", "Start", "failed", "DeliveryFailed"),
    ("Start Cancel", "Start", "cancelled", "DeliveryCancelled"),
    ("Cancel", "Start", "tombstone", "DeliveryCancelled"),
    ("Start", "Ready", "ready", "DeliveryReady"),
    ("Start Ready", "Ready", "ready", "DeliveryReady"),
    ("Start Ready Dispatch", "Ready", "dispatched", "DeliveryReady"),
    ("Start Ready Dispatch Complete", "Ready", "completed", "DeliveryReady"),
    ("Start Fail", "Ready", "failed", "DeliveryFailed"),
    ("Start Cancel", "Ready", "cancelled", "DeliveryCancelled"),
    ("Cancel", "Ready", "tombstone", "DeliveryCancelled"),
    ("", "Cancel", "tombstone", "DeliveryCancelled"),
    ("Start", "Cancel", "cancelled", "DeliveryCancelled"),
    ("Start Ready", "Cancel", "cancelled", "DeliveryCancelled"),
    ("Start Cancel", "Cancel", "cancelled", "DeliveryCancelled"),
    ("Start Ready Dispatch", "Cancel", "dispatched", "DeliveryCancelRefused"),
    ("Start Ready Dispatch Complete", "Cancel", "completed", "DeliveryCancelRefused"),
    ("Start Ready Dispatch Cancel", "Cancel", "dispatched", "DeliveryCancelRefused"),
    ("Start Fail", "Cancel", "failed", "DeliveryFailed"),
];

#[tokio::test]
async fn every_command_is_answered_and_answered_again_when_it_comes_again() {
    let mut driven = Driven::open().await;
    for (steps, command, state, answer) in ANSWERS {
        driven.go_on_with_another(steps).await;
        let command = driven.command(command);
        // Twice in a batch, and once more.
        assert_eq!(driven.hear(&[command.clone(), command.clone()]).await.emitted, 2, "{steps}");
        let row = driven.row().await;
        let again = driven.hear(std::slice::from_ref(&command)).await;
        assert_eq!(again.emitted, 1, "{steps}");
        assert_eq!(again.count(Outcome::Applied), 0, "{steps}");
        assert_eq!(driven.shop.db.answers(&command).await, [answer; 3], "{steps}");
        assert_eq!(driven.row().await, row, "{steps}");
        assert_eq!(driven.state().await, state, "{steps}");
    }
}

#[tokio::test]
async fn an_answer_carries_the_parcel_that_the_command_described() {
    let mut driven = Driven::open().await;
    driven.go_on_with_another("Start Ready").await;
    let told = driven.shop.last_told().await;
    assert_eq!(envelope(&told).event_type, "shop.delivery.v1.DeliveryReady");
    assert_eq!(envelope(&told).correlation_id, Some(driven.order_id));
    let payload: Value = serde_json::from_slice(&told.payload.unwrap()).unwrap();
    assert_eq!(payload["deliveryState"], "DELIVERY_STATE_READY");
    assert_eq!(payload["customerName"], "홍길동");
    assert_eq!(payload["deliveryAddress"], "서울시");
    assert_eq!(payload["lines"][0]["productName"], "TV");
}

#[tokio::test]
async fn the_calls_of_the_warehouse_tell_facts_that_the_calls_have_caused() {
    let mut driven = Driven::open().await;
    driven.go_on_with_another("Start Ready Dispatch Complete").await;
    let told = driven.shop.db.outbox().await;
    for fact in told.iter().map(envelope).skip(2) {
        let caused_by: String =
            sqlx::query_scalar("select kind from messaging.trail where event_id = $1")
                .bind(fact.causation_id)
                .fetch_one(&driven.shop.db.pool)
                .await
                .unwrap();
        assert_eq!(caused_by, "call", "{fact:?}");
        assert_eq!(fact.coordination, Some(chassis::cause::Coordination::Orchestration));
    }
    assert_eq!(told.len(), 4);
}

#[tokio::test]
async fn a_cancellation_that_overtakes_its_start_leaves_nothing_to_ship() {
    let mut driven = Driven::open().await;
    let (start, cancel) = (driven.command("Start"), driven.command("Cancel"));
    let report = driven.hear(&[cancel.clone(), start.clone()]).await;
    assert_eq!((report.count(Outcome::Applied), report.count(Outcome::Raced)), (1, 1));
    assert_eq!(driven.state().await, "tombstone");
    assert_eq!(driven.shop.db.answers(&cancel).await, ["DeliveryCancelled"]);
    assert_eq!(driven.shop.db.answers(&start).await, ["DeliveryCancelled"]);
    assert!(dispatch(&driven.shop.api(), driven.order_id, "").await.is_err());
}

#[tokio::test]
async fn goods_of_which_there_is_no_row_wait_for_a_person() {
    let mut driven = Driven::open().await;
    let ready = driven.command("Ready");
    assert_eq!(driven.hear(&[ready]).await.count(Outcome::Parked), 1);
    assert!(driven.shop.db.emitted().await.is_empty());
}

#[tokio::test]
async fn commands_about_orders_that_the_orchestrator_does_not_drive_are_refused() {
    let mut driven = Driven::open().await;
    let choreographed = driven.shop.started().await;
    driven.order_id = choreographed;
    let before = driven.row().await;
    let fresh = Uuid::now_v7();
    // By its headers; and by its row, whatever the headers say.
    let refused = [
        driven.orchestrator.event(fresh, &start(fresh, "서울시")),
        driven.orchestrator.event(choreographed, &ready(choreographed)),
        driven.orchestrator.orchestrated(choreographed, &cancel(choreographed)),
    ];
    assert_eq!(driven.hear(&refused).await.count(Outcome::Parked), refused.len());
    assert_eq!(driven.row().await, before);
    assert_eq!(driven.shop.db.emitted().await, ["DeliveryStarted"]);
}

#[tokio::test]
async fn a_command_that_describes_no_parcel_parks() {
    let mut driven = Driven::open().await;
    let empty = StartDelivery { lines: Vec::new(), ..start(driven.order_id, "서울시") };
    let command = driven.orchestrator.orchestrated(driven.order_id, &empty);
    assert_eq!(driven.hear(&[command]).await.count(Outcome::Parked), 1);
    assert_eq!(driven.state().await, "");
}

#[tokio::test]
async fn delivery_listens_to_its_commands() {
    let shop = Shop::open().await;
    assert!(shop.inbox.topics().any(|topic| topic == "shop.delivery.commands"));
}
