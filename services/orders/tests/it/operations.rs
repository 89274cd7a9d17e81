//! What an operator asks the real program for: the trail, what is parked and the verbs for it, switches.

use chassis::trail::Outcome;
use proto::operations::v1::{
    GetLagRequest, GetTrailRequest, ListParkedRequest, ListSwitchesRequest, RetryParkedRequest,
    SetSwitchRequest, SkipParkedRequest, Switch, TrailEntry, TrailKind, TrailOutcome,
    operations_service_client::OperationsServiceClient,
};
use proto::orders::v1::OrderState;
use tonic::{Code, transport::Channel};
use uuid::Uuid;

use crate::{
    program::Program,
    shop::{Shop, named, reason},
};

async fn operations(program: &Program) -> OperationsServiceClient<Channel> {
    OperationsServiceClient::new(program.channel().await)
}

async fn trail(
    operations: &mut OperationsServiceClient<Channel>,
    order_id: Uuid,
) -> Vec<TrailEntry> {
    let request = GetTrailRequest { order_id: order_id.to_string() };
    let answer = operations.get_trail(request).await.unwrap().into_inner();
    assert_eq!(answer.service, "orders");
    answer.entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trail_tells_what_happened_to_an_order() {
    let mut shop = Shop::open().await;
    let order_id = shop.confirmed().await;
    let program = Program::start(&shop.db);
    let entries = trail(&mut operations(&program).await, order_id).await;
    let types: Vec<_> = entries.iter().map(|it| it.r#type.as_str()).collect();
    let expected =
        ["PlaceOrder", "shop.products.v1.StockReserved", "shop.delivery.v1.DeliveryStarted"];
    // The two facts were handled in one commit.
    assert_eq!(types[0], expected[0]);
    assert!(expected[1..].iter().all(|it| types.contains(it)), "{types:?}");
    let last = entries.iter().find(|it| it.r#type == expected[2]).unwrap();
    assert_eq!((last.kind(), last.outcome()), (TrailKind::Message, TrailOutcome::Applied));
    assert_eq!(last.emitted[0].r#type, "shop.orders.v1.OrderConfirmed");
    assert_eq!((last.topic.as_str(), last.deliveries), ("shop.delivery.events", 1));
    assert_eq!(last.correlation_id, order_id.to_string());
    let status = operations(&program)
        .await
        .get_trail(GetTrailRequest { order_id: "7".to_owned() })
        .await
        .unwrap_err();
    assert_eq!(named(&status), ["order_id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_message_is_listed_retried_and_given_up() {
    let mut shop = Shop::open().await;
    let order_id = shop.placed().await;
    let key = order_id.to_string();
    let torn = |shop: &mut Shop| {
        let mut torn = shop.others.tell(order_id, "StockReserved");
        torn.payload = Some(b"{torn".to_vec());
        torn
    };
    let batch = [
        torn(&mut shop),
        shop.others.tell(order_id, "StockReserved"),
        shop.others.tell(order_id, "DeliveryStarted"),
    ];
    assert_eq!(shop.hear(&batch).await.count(Outcome::Parked), 3);
    let program = Program::start(&shop.db);
    let mut operations = operations(&program).await;
    assert_eq!(operations.get_lag(GetLagRequest {}).await.unwrap().into_inner().parked, 3);

    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListParkedRequest { page_size: 2, page_token, key: key.clone() };
        let page = operations.list_parked(request).await.unwrap().into_inner();
        listed.extend(page.messages);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.len(), 3);
    assert_eq!(
        (listed[0].payload.as_slice(), listed[0].key.as_str()),
        (b"{torn".as_slice(), key.as_str())
    );
    assert_eq!(listed[0].r#type, "shop.products.v1.StockReserved");

    let retry = RetryParkedRequest { key: key.clone() };
    let status = operations.retry_parked(retry.clone()).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "STILL_REFUSED")
    );
    let skip = |parked_id| SkipParkedRequest {
        key: key.clone(),
        parked_id,
        reason: "a torn message".to_owned(),
    };
    let status = operations.skip_parked(skip(listed[1].parked_id)).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_FIRST");
    let silent = SkipParkedRequest { reason: String::new(), ..skip(listed[0].parked_id) };
    assert_eq!(named(&operations.skip_parked(silent).await.unwrap_err()), ["reason"]);
    let skipped = operations.skip_parked(skip(listed[0].parked_id)).await.unwrap().into_inner();
    assert_eq!(skipped.handled, 2);
    assert_eq!(shop.order(order_id).await.state(), OrderState::Confirmed);
    assert_eq!(operations.retry_parked(retry).await.unwrap_err().code(), Code::NotFound);

    // The order's trail says what became of each, and that somebody decided it.
    let entries = trail(&mut operations, order_id).await;
    let skipped: Vec<_> =
        entries.iter().filter(|it| it.outcome() == TrailOutcome::Skipped).collect();
    let kinds: Vec<_> = skipped.iter().map(|it| it.kind()).collect();
    assert!(kinds.contains(&TrailKind::Message) && kinds.contains(&TrailKind::Verb), "{skipped:?}");
    assert_eq!(kinds.len(), 2);
    assert!(entries.iter().all(|it| it.outcome() != TrailOutcome::Parked), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_cannot_be_are_the_callers_fault() {
    let shop = Shop::open().await;
    let program = Program::start(&shop.db);
    let mut operations = operations(&program).await;
    let key = "a\0b".to_owned();
    let list = ListParkedRequest { key: key.clone(), ..Default::default() };
    assert_eq!(named(&operations.list_parked(list).await.unwrap_err()), ["key"]);
    let retry = RetryParkedRequest { key: key.clone() };
    assert_eq!(named(&operations.retry_parked(retry).await.unwrap_err()), ["key"]);
    let skip = SkipParkedRequest { key, parked_id: 1, reason: String::new() };
    assert_eq!(named(&operations.skip_parked(skip).await.unwrap_err()), ["key", "reason"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_switches_are_only_for_demonstrations() {
    let shop = Shop::open().await;
    let switch = SetSwitchRequest { name: "consume".to_owned(), on: false };
    let program = Program::start(&shop.db);
    let status = operations(&program).await.set_switch(switch.clone()).await.unwrap_err();
    assert_eq!(reason(&status), "DEMO_OFF");
    let none = operations(&program).await.list_switches(ListSwitchesRequest {}).await.unwrap();
    assert_eq!(none.into_inner().switches, []);
    let program = Program::with(&shop.db, |command| {
        command.arg("--demo");
    });
    let mut operations = operations(&program).await;
    assert!(!operations.set_switch(switch.clone()).await.unwrap().into_inner().on);
    let all = operations.list_switches(ListSwitchesRequest {}).await.unwrap().into_inner();
    assert_eq!(all.switches, [Switch { name: "consume".to_owned(), on: false }]);
    let unknown = SetSwitchRequest { name: "lights".to_owned(), ..switch };
    assert_eq!(named(&operations.set_switch(unknown).await.unwrap_err()), ["name"]);
}
