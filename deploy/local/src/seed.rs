//! The catalogue a new shop begins with. A product that exists is left as it is.

use std::time::Duration;

use proto::google::r#type::Money;
use proto::orders::v1::ListProductReplicasRequest;
use proto::orders::v1::order_service_client::OrderServiceClient;
use proto::products::v1::product_service_client::ProductServiceClient;
use proto::products::v1::{CreateProductRequest, ProductOption};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::error::{Error, Result};
use crate::health::channel;

/// Price and stock grow with the place in this list: the first costs 10,000 won, and there are 10 of it.
pub(crate) const PRODUCTS: [&str; 5] = ["tv", "mask", "notebook", "table", "clock"];

const REPLICA_LIMIT: Duration = Duration::from_secs(60);

/// Creates the products and waits until orders has heard of them all.
pub(crate) async fn catalogue(products_url: &str, orders_url: &str) -> Result<()> {
    let failed =
        |action: String| move |source: Status| Error::Call { action, source: Box::new(source) };
    let mut products = ProductServiceClient::new(connect(products_url)?);
    for (product_id, number) in PRODUCTS.into_iter().zip(1..) {
        match products.create_product(product(product_id, number)).await {
            Err(status) if status.code() != Code::AlreadyExists => {
                return Err(failed(format!("create the product {product_id}"))(status));
            }
            _ => {}
        }
    }
    let mut orders = OrderServiceClient::new(connect(orders_url)?);
    let heard = async {
        while !replica_is_complete(&mut orders).await? {
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    let heard = timeout(REPLICA_LIMIT, heard).await.unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(
            "orders has not heard of the products; see the logs of outbox-relay and orders",
        ))
    });
    heard.map_err(failed("bring the catalogue to orders".to_owned()))
}

fn connect(url: &str) -> Result<tonic::transport::Channel> {
    channel(url).map_err(|source| Error::Address { url: url.to_owned(), source })
}

/// The same every time, the request_id included.
fn product(product_id: &str, number: i64) -> CreateProductRequest {
    let option = |name: &str, description: &str| ProductOption {
        name: name.to_owned(),
        description: description.to_owned(),
    };
    CreateProductRequest {
        request_id: format!("seed-{product_id}"),
        product_id: product_id.to_owned(),
        name: product_id.to_uppercase(),
        price: Some(Money { currency_code: "KRW".to_owned(), units: 10_000 * number, nanos: 0 }),
        stock: 10 * number,
        image_url: format!("/images/{product_id}.jpg"),
        options: vec![option("name_detail", "구매설명"), option("name_desc", "설명입니다")],
    }
}

async fn replica_is_complete(
    orders: &mut OrderServiceClient<tonic::transport::Channel>,
) -> Result<bool, Status> {
    let request = ListProductReplicasRequest { page_size: 1000, page_token: String::new() };
    let known = orders.list_product_replicas(request).await?.into_inner().products;
    Ok(PRODUCTS
        .iter()
        .all(|product_id| known.iter().any(|product| product.product_id == *product_id)))
}
