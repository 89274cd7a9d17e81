//! A batch is one transaction, and must end as if its messages had come one at a time.

use chassis::{inbox::Record, trail::Outcome};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use uuid::Uuid;

use crate::shop::{Orders, Shop, dispatch};

/// What must be equal: ids and times differ between two runs.
async fn rows(shop: &Shop) -> Vec<(Uuid, String, i64, bool, Option<String>)> {
    sqlx::query_as("select order_id, state, version, cancel_refused, failure_reason from deliveries order by order_id")
        .fetch_all(&shop.db.pool)
        .await
        .unwrap()
}

async fn told(shop: &Shop) -> Vec<(String, String)> {
    let records = shop.db.outbox().await;
    records
        .iter()
        .map(|record| (record.key.clone(), crate::shop::envelope(record).event_type))
        .collect()
}

async fn outcomes(shop: &Shop) -> Vec<(Uuid, String, i32)> {
    sqlx::query_as("select event_id, outcome, deliveries from messaging.trail where kind = 'message' order by event_id")
        .fetch_all(&shop.db.pool)
        .await
        .unwrap()
}

/// Placed, confirmed and, of every third, dispatched orders; the same in both shops.
async fn prepare(shops: [&Shop; 2], orders: &mut Orders) -> Vec<Uuid> {
    let order_ids: Vec<_> = (0..12).map(|_| Uuid::now_v7()).collect();
    let placed: Vec<_> = order_ids.iter().map(|order_id| orders.placed(*order_id)).collect();
    let confirmed: Vec<_> = order_ids.iter().map(|order_id| orders.confirmed(*order_id)).collect();
    for shop in shops {
        shop.hear(&placed).await;
        shop.hear(&confirmed).await;
        for order_id in order_ids.iter().step_by(3) {
            dispatch(&shop.api(), *order_id, "").await.unwrap();
        }
    }
    order_ids
}

/// Everything orders may say next of known and new orders, again and in any order.
fn mixed(orders: &mut Orders, known: &[Uuid], rng: &mut StdRng) -> Vec<Record> {
    let mut records = Vec::new();
    for (index, order_id) in known.iter().enumerate() {
        records.extend([orders.placed(*order_id), orders.confirmed(*order_id)]);
        match index % 4 {
            0 | 1 => records
                .extend([orders.cancel_requested(*order_id), orders.cancel_requested(*order_id)]),
            2 if index % 3 != 0 => records.push(orders.cancelled(*order_id)),
            _ => {}
        }
    }
    for _ in 0..12 {
        let order_id = Uuid::now_v7();
        records.extend([
            orders.placed(order_id),
            orders.placed(order_id),
            orders.cancelled(order_id),
        ]);
    }
    records.extend(records.clone().into_iter().step_by(3));
    records.shuffle(rng);
    records
}

#[tokio::test]
async fn a_batch_ends_as_its_messages_one_by_one() {
    for seed in 0..4 {
        let (mut batch, single) = (Shop::open().await, Shop::open().await);
        let mut orders = Orders(chassis::testing::Sender::new("orders"));
        let known = prepare([&batch, &single], &mut orders).await;
        let records = mixed(&mut batch.orders, &known, &mut StdRng::seed_from_u64(seed));

        let report = batch.hear(&records).await;
        for record in &records {
            single.hear(std::slice::from_ref(record)).await;
        }

        assert_eq!(report.count(Outcome::Parked), 0, "nothing here is poison (seed {seed})");
        assert_eq!(rows(&batch).await, rows(&single).await, "seed {seed}");
        assert_eq!(told(&batch).await, told(&single).await, "seed {seed}");
        assert_eq!(outcomes(&batch).await, outcomes(&single).await, "seed {seed}");
    }
}

#[tokio::test]
async fn a_batch_that_comes_again_changes_nothing() {
    let mut shop = Shop::open().await;
    let mut orders = Orders(chassis::testing::Sender::new("orders"));
    let other = Shop::open().await;
    let known = prepare([&shop, &other], &mut orders).await;
    let records = mixed(&mut shop.orders, &known, &mut StdRng::seed_from_u64(7));
    shop.hear(&records).await;
    let (rows_before, told_before) = (rows(&shop).await, told(&shop).await);

    let again = shop.hear(&records).await;
    assert_eq!(again.count(Outcome::Duplicate), records.len());

    // Without the trail the rows alone must hold: offsets reset after its retention, say.
    sqlx::query("truncate messaging.trail").execute(&shop.db.pool).await.unwrap();
    let report = shop.hear(&records).await;
    assert_eq!((report.emitted, report.count(Outcome::Applied)), (0, 0));
    assert_eq!((rows(&shop).await, told(&shop).await), (rows_before, told_before));
}
