//! An order as its own page shows it: where it stands and why, what is in it, and what can still be done.

use askama::Template;
use proto::orders::v1::{CancelReason, Coordination, Order, OrderState};

use crate::{
    page::{Moment, amount, moment},
    texts::Texts,
};

/// Where an order stands.
#[derive(Clone, Debug, PartialEq, Eq, Template)]
#[template(path = "badge.html")]
pub(crate) struct Badge {
    /// For its colour, and for tests.
    pub(crate) class: &'static str,
    pub(crate) word: &'static str,
}

impl askama::filters::HtmlSafe for Badge {}

impl Badge {
    pub(crate) fn of(state: OrderState, t: &Texts) -> Self {
        let (class, word) = match state {
            OrderState::Pending | OrderState::Unspecified => ("pending", t.pending),
            OrderState::Confirmed => ("confirmed", t.confirmed),
            OrderState::Cancelling => ("cancelling", t.cancelling),
            OrderState::Cancelled => ("cancelled", t.cancelled),
            OrderState::Completed => ("completed", t.completed),
        };
        Self { class, word }
    }
}

/// Why it stands there.
pub(crate) fn why(order: &Order, t: &Texts) -> &'static str {
    match (order.state(), order.cancel_reason()) {
        (_, CancelReason::OutOfStock) => t.out_of_stock,
        (_, CancelReason::Customer) => t.by_customer,
        (_, CancelReason::DeliveryFailed) => t.delivery_failed,
        (_, CancelReason::TimedOut) => t.timed_out,
        (OrderState::Pending | OrderState::Unspecified, _) => t.pending_why,
        (OrderState::Confirmed, _) => t.confirmed_why,
        (OrderState::Cancelling, _) => t.cancelling_why,
        (OrderState::Completed, _) => t.completed_why,
        (OrderState::Cancelled, _) => "",
    }
}

pub(crate) fn is_final(order: &Order) -> bool {
    matches!(order.state(), OrderState::Cancelled | OrderState::Completed)
}

/// The order.
#[derive(Debug, Template)]
#[template(path = "card.html")]
pub(crate) struct Card {
    t: &'static Texts,
    token: String,
    order_id: String,
    badge: Badge,
    why: &'static str,
    cancel_refused: bool,
    lines: Vec<Line>,
    total: String,
    name: String,
    address: String,
    style: &'static str,
    history: Vec<Step>,
    /// What the cancel button acts on; nothing where there is none.
    etag: Option<String>,
}

impl askama::filters::HtmlSafe for Card {}

#[derive(Debug)]
struct Line {
    name: String,
    quantity: i32,
    price: String,
}

#[derive(Debug)]
struct Step {
    badge: Badge,
    cause: String,
    meaning: &'static str,
    at: Moment,
}

impl Card {
    /// As the customer sees it, or as the operator does, who has no cancel button.
    pub(crate) fn of(order: &Order, t: &'static Texts, token: &str, is_customer: bool) -> Self {
        let customer = order.customer.clone().unwrap_or_default();
        let may_cancel = is_customer
            && match order.state() {
                OrderState::Pending => true,
                OrderState::Confirmed => !order.cancel_refused,
                _ => false,
            };
        Self {
            t,
            token: token.to_owned(),
            order_id: order.order_id.clone(),
            badge: Badge::of(order.state(), t),
            why: why(order, t),
            cancel_refused: order.cancel_refused,
            lines: order
                .lines
                .iter()
                .map(|line| Line {
                    name: line.product_name.clone(),
                    quantity: line.quantity,
                    price: amount(line.unit_price.as_ref()),
                })
                .collect(),
            total: amount(order.total.as_ref()),
            name: customer.name,
            address: customer.address,
            style: match order.coordination() {
                Coordination::Orchestration => t.orchestration,
                _ => t.choreography,
            },
            history: order
                .transitions
                .iter()
                .map(|step| Step {
                    badge: Badge::of(step.state(), t),
                    meaning: t.meaning(&step.cause),
                    cause: step.cause.clone(),
                    at: moment(step.create_time.as_ref()),
                })
                .collect(),
            etag: may_cancel.then(|| order.etag.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::orders::v1::{Customer, OrderLine};

    use super::*;
    use crate::language::Language;

    fn order(state: OrderState) -> Order {
        Order {
            order_id: "o-1".to_owned(),
            state: state.into(),
            etag: "r1".to_owned(),
            customer: Some(Customer {
                name: "<script>alert(1)</script>".to_owned(),
                address: "\"><img src=x onerror=alert(1)> & '서울'".to_owned(),
                ..Default::default()
            }),
            lines: vec![OrderLine {
                product_name: "</td><b>TV</b>".to_owned(),
                quantity: 1,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn shown(order: &Order, is_customer: bool) -> String {
        Card::of(order, Texts::of(Language::English), "token", is_customer).render().unwrap()
    }

    #[test]
    fn what_a_customer_wrote_is_shown_as_text() {
        let text = shown(&order(OrderState::Pending), true);
        for hostile in ["<script", "<img", "</td><b>"] {
            assert!(!text.contains(hostile), "{hostile} in {text}");
        }
        assert!(text.contains("&#60;script&#62;alert(1)&#60;/script&#62;"), "{text}");
        assert!(text.contains("서울"), "{text}");
    }

    #[test]
    fn an_order_can_be_cancelled_while_that_can_do_anything() {
        let can = |order: &Order| shown(order, true).contains("/orders/o-1/cancel");
        assert!(can(&order(OrderState::Pending)) && can(&order(OrderState::Confirmed)));
        for state in [OrderState::Cancelled, OrderState::Cancelling, OrderState::Completed] {
            assert!(!can(&order(state)), "{state:?}");
        }
        assert!(!can(&Order { cancel_refused: true, ..order(OrderState::Confirmed) }));
        assert!(!shown(&order(OrderState::Pending), false).contains("/cancel"));
    }

    #[test]
    fn a_cancelled_order_says_why() {
        let mut order = order(OrderState::Cancelled);
        order.set_cancel_reason(CancelReason::OutOfStock);
        assert!(shown(&order, true).contains("There was not enough stock."));
    }
}
