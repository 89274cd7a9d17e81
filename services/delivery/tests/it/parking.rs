//! What contradicts the row, or cannot be read, parks under its key; all other keys flow on.

use chassis::{policy::Refused, trail::Outcome};
use uuid::Uuid;

use crate::shop::Shop;

async fn retry(shop: &Shop, order_id: Uuid) -> (usize, Result<(), Refused>) {
    let mut conn = shop.db.pool.acquire().await.unwrap();
    shop.inbox.retry_parked(&mut conn, &order_id.to_string()).await.unwrap()
}

#[tokio::test]
async fn a_cancelled_order_whose_goods_have_left_parks_while_others_flow() {
    let mut shop = Shop::open().await;
    let (shipped, other) = (shop.dispatched().await, shop.ready().await);
    let batch = [
        shop.orders.cancelled(shipped),
        shop.orders.cancel_requested(other),
        shop.orders.cancel_requested(shipped),
    ];
    let report = shop.hear(&batch).await;
    assert_eq!((report.count(Outcome::Parked), report.count(Outcome::Applied)), (2, 1));
    assert_eq!(shop.state(shipped).await, "dispatched");
    assert_eq!(shop.told(shipped).await, ["DeliveryStarted", "DeliveryDispatched"]);
    assert_eq!(shop.told(other).await, ["DeliveryStarted", "DeliveryCancelled"]);

    let (handled, rest) = retry(&shop, shipped).await;
    assert_eq!(
        (handled, rest),
        (0, Err(Refused::because("the order is cancelled, but its goods have left")))
    );
}

#[tokio::test]
async fn a_confirmation_without_its_row_parks_and_is_handled_once_the_row_is_back() {
    let mut shop = Shop::open().await;
    let order_id = shop.started().await;
    sqlx::query("create table backup as select * from deliveries")
        .execute(&shop.db.pool)
        .await
        .unwrap();
    sqlx::query("delete from deliveries").execute(&shop.db.pool).await.unwrap();

    let batch = [shop.orders.confirmed(order_id), shop.orders.cancel_requested(order_id)];
    assert_eq!(shop.hear(&batch).await.count(Outcome::Parked), 2);
    assert!(retry(&shop, order_id).await.1.is_err());

    sqlx::query("insert into deliveries select * from backup")
        .execute(&shop.db.pool)
        .await
        .unwrap();
    assert_eq!(retry(&shop, order_id).await, (2, Ok(())));
    assert_eq!(shop.told(order_id).await, ["DeliveryStarted", "DeliveryCancelled"]);
}

#[tokio::test]
async fn an_answer_that_no_delivery_was_opened_for_parks() {
    let mut shop = Shop::open().await;
    let (never_heard_of, tombstone) = (Uuid::now_v7(), Uuid::now_v7());
    let cancelled = shop.orders.cancelled(tombstone);
    shop.hear(&[cancelled]).await;
    for order_id in [never_heard_of, tombstone] {
        let batch = [shop.orders.confirmed(order_id), shop.orders.cancel_requested(order_id)];
        assert_eq!(shop.hear(&batch).await.count(Outcome::Parked), 2);
    }
    assert_eq!(shop.state(never_heard_of).await, "");
}

type Spoil = fn(&mut serde_json::Value);

#[tokio::test]
async fn a_malformed_event_parks_and_writes_nothing() {
    let mut shop = Shop::open().await;
    let mut malformed = Vec::new();
    let bad: [(&str, Spoil); 6] = [
        ("order_id", |event| event["orderId"] = "not a uuid".into()),
        ("customer", |event| event["customer"] = serde_json::Value::Null),
        ("no lines", |event| event["lines"] = serde_json::json!([])),
        ("quantity", |event| event["lines"][0]["quantity"] = 0.into()),
        ("a NUL, which Postgres cannot keep", |event| event["customer"]["name"] = "a\0b".into()),
        ("not JSON", |event| *event = serde_json::Value::Null),
    ];
    for (what, spoil) in bad {
        let mut record = shop.orders.placed(Uuid::now_v7());
        let mut event: serde_json::Value =
            serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap();
        spoil(&mut event);
        record.payload = Some(if event.is_null() {
            b"{oh".to_vec()
        } else {
            serde_json::to_vec(&event).unwrap()
        });
        malformed.push((what, record));
    }
    let good = Uuid::now_v7();
    let mut batch: Vec<_> = malformed.iter().map(|(_, record)| record.clone()).collect();
    batch.push(shop.orders.placed(good));

    let report = shop.hear(&batch).await;
    assert_eq!(
        (report.count(Outcome::Parked), report.count(Outcome::Applied)),
        (6, 1),
        "{malformed:?}"
    );
    assert_eq!(shop.state(good).await, "started");
    let rows: i64 = sqlx::query_scalar("select count(*) from deliveries")
        .fetch_one(&shop.db.pool)
        .await
        .unwrap();
    assert_eq!(rows, 1);
}
