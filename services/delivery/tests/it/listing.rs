//! ListDeliveries: newest first, page by page, by state. BatchGetDeliveries: those of some orders.

use delivery::store;
use proto::delivery::v1::{
    BatchGetDeliveriesRequest, Delivery, DeliveryState, GetDeliveryRequest, ListDeliveriesRequest,
    ListDeliveriesResponse, delivery_service_server::DeliveryService as _,
};
use sqlx::{AssertSqlSafe, Row as _};
use tonic::{Request, Status};
use uuid::Uuid;

use crate::{
    calls::violated,
    shop::{Shop, fail},
};

async fn list(
    shop: &Shop,
    request: ListDeliveriesRequest,
) -> Result<ListDeliveriesResponse, Status> {
    Ok(shop.api().list_deliveries(Request::new(request)).await?.into_inner())
}

/// All pages, in order.
async fn all(shop: &Shop, question: ListDeliveriesRequest) -> Vec<Vec<Delivery>> {
    let mut request = question;
    let mut pages = Vec::new();
    loop {
        let answer = list(shop, request.clone()).await.unwrap();
        pages.push(answer.deliveries);
        if answer.next_page_token.is_empty() {
            return pages;
        }
        request.page_token = answer.next_page_token;
    }
}

/// Four deliveries of one batch, so of one time; then three more, and a tombstone.
async fn filled() -> (Shop, Vec<String>) {
    let mut shop = Shop::open().await;
    let mut order_ids: Vec<_> = (0..4).map(|_| Uuid::now_v7()).collect();
    let batch: Vec<_> = order_ids.iter().map(|order_id| shop.orders.placed(*order_id)).collect();
    shop.hear(&batch).await;
    order_ids.extend([shop.started().await, shop.ready().await, shop.dispatched().await]);
    let tombstone = shop.orders.cancelled(Uuid::now_v7());
    shop.hear(&[tombstone]).await;
    order_ids.reverse();
    (shop, order_ids.iter().map(Uuid::to_string).collect())
}

#[tokio::test]
async fn pages_hold_every_delivery_once_newest_first_and_no_tombstone() {
    let (shop, newest_first) = filled().await;
    for page_size in [1, 2, 3, 6, 7, 1000] {
        let pages = all(&shop, ListDeliveriesRequest { page_size, ..Default::default() }).await;
        assert!(pages.iter().all(|page| !page.is_empty() && page.len() <= page_size as usize));
        let listed: Vec<_> = pages.concat();
        let by_time = |pair: &[Delivery]| {
            let key = |it: &Delivery| {
                let time = it.create_time.unwrap();
                (time.seconds, time.nanos, it.delivery_id.clone())
            };
            key(&pair[0]) > key(&pair[1])
        };
        assert!(listed.windows(2).all(by_time), "{listed:?}");
        let mut order_ids: Vec<_> = listed.into_iter().map(|delivery| delivery.order_id).collect();
        assert_eq!(order_ids[..3], newest_first[..3]);
        order_ids.sort();
        let mut expected = newest_first.clone();
        expected.sort();
        assert_eq!(order_ids, expected);
    }
}

#[tokio::test]
async fn a_delivery_that_comes_between_two_pages_moves_nothing() {
    let (mut shop, newest_first) = filled().await;
    let first =
        list(&shop, ListDeliveriesRequest { page_size: 2, ..Default::default() }).await.unwrap();
    shop.started().await;
    let request = ListDeliveriesRequest {
        page_size: 1,
        page_token: first.next_page_token,
        ..Default::default()
    };
    let second = list(&shop, request).await.unwrap();
    assert_eq!(second.deliveries[0].order_id, newest_first[2]);
}

#[tokio::test]
async fn only_deliveries_of_the_wanted_state_are_listed() {
    let (mut shop, _) = filled().await;
    let failed = shop.started().await;
    fail(&shop.api(), failed, "").await.unwrap();
    let completed = shop.dispatched().await;
    crate::shop::complete(&shop.api(), completed, "").await.unwrap();
    let cancelled = shop.started().await;
    let message = shop.orders.cancelled(cancelled);
    shop.hear(&[message]).await;
    let counts = [
        (DeliveryState::Started, 5),
        (DeliveryState::Ready, 1),
        (DeliveryState::Dispatched, 1),
        (DeliveryState::Completed, 1),
        (DeliveryState::Cancelled, 1),
        (DeliveryState::Failed, 1),
        (DeliveryState::Unspecified, 10),
    ];
    for (state, count) in counts {
        let pages = all(
            &shop,
            ListDeliveriesRequest { page_size: 2, state: state.into(), ..Default::default() },
        )
        .await;
        let listed = pages.concat();
        assert_eq!(listed.len(), count, "{state:?}");
        assert!(listed.iter().all(|it| state == DeliveryState::Unspecified || it.state() == state));
    }
}

