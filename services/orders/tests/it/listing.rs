//! Lists of orders: newest first, page by page, by every condition, with tokens that belong to their question.

use proto::{
    Duration, Timestamp,
    orders::v1::{
        ListOrdersRequest, Order, OrderState, PlaceOrderRequest,
        order_service_server::OrderService as _,
    },
};
use tonic::{Code, Request};
use uuid::Uuid;

use crate::shop::{Shop, id, named, wants};

/// All pages of this size; every page but the last is full.
async fn all(shop: &Shop, question: ListOrdersRequest) -> Vec<Uuid> {
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListOrdersRequest { page_token, ..question.clone() };
        let answer = shop.api.list_orders(Request::new(request)).await.unwrap().into_inner();
        listed.extend(answer.orders.iter().map(id));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return listed;
        }
        assert_eq!(answer.orders.len() as i32, question.page_size);
    }
}

async fn of_customer(shop: &Shop, customer_id: &str) -> Order {
    let mut request: PlaceOrderRequest = wants(&[("tv", 1)]);
    request.customer.as_mut().unwrap().customer_id = customer_id.to_owned();
    shop.place(request).await.unwrap()
}

#[tokio::test]
async fn every_condition_is_kept_over_all_pages() {
    let mut shop = Shop::open().await;
    let mut placed = Vec::new();
    for index in 0..23 {
        placed.push(of_customer(&shop, ["a", "b", "c"][index % 3]).await);
    }
    let ids: Vec<Uuid> = placed.iter().map(id).collect();
    for order_id in &ids[..6] {
        shop.hears(*order_id, "StockReserved").await;
        shop.hears(*order_id, "DeliveryStarted").await;
    }
    for order_id in &ids[..3] {
        shop.cancel(*order_id).await.unwrap();
    }
    shop.hears(ids[0], "DeliveryCancelled").await;
    shop.hears(ids[3], "DeliveryCompleted").await;
    let newest_first =
        |indices: Vec<usize>| indices.into_iter().rev().map(|index| ids[index]).collect::<Vec<_>>();
    let question = || ListOrdersRequest { page_size: 4, ..Default::default() };
    let by_state = |state: OrderState| ListOrdersRequest { state: state.into(), ..question() };

    assert_eq!(all(&shop, question()).await, newest_first((0..23).collect()));
    assert_eq!(all(&shop, by_state(OrderState::Pending)).await, newest_first((6..23).collect()));
    assert_eq!(all(&shop, by_state(OrderState::Confirmed)).await, newest_first(vec![4, 5]));
    assert_eq!(all(&shop, by_state(OrderState::Cancelling)).await, newest_first(vec![1, 2]));
    assert_eq!(all(&shop, by_state(OrderState::Cancelled)).await, newest_first(vec![0]));
    assert_eq!(all(&shop, by_state(OrderState::Completed)).await, newest_first(vec![3]));
    let of_b = ListOrdersRequest { customer_id: "b".to_owned(), ..by_state(OrderState::Pending) };
    assert_eq!(all(&shop, of_b).await, newest_first(vec![7, 10, 13, 16, 19, 22]));

    // From is included, before is not.
    let between = ListOrdersRequest {
        create_time_from: placed[5].create_time,
        create_time_before: placed[9].create_time,
        ..question()
    };
    assert_eq!(all(&shop, between).await, newest_first((5..9).collect()));
    sqlx::query("update orders set created_at = created_at - interval '10 minutes' where order_id = any($1)")
        .bind(&ids[4..9])
        .execute(shop.pool())
        .await
        .unwrap();
    let waiting =
        ListOrdersRequest { pending_for: Some(Duration { seconds: 300, nanos: 0 }), ..question() };
    assert_eq!(all(&shop, waiting).await, newest_first((6..9).collect()));
    let never = ListOrdersRequest {
        create_time_from: Some(Timestamp { seconds: 253_402_300_799, nanos: 0 }),
        ..question()
    };
    assert_eq!(all(&shop, never).await, newest_first(vec![]));
}

#[tokio::test]
async fn orders_that_come_between_two_pages_neither_shift_nor_repeat_any() {
    let shop = Shop::open().await;
    let mut old = Vec::new();
    for _ in 0..6 {
        old.push(shop.placed().await);
    }
    let question = ListOrdersRequest { page_size: 4, ..Default::default() };
    let first = shop.api.list_orders(Request::new(question.clone())).await.unwrap().into_inner();
    shop.placed().await;
    let page_token = first.next_page_token;
    // The size may change from page to page.
    let next = ListOrdersRequest { page_token, page_size: 1000, ..question };
    let second = shop.api.list_orders(Request::new(next)).await.unwrap().into_inner();
    let listed: Vec<_> = first.orders.iter().chain(&second.orders).map(id).collect();
    old.reverse();
    assert_eq!(listed, old);
    assert_eq!(second.next_page_token, "");
}

#[tokio::test]
async fn a_token_answers_only_its_own_question() {
    let shop = Shop::open().await;
    for _ in 0..3 {
        shop.placed().await;
    }
    let question = ListOrdersRequest { page_size: 2, ..Default::default() };
    let first = shop.api.list_orders(Request::new(question.clone())).await.unwrap().into_inner();
    let other = ListOrdersRequest {
        page_token: first.next_page_token,
        state: OrderState::Pending.into(),
        ..question
    };
    let status = shop.api.list_orders(Request::new(other)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(named(&status), ["page_token"]);
}

#[tokio::test]
async fn a_page_that_ends_with_the_last_order_has_no_next() {
    let shop = Shop::open().await;
    for _ in 0..4 {
        shop.placed().await;
    }
    let question = ListOrdersRequest { page_size: 4, ..Default::default() };
    let page = shop.api.list_orders(Request::new(question)).await.unwrap().into_inner();
    assert_eq!((page.orders.len(), page.next_page_token.as_str()), (4, ""));
}
