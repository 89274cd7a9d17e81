//! The replica of the catalogue never goes back, in whatever order and batches it hears.

use proto::orders::v1::{
    ListProductReplicasRequest, ProductReplica, order_service_server::OrderService as _,
};
use tokio::task::JoinSet;
use tonic::Request;

use crate::shop::{Shop, in_time};

async fn page(shop: &Shop, page_size: i32, page_token: &str) -> (Vec<ProductReplica>, String) {
    let request = ListProductReplicasRequest { page_size, page_token: page_token.to_owned() };
    let answer = shop.api.list_product_replicas(Request::new(request)).await.unwrap().into_inner();
    (answer.products, answer.next_page_token)
}

async fn stock(shop: &Shop, product_id: &str) -> (i64, i64) {
    let (products, _) = page(shop, 1000, "").await;
    let found = products.into_iter().find(|it| it.product_id == product_id).unwrap();
    (found.version, found.stock)
}

#[tokio::test]
async fn an_older_version_never_overwrites_a_newer_one() {
    let mut shop = Shop::open().await;
    // In one batch, in every order.
    let batch = [
        shop.others.product("tv", 8, 3),
        shop.others.product("tv", 9, 2),
        shop.others.product("tv", 7, 4),
        shop.others.product("tv", 8, 3),
    ];
    shop.hear(&batch).await;
    assert_eq!(stock(&shop, "tv").await, (4, 7));
    // Across batches.
    for (version, expected) in [(2, (4, 7)), (4, (4, 7)), (6, (6, 94)), (5, (6, 94))] {
        let change = shop.others.product("tv", 100 - version, version);
        shop.hear(&[change]).await;
        assert_eq!(stock(&shop, "tv").await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn consumers_that_hear_versions_side_by_side_end_with_the_newest() {
    let mut shop = Shop::open().await;
    for round in 0..20 {
        let product = format!("p-{round}");
        let mut tasks = JoinSet::new();
        for lane in 0..4_i64 {
            // Every lane has other versions; the last one of all is 40.
            let batch: Vec<_> = (0..10)
                .map(|step| shop.others.product(&product, 0, 1 + (step * 7 + lane) % 10 * 4 + lane))
                .collect();
            let mut conn = shop.db.connection().await;
            tasks.spawn(async move { orders::inbox().handle(&mut conn, &batch).await.unwrap() });
        }
        in_time(tasks.join_all()).await;
        assert_eq!(stock(&shop, &product).await.0, 40);
    }
}

#[tokio::test]
async fn the_replica_is_listed_page_by_page() {
    let mut shop = Shop::open().await;
    let batch: Vec<_> =
        (0..7).map(|index| shop.others.product(&format!("p-{index}"), index, 1)).collect();
    shop.hear(&batch).await;
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let (products, next) = page(&shop, 3, &token).await;
        assert!(products.len() <= 3);
        listed.extend(products.into_iter().map(|it| it.product_id));
        token = next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ["clock", "p-0", "p-1", "p-2", "p-3", "p-4", "p-5", "p-6", "tv"]);
}
