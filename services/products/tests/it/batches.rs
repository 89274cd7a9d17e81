//! A batch gives what its messages give one by one: the same rows, the same events in the same order.

use chassis::inbox::Record;
use uuid::Uuid;

use crate::{
    commands::Orchestrator,
    shop::{Orders, Shop},
};

/// The same messages for two shops, which must end the same.
async fn both_ways(products: &[(&str, i64)], batch: &[Record]) -> Shop {
    let (at_once, one_by_one) = (Shop::open(products).await, Shop::open(products).await);
    at_once.hears(batch).await;
    for record in batch {
        one_by_one.hears(std::slice::from_ref(record)).await;
    }
    assert_eq!(at_once.tables().await, one_by_one.tables().await);
    assert_eq!(at_once.told().await, one_by_one.told().await);
    at_once
}

#[tokio::test]
async fn many_orders_of_one_product_its_last_pieces_a_cancel_and_a_duplicate() {
    let mut orders = Orders::new();
    let ids: Vec<Uuid> = (0..12).map(|_| Uuid::now_v7()).collect();
    let mut batch: Vec<Record> =
        ids[..9].iter().map(|order_id| orders.placed(*order_id, &[("tv", 1)])).collect();
    batch.push(batch[0].clone());
    batch.push(orders.cancelled(ids[1]));
    // Two pieces are left; three do not fit, two do, and then none is left.
    batch.push(orders.placed(ids[9], &[("tv", 3)]));
    batch.push(orders.placed(ids[10], &[("tv", 2), ("clock", 1)]));
    batch.push(orders.placed(ids[11], &[("tv", 1)]));
    batch.push(orders.cancelled(ids[10]));
    batch.push(batch[10].clone());

    let shop = both_ways(&[("tv", 10), ("clock", 1)], &batch).await;
    assert_eq!(shop.stock("tv").await, 2);
    assert_eq!(shop.stock("clock").await, 1);
    for (order, state) in
        [(0, "RESERVED"), (1, "RELEASED"), (9, "REJECTED"), (10, "RELEASED"), (11, "REJECTED")]
    {
        assert_eq!(shop.state(ids[order]).await.as_deref(), Some(state), "order {order}");
    }
    let versions: Vec<i64> = shop
        .told()
        .await
        .iter()
        .filter(|(event_type, key, ..)| event_type.ends_with(".ProductChanged") && key == "tv")
        .map(|(_, _, payload, ..)| payload["version"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(versions, (2..=13).collect::<Vec<i64>>());
}

#[tokio::test]
async fn hundreds_of_orders_in_any_order() {
    let mut orders = Orders::new();
    let mut batch = Vec::new();
    for index in 0..150_i32 {
        let order_id = Uuid::now_v7();
        let wanted: &[(&str, i32)] = match index % 4 {
            0 => &[("tv", 1)],
            1 => &[("clock", 2), ("tv", 3)],
            2 => &[("clock", 1)],
            _ => &[("tv", 2), ("mask", 1), ("clock", 1)],
        };
        let placed = orders.placed(order_id, wanted);
        if index % 3 == 0 {
            batch.push(placed.clone());
        }
        batch.push(placed);
        if index % 5 == 0 {
            batch.push(orders.cancelled(order_id));
        }
    }
    // Far from the order in which they were sent, but the same every time.
    let scattered = |index: usize| index * 67 % batch.len();
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_key(|index| scattered(*index));
    let batch: Vec<Record> = order.into_iter().map(|index| batch[index].clone()).collect();

    let shop = both_ways(&[("tv", 90), ("clock", 40), ("mask", 1000)], &batch).await;
    let held: i64 = sqlx::query_scalar(
        "select coalesce(sum((line ->> 'quantity')::bigint), 0)::bigint
         from reservations, jsonb_array_elements(lines) as line
         where state = 'RESERVED' and line ->> 'product_id' = 'tv'",
    )
    .fetch_one(shop.pool())
    .await
    .unwrap();
    assert_eq!(shop.stock("tv").await + held, 90);
}

#[tokio::test]
async fn a_batch_with_poison_in_it() {
    let mut orders = Orders::new();
    let ids: Vec<Uuid> = (0..4).map(|_| Uuid::now_v7()).collect();
    let batch = [
        orders.placed(ids[0], &[("tv", 4)]),
        orders.placed(ids[1], &[("tv", 0)]),
        orders.placed(ids[2], &[("tv", 4)]),
        orders.cancelled(ids[1]),
        orders.cancelled(ids[0]),
        orders.placed(ids[3], &[("tv", 6)]),
    ];
    let shop = both_ways(&[("tv", 10)], &batch).await;
    assert_eq!(shop.stock("tv").await, 0);
    assert_eq!(shop.state(ids[1]).await, None);
}

#[tokio::test]
async fn commands_of_several_orders_their_repetitions_and_releases_that_overtake() {
    let mut orchestrator = Orchestrator::new();
    let ids: Vec<Uuid> = (0..6).map(|_| Uuid::now_v7()).collect();
    let mut batch: Vec<Record> =
        ids.iter().map(|order_id| orchestrator.reserve(*order_id, &[("tv", 3)])).collect();
    batch.push(batch[0].clone());
    batch.insert(2, orchestrator.release(ids[0]));
    batch.insert(0, orchestrator.release(ids[1]));
    batch.push(batch[3].clone());

    let shop = both_ways(&[("tv", 10)], &batch).await;
    for (order, state) in [(0, "RELEASED"), (1, "TOMBSTONE"), (4, "RESERVED"), (5, "REJECTED")] {
        assert_eq!(shop.state(ids[order]).await.as_deref(), Some(state), "order {order}");
    }
    assert_eq!(shop.stock("tv").await, 1);
}
