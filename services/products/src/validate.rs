//! From a request to checked values: every violation is named at once, before anything is read or written.

use std::collections::HashSet;

use chassis::{page_token, status, violations::Violations};
use chrono::{DateTime, Utc};
use proto::products::v1::{
    self, AdjustStockRequest, BatchGetReservationsRequest, CheckAvailabilityRequest,
    CreateProductRequest, ListProductsRequest, UpdateProductRequest,
};
use uuid::Uuid;

use crate::{
    error::Error,
    lines::{Line, Lines, MOST_LINES},
    product::{Product, ProductOption, Update},
};

/// The largest stock to begin with, and the largest change of it.
pub const MOST_STOCK: i64 = 1_000_000_000;
const MOST_OPTIONS: usize = 50;
const MOST_ORDERS: usize = 100;

/// A page of the catalogue that is asked for.
#[derive(Clone, Debug)]
pub struct Page {
    /// At most this many products.
    pub size: i64,
    /// Only products after this one; empty for the first page.
    pub after: String,
}

/// A new product, in its first version.
pub fn create(request: &CreateProductRequest, now: DateTime<Utc>) -> Result<Product, Error> {
    let mut violations = Violations::default();
    violations.request_id(&request.request_id);
    if !request.product_id.is_empty() {
        violations.product_id("product_id", &request.product_id);
    }
    violations.text("name", &request.name, 1..=200);
    let price = violations.money("price", request.price.clone());
    if !(0..=MOST_STOCK).contains(&request.stock) {
        violations.add("stock", "must be 0 to 1,000,000,000");
    }
    violations.text("image_url", &request.image_url, 0..=2000);
    let options = options("options", &request.options, &mut violations);
    let price = unless_violated(violations, price)?;
    Ok(Product {
        product_id: match request.product_id.as_str() {
            "" => Uuid::now_v7().to_string(),
            chosen => chosen.to_owned(),
        },
        name: request.name.clone(),
        price,
        stock: request.stock,
        image_url: request.image_url.clone(),
        options,
        version: 1,
        created_at: now,
        updated_at: now,
    })
}

/// What of a product is to change.
pub fn update(request: &UpdateProductRequest) -> Result<Update, Error> {
    let mut violations = Violations::default();
    violations.request_id(&request.request_id);
    violations.product_id("product_id", &request.product_id);
    if let Some(name) = &request.name {
        violations.text("name", name, 1..=200);
    }
    let price = request.price.clone().and_then(|price| violations.money("price", Some(price)));
    if let Some(image_url) = &request.image_url {
        violations.text("image_url", image_url, 0..=2000);
    }
    let new_options = request.options.as_ref();
    let options = new_options.map(|new| options("options.options", &new.options, &mut violations));
    let nothing = request.name.is_none()
        && request.price.is_none()
        && request.image_url.is_none()
        && request.options.is_none();
    if nothing {
        violations.add("name", "give a name, price, image_url or options to change");
    }
    violations.finish()?;
    Ok(Update { name: request.name.clone(), price, image_url: request.image_url.clone(), options })
}

/// A change of stock.
pub fn adjust(request: &AdjustStockRequest) -> Result<i64, Error> {
    let mut violations = Violations::default();
    violations.request_id(&request.request_id);
    violations.product_id("product_id", &request.product_id);
    if request.delta == 0 || !(-MOST_STOCK..=MOST_STOCK).contains(&request.delta) {
        violations.add("delta", "must be -1,000,000,000 to 1,000,000,000, and not 0");
    }
    violations.finish()?;
    Ok(request.delta)
}

/// A product to be read.
pub fn product_id(product_id: &str) -> Result<&str, Error> {
    let mut violations = Violations::default();
    violations.product_id("product_id", product_id);
    violations.finish()?;
    Ok(product_id)
}

/// A page to be read.
pub fn page(request: &ListProductsRequest) -> Result<Page, Error> {
    let mut violations = Violations::default();
    let size = violations.page_size(request.page_size);
    let after = page_token::read(&question(), &request.page_token, &mut violations);
    violations.finish()?;
    Ok(Page { size, after: after.unwrap_or_default() })
}

/// What a page token belongs to: there is one list, so one question.
pub fn question() -> ListProductsRequest {
    ListProductsRequest::default()
}

/// The lines whose stock is asked about.
pub fn lines(request: &CheckAvailabilityRequest) -> Result<Lines, Error> {
    let mut violations = Violations::default();
    if request.lines.is_empty() || request.lines.len() > MOST_LINES {
        violations.add("lines", format!("must be 1 to {MOST_LINES}"));
    }
    let mut asked = HashSet::new();
    for (index, line) in request.lines.iter().enumerate() {
        let field = format!("lines[{index}].product_id");
        violations.product_id(&field, &line.product_id);
        if !asked.insert(&line.product_id) {
            violations.add(field, "is in an earlier line already");
        }
        violations.quantity(&format!("lines[{index}].quantity"), line.quantity);
    }
    let lines = request.lines.iter().map(|line| Line::new(&line.product_id, line.quantity));
    unless_violated(violations, Lines::new(lines).ok())
}

/// The orders whose reservations are asked for.
pub fn orders(request: &BatchGetReservationsRequest) -> Result<Vec<Uuid>, Error> {
    let mut violations = Violations::default();
    let orders = violations.uuids("order_ids", &request.order_ids, 1..=MOST_ORDERS);
    violations.finish()?;
    Ok(orders)
}

/// A value, which is absent only where a violation says why.
fn unless_violated<T>(violations: Violations, value: Option<T>) -> Result<T, Error> {
    violations.finish()?;
    value.ok_or_else(|| status::invalid(Vec::new()).into())
}

fn options(
    field: &str,
    options: &[v1::ProductOption],
    violations: &mut Violations,
) -> Vec<ProductOption> {
    if options.len() > MOST_OPTIONS {
        violations.add(field, format!("must be at most {MOST_OPTIONS}"));
    }
    let mut checked = Vec::with_capacity(options.len());
    for (index, option) in options.iter().enumerate() {
        violations.text(&format!("{field}[{index}].name"), &option.name, 1..=200);
        violations.text(&format!("{field}[{index}].description"), &option.description, 0..=2000);
        let (name, description) = (option.name.clone(), option.description.clone());
        checked.push(ProductOption { name, description });
    }
    checked
}
