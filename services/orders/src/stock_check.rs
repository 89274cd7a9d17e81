//! The live stock check: asks products before an order is accepted, within a deadline, and reserves nothing.

use std::time::Duration;

use chassis::{cause::Cause, spans};
use proto::{
    money::Money,
    products::v1::{
        self, CheckAvailabilityRequest, StockLine, product_service_client::ProductServiceClient,
    },
};
use tonic::{Code, Request, Status, transport::Channel};

use crate::{catalogue::Product, error::Error};

const METHOD: &str = "shop.products.v1.ProductService/CheckAvailability";

/// Asks products.
#[derive(Clone, Debug)]
pub struct StockCheck {
    client: ProductServiceClient<Channel>,
    timeout: Duration,
}

impl StockCheck {
    /// Over this connection.
    pub fn new(products: Channel, timeout: Duration) -> Self {
        Self { client: ProductServiceClient::new(products), timeout }
    }

    /// The wanted products that exist, as they are now. Errors: products could not be asked in time.
    pub async fn ask(
        &self,
        wanted: &[(String, u32)],
        cause: &Cause,
    ) -> Result<Vec<Product>, Error> {
        let lines = wanted.iter().map(|(product_id, quantity)| StockLine {
            product_id: product_id.clone(),
            quantity: i32::try_from(*quantity).unwrap_or(i32::MAX),
        });
        let mut request = Request::new(CheckAvailabilityRequest { lines: lines.collect() });
        request.set_timeout(self.timeout);
        let mut span = spans::ask(METHOD, cause, &mut request);
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(self.timeout, client.check_availability(request))
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        span.answered(answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
        let answer = answer.map_err(|status| Error::ProductsUnavailable(Box::new(status)))?;
        answer.into_inner().products.into_iter().map(read).collect()
    }
}

fn read(product: v1::Product) -> Result<Product, Error> {
    let price = product.price.and_then(|price| Money::try_from(price).ok()).ok_or_else(|| {
        Error::ProductsUnavailable(Box::new(Status::data_loss(format!(
            "no price for {:?}",
            product.product_id
        ))))
    })?;
    Ok(Product {
        product_id: product.product_id,
        name: product.name,
        price,
        stock: product.stock,
        version: product.version,
        updated_at: chassis::clock::now(),
    })
}
