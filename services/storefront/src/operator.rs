//! The operator's view: how far behind each service is, what waits for a person, the warehouse, and the demonstration
//! switches where they are allowed.

use askama::Template;
use axum::{
    extract::{Path, Query, State},
    response::{IntoResponse as _, Redirect, Response},
};
use futures::future::join_all;
use proto::{
    delivery::v1::{Delivery, DeliveryState},
    operations::v1::{GetLagResponse, ParkedMessage, SkipParkedRequest, Switch},
    orders::v1::{ListOrdersRequest, Order, OrderState},
};
use tonic::Status;
use uuid::Uuid;

use crate::{
    failure::{Failure, show},
    form::Submitted,
    hall::Hall,
    live::{Gone, Pieces},
    orders::{Notice, goods, notice, short},
    page::{Frame, Moment, grouped, moment},
    service::Service,
    texts::Texts,
    visitor::Visitor,
};

/// An order that has been pending for longer is worth a look.
const UNSETTLED_AFTER: proto::Duration = proto::Duration { seconds: 5, nanos: 0 };

#[derive(Template)]
#[template(path = "operator.html")]
struct OperatorPage {
    frame: Frame,
    notice: Option<&'static str>,
    view: View,
}

/// All of it at a moment.
pub(crate) struct View {
    services: Services,
    parked: ParkedList,
    unsettled: Unsettled,
    parcels: Parcels,
    switches: Switches,
}

/// How far behind each service is.
#[derive(Template)]
#[template(path = "operator_services.html")]
struct Services {
    t: &'static Texts,
    rows: Vec<ServiceRow>,
}

struct ServiceRow {
    name: &'static str,
    is_up: bool,
    /// Nothing where it did not say in time.
    lag: Option<Lag>,
}

struct Lag {
    outbox: String,
    oldest: Option<String>,
    messages: String,
    topics: String,
    parked: i64,
}

/// Messages that could not be handled.
#[derive(Template)]
#[template(path = "operator_parked.html")]
struct ParkedList {
    t: &'static Texts,
    token: String,
    rows: Vec<Parked>,
}

struct Parked {
    service: &'static str,
    kind: String,
    key: String,
    reason: String,
    parked_id: i64,
}

/// Orders that take long.
#[derive(Template)]
#[template(path = "operator_unsettled.html")]
struct Unsettled {
    t: &'static Texts,
    rows: Vec<UnsettledRow>,
}

struct UnsettledRow {
    order_id: String,
    short_id: String,
    goods: String,
    at: Moment,
}

/// What may leave the warehouse, and what has left it.
#[derive(Template)]
#[template(path = "operator_parcels.html")]
struct Parcels {
    t: &'static Texts,
    token: String,
    rows: Vec<Parcel>,
}

struct Parcel {
    order_id: String,
    short_id: String,
    is_ready: bool,
    goods: String,
    name: String,
    address: String,
}

/// The demonstration switches.
#[derive(Template)]
#[template(path = "operator_switches.html")]
struct Switches {
    t: &'static Texts,
    token: String,
    rows: Vec<(Service, Switch)>,
}

impl Switches {
    fn meaning<'a>(&self, switch: &'a Switch) -> &'a str {
        match switch.name.as_str() {
            "consume" => self.t.switch_consume,
            "refuse" => self.t.switch_refuse,
            other => other,
        }
    }
}

impl askama::filters::HtmlSafe for Services {}
impl askama::filters::HtmlSafe for ParkedList {}
impl askama::filters::HtmlSafe for Unsettled {}
impl askama::filters::HtmlSafe for Parcels {}
impl askama::filters::HtmlSafe for Switches {}

impl View {
    /// Asks everybody.
    pub(crate) async fn look(hall: &Hall, visitor: &Visitor) -> Self {
        let (t, token, trace) = (visitor.texts, &visitor.token, &visitor.trace);
        let shop = &hall.shop;
        let pending = ListOrdersRequest {
            page_size: 20,
            state: OrderState::Pending.into(),
            pending_for: Some(UNSETTLED_AFTER),
            ..Default::default()
        };
        let (up, lags, parked, switches, pending, ready, dispatched) = tokio::join!(
            join_all(Service::ALL.map(|service| shop.is_up(service))),
            join_all(Service::ALL.map(|service| shop.lag(service))),
            join_all(Service::ALL.map(|service| shop.parked(service))),
            join_all(Service::ALL.map(|service| shop.switches(service))),
            shop.orders(trace, pending),
            shop.deliveries(trace, DeliveryState::Ready),
            shop.deliveries(trace, DeliveryState::Dispatched),
        );
        let lags =
            Service::ALL.into_iter().zip(up).zip(lags).map(|((service, up), lag)| ServiceRow {
                name: service.name(),
                is_up: up || lag.is_ok(),
                lag: lag.ok().map(Lag::of),
            });
        let (mut ready, dispatched) = (ready.unwrap_or_default(), dispatched.unwrap_or_default());
        // Asked for side by side: one that has just left may be in both.
        ready.retain(|it| dispatched.iter().all(|gone| gone.order_id != it.order_id));
        let parcels = ready.into_iter().chain(dispatched).map(Parcel::of);
        Self {
            services: Services { t, rows: lags.collect() },
            parked: ParkedList {
                t,
                token: token.clone(),
                rows: of_each(parked).into_iter().map(Parked::of).collect(),
            },
            unsettled: Unsettled {
                t,
                rows: pending.unwrap_or_default().iter().map(UnsettledRow::of).collect(),
            },
            parcels: Parcels { t, token: token.clone(), rows: parcels.collect() },
            switches: Switches { t, token: token.clone(), rows: of_each(switches) },
        }
    }

