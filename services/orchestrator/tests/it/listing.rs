//! Lists of sagas: by state, by age, by order, page by page.

use proto::orchestrator::v1::{ListSagasRequest, saga_service_server::SagaService as _};
use tonic::{Code, Request};
use uuid::Uuid;

use crate::shop::{PATIENT, Shop};

async fn list(shop: &Shop, request: ListSagasRequest) -> (Vec<String>, String) {
    let answer = shop.api.list_sagas(Request::new(request)).await.unwrap().into_inner();
    (answer.sagas.into_iter().map(|saga| saga.saga_id).collect(), answer.next_page_token)
}

fn ids(orders: &[Uuid]) -> Vec<String> {
    orders.iter().map(Uuid::to_string).collect()
}

#[tokio::test]
async fn sagas_are_listed_by_what_was_asked_for() {
    let mut shop = Shop::open(PATIENT).await;
    let (one, two) = (shop.begun().await, shop.fulfilling().await);
    let three = shop.begun().await;
    let ask = ListSagasRequest::default;
    assert_eq!(list(&shop, ask()).await.0, ids(&[three, two, one]), "newest first");
    let state = "RESERVING".to_owned();
    assert_eq!(list(&shop, ListSagasRequest { state, ..ask() }).await.0, ids(&[three, one]));
    let order_id = two.to_string();
    assert_eq!(list(&shop, ListSagasRequest { order_id, ..ask() }).await.0, ids(&[two]));
    let nothing = Vec::<String>::new();
    assert_eq!(list(&shop, ListSagasRequest { parked: true, ..ask() }).await.0, nothing);
    let hour = Some(proto::Duration { seconds: 3600, nanos: 0 });
    assert_eq!(list(&shop, ListSagasRequest { older_than: hour, ..ask() }).await.0, nothing);
    let now = Some(proto::Duration::default());
    let old = ListSagasRequest { older_than: now, unfinished: true, ..ask() };
    assert_eq!(list(&shop, old).await.0, ids(&[three, two, one]));
}

#[tokio::test]
async fn pages_leave_nothing_out_and_a_token_answers_only_its_own_question() {
    let mut shop = Shop::open(PATIENT).await;
    let mut all = Vec::new();
    for _ in 0..5 {
        all.insert(0, shop.begun().await);
    }
    let mut request = ListSagasRequest { page_size: 2, ..Default::default() };
    let mut seen = Vec::new();
    loop {
        let (page, next) = list(&shop, request.clone()).await;
        seen.extend(page);
        if next.is_empty() {
            break;
        }
        request.page_token = next;
    }
    assert_eq!(seen, ids(&all));
    request.state = "RESERVING".to_owned();
    let status = shop.api.list_sagas(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused() {
    let shop = Shop::open(PATIENT).await;
    let request = ListSagasRequest {
        page_size: -1,
        state: "LOST".to_owned(),
        order_id: "7".to_owned(),
        older_than: Some(proto::Duration { seconds: -1, nanos: 0 }),
        page_token: "%".to_owned(),
        ..Default::default()
    };
    let status = shop.api.list_sagas(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    for field in ["page_size", "state", "order_id", "older_than", "page_token"] {
        assert!(status.message().contains(field), "{field} is not named: {status}");
    }
}