#[tokio::test]
async fn bad_questions_are_refused_with_every_violation() {
    let (shop, _) = filled().await;
    let request = ListDeliveriesRequest { page_size: -1, page_token: "%%%".to_owned(), state: 99 };
    assert_eq!(
        violated(&list(&shop, request).await.unwrap_err()),
        ["page_size", "page_token", "state"]
    );

    let first =
        list(&shop, ListDeliveriesRequest { page_size: 1, ..Default::default() }).await.unwrap();
    let other_question = ListDeliveriesRequest {
        page_token: first.next_page_token,
        state: DeliveryState::Ready.into(),
        ..Default::default()
    };
    assert_eq!(violated(&list(&shop, other_question).await.unwrap_err()), ["page_token"]);
}

#[tokio::test]
async fn a_page_is_read_from_its_index_whatever_the_plan() {
    let shop = Shop::open().await;
    let mut conn = shop.db.connection().await;
    let now = "now(), '00000000-0000-7000-8000-000000000000', 10";
    let pages = [
        ("deliveries_newest", store::PAGE, now.to_owned()),
        ("deliveries_newest_by_state", store::PAGE_OF_STATE, format!("{now}, 'ready'")),
    ];
    for (index, sql, arguments) in pages {
        let prepare = format!(
            "set enable_seqscan = off; set plan_cache_mode = force_generic_plan; prepare {index} as {sql}"
        );
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut conn).await.unwrap();
        let explain = format!("explain execute {index} ({arguments})");
        let plan = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut conn).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains(&format!("using {index} ")), "{plan}");
        assert!(!plan.contains("Sort") && !plan.contains("Filter"), "{plan}");
    }
}

async fn read(shop: &Shop, order_ids: Vec<String>) -> Result<Vec<Delivery>, Status> {
    let request = Request::new(BatchGetDeliveriesRequest { order_ids });
    Ok(shop.api().batch_get_deliveries(request).await?.into_inner().deliveries)
}

#[tokio::test]
async fn the_deliveries_of_some_orders_are_read_once_each_and_without_tombstones() {
    let mut shop = Shop::open().await;
    let order_ids = [shop.started().await, shop.dispatched().await, shop.ready().await];
    let (tombstone, unknown) = (Uuid::now_v7(), Uuid::now_v7());
    let messages = [shop.orders.cancelled(tombstone), shop.orders.cancel_requested(order_ids[1])];
    shop.hear(&messages).await;
    let asked = order_ids.iter().rev().chain([&tombstone, &unknown, &order_ids[0]]);
    let read = read(&shop, asked.map(Uuid::to_string).collect()).await.unwrap();
    let mut expected = Vec::new();
    for order_id in order_ids {
        let request = Request::new(GetDeliveryRequest { order_id: order_id.to_string() });
        expected.extend(shop.api().get_delivery(request).await.unwrap().into_inner().delivery);
    }
    assert_eq!(read, expected);
    assert_eq!(read.iter().map(|it| it.cancel_refused).collect::<Vec<_>>(), [false, true, false]);
}

#[tokio::test]
async fn a_question_without_orders_or_with_too_many_or_with_none_is_refused() {
    let shop = Shop::open().await;
    let many = |count| (0..count).map(|_| Uuid::now_v7().to_string()).collect::<Vec<_>>();
    assert_eq!(read(&shop, many(100)).await.unwrap(), []);
    for order_ids in [many(0), many(101)] {
        assert_eq!(violated(&read(&shop, order_ids).await.unwrap_err()), ["order_ids"]);
    }
    let bad = vec!["7".to_owned(), Uuid::now_v7().to_string(), "a\0b".to_owned()];
    let status = read(&shop, bad).await.unwrap_err();
    assert_eq!(violated(&status), ["order_ids[0]", "order_ids[2]"]);
}
