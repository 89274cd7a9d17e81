//! A customer's orders: the list, each one's page, and calling one off.

use askama::Template;
use axum::{
    extract::{Path, Query, State},
    response::{IntoResponse as _, Redirect, Response},
};
use proto::orders::v1::{CancelOrderRequest, ListOrdersRequest, Order};
use serde::Deserialize;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    card::{Badge, Card, why},
    chain::{Chain, gather},
    failure::{Failure, show},
    form::Submitted,
    hall::Hall,
    page::{Frame, Moment, amount, moment},
    texts::Texts,
    visitor::Visitor,
};

/// As many as one page shows.
const SHOWN: i32 = 20;

#[derive(Template)]
#[template(path = "orders.html")]
struct OrdersPage {
    frame: Frame,
    rows: Vec<Row>,
}

struct Row {
    order_id: String,
    goods: String,
    total: String,
    at: Moment,
    standing: Standing,
}

/// Where an order of the list stands; this part of it is live.
#[derive(Template)]
#[template(path = "standing.html")]
pub(crate) struct Standing {
    badge: Badge,
    why: &'static str,
}

impl askama::filters::HtmlSafe for Standing {}

impl Standing {
    pub(crate) fn of(order: &Order, t: &Texts) -> Self {
        Self { badge: Badge::of(order.state(), t), why: why(order, t) }
    }
}

/// The newest orders of a customer.
pub(crate) async fn newest(hall: &Hall, visitor: &Visitor) -> Result<Vec<Order>, Status> {
    let question = ListOrdersRequest {
        page_size: SHOWN,
        customer_id: visitor.customer_id.clone(),
        ..Default::default()
    };
    hall.shop.orders(&visitor.trace, question).await
}

/// The list.
pub(crate) async fn list(State(hall): State<Hall>, visitor: Visitor) -> Response {
    let orders = match newest(&hall, &visitor).await {
        Ok(orders) => orders,
        Err(status) => return Failure::of(&status).page(&visitor),
    };
    let rows = orders.iter().map(|order| Row {
        order_id: order.order_id.clone(),
        goods: goods(order),
        total: amount(order.total.as_ref()),
        at: moment(order.create_time.as_ref()),
        standing: Standing::of(order, visitor.texts),
    });
    let live = Some("/orders/live".to_owned());
    show(&OrdersPage { rows: rows.collect(), frame: Frame::of(&visitor, "orders", live) })
}

/// `TV × 2, MASK × 1`
pub(crate) fn goods(order: &Order) -> String {
    let line =
        |line: &proto::orders::v1::OrderLine| format!("{} × {}", line.product_name, line.quantity);
    order.lines.iter().map(line).collect::<Vec<_>>().join(", ")
}

/// What happened to the act before, said on the page that follows it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Notice {
    notice: Option<String>,
}

impl Notice {
    pub(crate) fn text(&self, t: &Texts) -> Option<&'static str> {
        match self.notice.as_deref()? {
            "changed" => Some(t.changed_notice),
            "refused" => Some(t.refused_notice),
            "away" => Some(t.away_notice),
            "done" => Some(t.done_notice),
            "reason" => Some(t.reason_notice),
            _ => None,
        }
    }
}

/// The word for it.
pub(crate) fn notice(ended: &Result<(), Status>) -> &'static str {
    match ended.as_ref().map_err(Status::code) {
        Ok(()) => "done",
        Err(Code::Aborted) => "changed",
        Err(Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled) => "away",
        Err(_) => "refused",
    }
}

#[derive(Template)]
#[template(path = "order.html")]
struct OrderPage {
    frame: Frame,
    short_id: String,
    notice: Option<&'static str>,
    card: Card,
    chain: Chain,
    is_open: bool,
}

/// An order's page, for its customer.
pub(crate) async fn page(
    State(hall): State<Hall>,
    visitor: Visitor,
    Path(order_id): Path<Uuid>,
    Query(notice): Query<Notice>,
) -> Response {
    match own(&hall, &visitor, order_id).await {
        Ok(order) => shown(&hall, &visitor, &order, &notice, true).await,
        Err(failure) => failure.page(&visitor),
    }
}

/// An order's page, for whoever operates the shop.
pub(crate) async fn operators_page(
    State(hall): State<Hall>,
    visitor: Visitor,
    Path(order_id): Path<Uuid>,
    Query(notice): Query<Notice>,
) -> Response {
    match hall.shop.order(&visitor.trace, order_id).await {
        Ok(order) => shown(&hall, &visitor, &order, &notice, false).await,
        Err(status) => Failure::of(&status).page(&visitor),
    }
}

/// The order, if it is the visitor's own: another's is not found.
pub(crate) async fn own(hall: &Hall, visitor: &Visitor, order_id: Uuid) -> Result<Order, Failure> {
    let order = hall.shop.order(&visitor.trace, order_id).await;
    let order = order.map_err(|status| Failure::of(&status))?;
    let customer = order.customer.as_ref().map(|customer| customer.customer_id.as_str());
    if customer == Some(&visitor.customer_id) { Ok(order) } else { Err(Failure::NotFound) }
}

async fn shown(
    hall: &Hall,
    visitor: &Visitor,
    order: &Order,
    notice: &Notice,
    is_customer: bool,
) -> Response {
    let base = if is_customer { "/orders" } else { "/operator/orders" };
    let live = Some(format!("{base}/{}/live", order.order_id));
    let part = if is_customer { "orders" } else { "operator" };
    show(&OrderPage {
        frame: Frame::of(visitor, part, live),
        short_id: short(&order.order_id),
        notice: notice.text(visitor.texts),
        card: Card::of(order, visitor.texts, &visitor.token, is_customer),
        chain: gather(hall, order, visitor.texts).await,
        is_open: !crate::card::is_final(order),
    })
}

/// The end of an id: the beginning is a time, much the same for all orders of an hour.
pub(crate) fn short(order_id: &str) -> String {
    let digits = order_id.rsplit('-').next().unwrap_or_default();
    format!("…{}", digits.get(4..).unwrap_or(digits))
}

/// Calls an order off, as the customer has seen it.
pub(crate) async fn cancel(
    State(hall): State<Hall>,
    visitor: Visitor,
    Path(order_id): Path<Uuid>,
    form: Submitted,
) -> Response {
    let page = format!("/orders/{order_id}");
    match own(&hall, &visitor, order_id).await {
        Ok(_) => {}
        // Its page is loaded again until orders answers; what was sent is not.
        Err(Failure::Away) => return Redirect::to(&format!("{page}?notice=away")).into_response(),
        Err(failure) => return failure.page(&visitor),
    }
    let etag = form.text("etag").to_owned();
    let question = CancelOrderRequest {
        order_id: order_id.to_string(),
        // The same act on the same order as it was seen is the same request, however often it is sent.
        request_id: format!("cancel-{}-{order_id}", etag.get(..16).unwrap_or(&etag)),
        etag,
    };
    let ended = hall.shop.cancel(&visitor.trace, question).await.map(|_| ());
    match ended {
        Ok(()) => Redirect::to(&page).into_response(),
        ended => Redirect::to(&format!("{page}?notice={}", notice(&ended))).into_response(),
    }
}