    /// Sends what has changed.
    pub(crate) async fn send(&self, pieces: &mut Pieces) -> Result<(), Gone> {
        pieces.send("services", &self.services).await?;
        pieces.send("parked", &self.parked).await?;
        pieces.send("unsettled", &self.unsettled).await?;
        pieces.send("parcels", &self.parcels).await?;
        pieces.send("switches", &self.switches).await.map(|_| ())
    }
}

/// What each service has, those that are away nothing.
fn of_each<T>(answers: Vec<Result<Vec<T>, Status>>) -> Vec<(Service, T)> {
    let each = Service::ALL.into_iter().zip(answers);
    each.flat_map(|(service, answer)| {
        answer.unwrap_or_default().into_iter().map(move |it| (service, it))
    })
    .collect()
}

impl Parked {
    fn of((service, message): (Service, ParkedMessage)) -> Self {
        Self {
            service: service.name(),
            kind: message.r#type,
            key: message.key,
            reason: message.reason,
            parked_id: message.parked_id,
        }
    }
}

impl Lag {
    fn of(lag: GetLagResponse) -> Self {
        let messages: i64 = lag.topics.iter().map(|topic| topic.messages).sum();
        let topics = lag.topics.iter().filter(|topic| topic.messages > 0);
        let topics = topics.map(|topic| format!("{}: {}", topic.topic, topic.messages));
        Self {
            outbox: grouped(lag.outbox_rows.unsigned_abs()),
            oldest: lag.outbox_oldest_age.map(|age| format!("{} s", age.seconds)),
            messages: grouped(messages.unsigned_abs()),
            topics: topics.collect::<Vec<_>>().join(", "),
            parked: lag.parked,
        }
    }
}

impl UnsettledRow {
    fn of(order: &Order) -> Self {
        Self {
            short_id: short(&order.order_id),
            goods: goods(order),
            at: moment(order.create_time.as_ref()),
            order_id: order.order_id.clone(),
        }
    }
}

impl Parcel {
    fn of(delivery: Delivery) -> Self {
        let line = |line: &proto::delivery::v1::DeliveryLine| {
            format!("{} × {}", line.product_name, line.quantity)
        };
        Self {
            short_id: short(&delivery.order_id),
            is_ready: delivery.state() == DeliveryState::Ready,
            goods: delivery.lines.iter().map(line).collect::<Vec<_>>().join(", "),
            order_id: delivery.order_id,
            name: delivery.customer_name,
            address: delivery.delivery_address,
        }
    }
}

/// The page.
pub(crate) async fn page(
    State(hall): State<Hall>,
    visitor: Visitor,
    Query(notice): Query<Notice>,
) -> Response {
    show(&OperatorPage {
        notice: notice.text(visitor.texts),
        view: View::look(&hall, &visitor).await,
        frame: Frame::of(&visitor, "operator", Some("/operator/live".to_owned())),
    })
}

fn back(ended: &Result<(), Status>) -> Response {
    if let Err(status) = ended {
        tracing::warn!(code = ?status.code(), message = status.message(), "an operator was refused");
    }
    Redirect::to(&format!("/operator?notice={}", notice(ended))).into_response()
}

/// Dispatches, completes or gives up a delivery.
pub(crate) async fn deliver(
    State(hall): State<Hall>,
    visitor: Visitor,
    Path((order_id, act)): Path<(Uuid, String)>,
    _form: Submitted,
) -> Response {
    let (shop, trace) = (&hall.shop, &visitor.trace);
    back(&match act.as_str() {
        "dispatch" => shop.dispatch(trace, order_id).await,
        "complete" => shop.complete(trace, order_id).await,
        "fail" => shop.fail(trace, order_id).await,
        _ => return Failure::NotFound.page(&visitor),
    })
}

/// Retries or skips what is parked.
pub(crate) async fn redrive(
    State(hall): State<Hall>,
    visitor: Visitor,
    Path((service, act)): Path<(String, String)>,
    form: Submitted,
) -> Response {
    let Some(service) = Service::named(&service) else {
        return Failure::NotFound.page(&visitor);
    };
    let key = form.text("key").to_owned();
    back(&match act.as_str() {
        "retry" => hall.shop.retry(&visitor.trace, service, key).await,
        "skip" => {
            let parked_id = form.text("parked_id").parse().unwrap_or_default();
            let reason = form.text("reason").trim().to_owned();
            if !(1..=500).contains(&reason.chars().count()) {
                return Redirect::to("/operator?notice=reason").into_response();
            }
            let question = SkipParkedRequest { key, parked_id, reason };
            hall.shop.skip(&visitor.trace, service, question).await
        }
        _ => return Failure::NotFound.page(&visitor),
    })
}

/// Turns a demonstration switch.
pub(crate) async fn turn(
    State(hall): State<Hall>,
    visitor: Visitor,
    Path(service): Path<String>,
    form: Submitted,
) -> Response {
    let Some(service) = Service::named(&service) else {
        return Failure::NotFound.page(&visitor);
    };
    let (name, on) = (form.text("name").to_owned(), form.text("on") == "true");
    back(&hall.shop.turn(&visitor.trace, service, name, on).await)
}
