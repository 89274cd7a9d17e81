//! A request to place an order: checked as far as it can be without the catalogue, then priced with it.

use std::collections::HashSet;

use chassis::{
    cause::{Cause, Coordination},
    idempotency::Claim,
    violations::Violations,
};
use chrono::{DateTime, Utc};
use proto::{
    money::Money,
    orders::v1::{self, PlaceOrderRequest},
};
use tonic_types::FieldViolation;
use uuid::Uuid;

use crate::{
    catalogue::Product,
    domain::Fate,
    error::Error,
    order::{Customer, Line, Order},
};

const MOST_LINES: usize = 100;

/// A checked request.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The order's id, should it be accepted.
    pub order_id: Uuid,
    /// Who orders.
    pub customer: Customer,
    /// Product and pieces; each product once.
    pub wanted: Vec<(String, u32)>,
    /// How the services come to agree about it.
    pub coordination: Coordination,
    /// The request_id, if there was one.
    pub claim: Option<Claim>,
    /// The call.
    pub cause: Cause,
    /// What products answered, where it was asked.
    pub answered: Option<Vec<Product>>,
    /// Refuse what the known stock does not cover.
    pub refuse_shortage: bool,
    /// Until when it may stay pending.
    pub deadline_at: DateTime<Utc>,
}

impl Placement {
    /// Checks a request. Errors: every violation at once.
    pub fn check(
        request: PlaceOrderRequest,
        cause: Cause,
        default: Coordination,
        deadline: std::time::Duration,
    ) -> Result<Self, tonic::Status> {
        let mut violations = Violations::default();
        violations.request_id(&request.request_id);
        let customer = request.customer.clone().unwrap_or_default();
        violations.text("customer.customer_id", &customer.customer_id, 1..=128);
        violations.text("customer.name", &customer.name, 1..=200);
        violations.text("customer.address", &customer.address, 1..=500);
        let wanted = check_lines(&request.lines, &mut violations);
        let coordination = match v1::Coordination::try_from(request.coordination) {
            Ok(v1::Coordination::Unspecified) => default,
            Ok(v1::Coordination::Choreography) => Coordination::Choreography,
            Ok(v1::Coordination::Orchestration) => Coordination::Orchestration,
            Err(_) => {
                violations.add("coordination", "is not a known coordination");
                default
            }
        };
        violations.finish()?;

        let order_id = Uuid::now_v7();
        let content = PlaceOrderRequest { request_id: String::new(), ..request.clone() };
        Ok(Self {
            order_id,
            claim: Claim::new(
                &customer.customer_id,
                &request.request_id,
                "PlaceOrder",
                &content,
                order_id,
            ),
            customer: Customer {
                customer_id: customer.customer_id,
                name: customer.name,
                address: customer.address,
            },
            wanted,
            coordination,
            deadline_at: deadline_at(cause.now, deadline),
            cause: cause.of_order(order_id, coordination),
            answered: None,
            refuse_shortage: false,
        })
    }

    /// The order, priced by `catalogue`. Errors: a product that is not known, a price that cannot be summed up, or a
    /// shortage, where that is to be refused.
    pub fn price(&self, catalogue: &[Product]) -> Result<Order, Error> {
        let mut violations = Vec::new();
        let mut lines = Vec::new();
        for (index, (product_id, quantity)) in self.wanted.iter().enumerate() {
            match catalogue.iter().find(|product| product.product_id == *product_id) {
                Some(product) => lines.push((line(product, *quantity), product.stock)),
                None => {
                    let field = format!("lines[{index}].product_id");
                    violations.push(FieldViolation::new(
                        field,
                        format!("there is no product {product_id:?}"),
                    ));
                }
            }
        }
        if !violations.is_empty() {
            return Err(Error::Invalid(violations));
        }
        let short: Vec<_> = lines
            .iter()
            .filter(|(line, stock)| i64::from(line.quantity) > *stock)
            .map(shortage)
            .collect();
        if self.refuse_shortage && !short.is_empty() {
            return Err(Error::OutOfStock(short.join("; ")));
        }
        let lines: Vec<Line> = lines.into_iter().map(|(line, _)| line).collect();
        let total = total(&lines).ok_or_else(|| {
            let why = "the total cannot be formed: it is too large, or the currencies differ";
            Error::Invalid(vec![FieldViolation::new("lines", why)])
        })?;
        Ok(self.order(lines, total))
    }

    fn order(&self, lines: Vec<Line>, total: Money) -> Order {
        Order {
            order_id: self.order_id,
            customer: self.customer.clone(),
            lines,
            total,
            coordination: self.coordination,
            fate: Fate::PLACED,
            version: 1,
            revision: 1,
            created_at: self.cause.now,
            updated_at: self.cause.now,
            settled_at: None,
            deadline_at: self.deadline_at,
        }
    }
}

/// A deadline that is too far away for a time is the end of all times.
fn deadline_at(now: DateTime<Utc>, deadline: std::time::Duration) -> DateTime<Utc> {
    let deadline = chrono::Duration::from_std(deadline).ok();
    deadline.and_then(|it| now.checked_add_signed(it)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn check_lines(lines: &[v1::PlaceOrderLine], violations: &mut Violations) -> Vec<(String, u32)> {
    if !(1..=MOST_LINES).contains(&lines.len()) {
        violations.add("lines", format!("must have 1 to {MOST_LINES} lines, has {}", lines.len()));
    }
    let mut seen = HashSet::new();
    let mut wanted = Vec::new();
    for (index, line) in lines.iter().enumerate().take(MOST_LINES) {
        let field = format!("lines[{index}].product_id");
        violations.product_id(&field, &line.product_id);
        if !seen.insert(&line.product_id) {
            violations.add(field, "is in an earlier line already; order more pieces there");
        }
        if let Some(quantity) =
            violations.quantity(&format!("lines[{index}].quantity"), line.quantity)
        {
            wanted.push((line.product_id.clone(), quantity));
        }
    }
    wanted
}

fn line(product: &Product, quantity: u32) -> Line {
    Line {
        product_id: product.product_id.clone(),
        product_name: product.name.clone(),
        quantity,
        unit_price: product.price.clone(),
    }
}

fn shortage((line, stock): &(Line, i64)) -> String {
    format!("{} wanted of {:?}, {stock} in stock", line.quantity, line.product_id)
}

fn total(lines: &[Line]) -> Option<Money> {
    let mut prices = lines.iter().map(|line| line.unit_price.times(line.quantity).ok());
    let first = prices.next()??;
    prices.try_fold(first, |sum, price| sum.plus(&price?).ok())
}
