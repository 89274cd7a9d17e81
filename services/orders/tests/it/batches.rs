//! A batch gives what its messages give one by one, whatever is in it.

use chassis::inbox::Record;
use proptest::{
    prelude::{Strategy as _, prop},
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use uuid::Uuid;

use crate::shop::Shop;

const FACTS: [&str; 7] = [
    "StockReserved",
    "DeliveryStarted",
    "ProductOutOfStock",
    "DeliveryCancelled",
    "DeliveryCancelRefused",
    "DeliveryCompleted",
    "DeliveryFailed",
];
const ORDERS: usize = 6;

/// One order of each kind: three pending ones, a confirmed one, one being cancelled, one cancelled.
async fn orders(shop: &mut Shop) -> Vec<Uuid> {
    let mut orders = vec![shop.placed().await, shop.placed().await, shop.placed().await];
    orders.push(shop.confirmed().await);
    orders.push(shop.confirmed().await);
    shop.cancel(orders[4]).await.unwrap();
    orders.push(shop.placed().await);
    shop.cancel(orders[5]).await.unwrap();
    orders
}

/// What is left of these orders and this product, and what was told of them, without ids and times.
pub(crate) async fn outcome(shop: &Shop, orders: &[Uuid], product_id: &str) -> Vec<String> {
    let mut outcome = Vec::new();
    for order_id in orders {
        let rows: Vec<String> = sqlx::query_scalar(
            "select concat_ws(' ', state, cancel, cancel_reason, stock_reserved, delivery_started, version, revision,
                              settled_at is null)
             from orders
             where order_id = $1
             union all
             select * from (
                 select concat_ws(' ', revision, state, cancel_reason, cancel_refused, cause, event_id is null)
                 from order_transitions
                 where order_id = $1
                 order by revision) as transitions
             union all
             select * from (
                 select concat_ws(' ', headers ->> 'ce_type', convert_from(payload, 'UTF8')::jsonb - 'orderId')
                 from messaging.outbox
                 where key = $1::text
                 order by seq) as told
             union all
             select concat_ws(' ', type, outcome, deliveries)
             from (select * from messaging.trail where correlation_id = $1 order by \"offset\" nulls first, created_at) as trail",
        )
        .bind(order_id)
        .fetch_all(shop.pool())
        .await
        .unwrap();
        outcome.extend(rows);
        outcome.push("--".to_owned());
    }
    let replica: Option<String> = sqlx::query_scalar(
        "select concat_ws(' ', stock, version) from product_replicas where product_id = $1",
    )
    .bind(product_id)
    .fetch_optional(shop.pool())
    .await
    .unwrap();
    outcome.extend(replica);
    outcome
}

#[tokio::test]
async fn a_batch_gives_what_its_messages_give_one_by_one() {
    let mut shop = Shop::open().await;
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), seed);
    // An order or the product; a fact or a version; and whether an earlier message comes again in its place.
    let message = (0..=ORDERS, 0..FACTS.len(), prop::option::weighted(0.3, 0..100_usize));
    let messages = prop::collection::vec(message, 1..50);
    for case in 0..25 {
        let messages = messages.new_tree(&mut runner).unwrap().current();
        let (twins, products) = (
            [orders(&mut shop).await, orders(&mut shop).await],
            [format!("a-{case}"), format!("b-{case}")],
        );
        let mut batches: [Vec<Record>; 2] = [Vec::new(), Vec::new()];
        for (subject, fact, again) in &messages {
            for ((batch, orders), product) in batches.iter_mut().zip(&twins).zip(&products) {
                let record = match again {
                    Some(earlier) if !batch.is_empty() => batch[earlier % batch.len()].clone(),
                    _ if *subject == ORDERS => {
                        shop.others.product(product, *fact as i64, 1 + *fact as i64)
                    }
                    _ => shop.others.tell(orders[*subject], FACTS[*fact]),
                };
                batch.push(record);
            }
        }
        shop.hear(&batches[0]).await;
        for record in &batches[1] {
            shop.hear(std::slice::from_ref(record)).await;
        }
        let together = outcome(&shop, &twins[0], &products[0]).await;
        let one_by_one = outcome(&shop, &twins[1], &products[1]).await;
        for (together, alone) in together.iter().zip(&one_by_one) {
            assert_eq!(together, alone, "case {case}: {messages:?}");
        }
        assert_eq!(together.len(), one_by_one.len());
    }
}
