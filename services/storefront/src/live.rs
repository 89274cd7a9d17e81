//! Live updates: streams of server-sent events, each a piece of a page that replaces the one it has. A stream that breaks is
//! opened again by the browser, and begins with what is there then.

use std::{collections::HashMap, time::Duration};

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::future::join_all;
use proto::orders::v1::{Order, WatchOrderResponse};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Streaming};
use uuid::Uuid;

use crate::{
    card::{Card, is_final},
    chain::gather,
    failure::Failure,
    hall::Hall,
    orders::{Standing, newest, own},
    outlook::{Away, Stock},
    shop::Shop,
    visitor::Visitor,
};

/// How soon a browser comes back, and how soon a service is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the trails are asked while an order moves, and when it stands.
const OFTEN: Duration = Duration::from_millis(250);
const SELDOM: Duration = Duration::from_secs(2);
/// After so long without a change an order stands.
const MOVING: Duration = Duration::from_secs(10);
/// And nothing more is to be seen of one whose state is final.
const OVER: Duration = Duration::from_secs(30);

/// Where the pieces of one page go. What has not changed is not sent again.
pub(crate) struct Pieces {
    events: mpsc::Sender<Event>,
    sent: HashMap<String, String>,
}

/// The visitor has gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl Pieces {
    fn of(events: &mpsc::Sender<Event>) -> Self {
        Self { events: events.clone(), sent: HashMap::new() }
    }

    /// Sends a piece by its name; true where it was new.
    pub(crate) async fn send(&mut self, name: &str, piece: &impl Template) -> Result<bool, Gone> {
        let text = piece.render().map_err(|error| {
            tracing::error!(%error, name, "a piece of a page could not be rendered");
            Gone
        })?;
        // A carriage return would end a line of the stream.
        let text = text.replace('\r', "");
        // A browser passes over an event without data.
        let text = if text.is_empty() { " ".to_owned() } else { text };
        if self.sent.get(name) == Some(&text) {
            return Ok(false);
        }
        let event = Event::default().event(name).data(&text);
        self.sent.insert(name.to_owned(), text);
        self.events.send(event).await.map(|()| true).map_err(|_| Gone)
    }

    /// Nothing follows: the browser need not come back.
    async fn end(&self) -> Result<(), Gone> {
        self.events.send(Event::default().event("end").data("end")).await.map_err(|_| Gone)
    }
}

/// Opens a stream, as long as there is a seat; `work` fills it until the visitor has gone or the site stops.
pub(crate) fn open<F>(hall: &Hall, work: impl FnOnce(mpsc::Sender<Event>) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let Ok(seat) = hall.seats.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "5")]).into_response();
    };
    let (events, stream) = mpsc::channel(16);
    // Whoever has just come is told how soon to come back.
    let _ = events.try_send(Event::default().retry(AGAIN).comment("live"));
    let (work, shutdown) = (work(events.clone()), hall.shutdown.clone());
    hall.tasks.spawn(async move {
        let _seat = seat;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = events.closed() => {}
            _ = work => {}
        }
    });
    let stream = ReceiverStream::new(stream).map(Ok::<_, std::convert::Infallible>);
    // A proxy must not collect it before it passes it on.
    let unbuffered = [("x-accel-buffering", "no")];
    (unbuffered, Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
        .into_response()
}

/// The stock of everything, and who is away.
pub(crate) async fn catalogue(State(hall): State<Hall>, visitor: Visitor) -> Response {
    let mut outlooks = hall.outlooks.follow();
    open(&hall, |events| async move {
        let (mut pieces, t) = (Pieces::of(&events), visitor.texts);
        while outlooks.changed().await.is_ok() {
            let outlook = outlooks.borrow_and_update().clone();
            pieces.send("away", &Away { t, services: outlook.away.clone() }).await?;
            for offer in &outlook.offers {
                let name = format!("stock-{}", offer.product_id);
                pieces.send(&name, &Stock { t, pieces: offer.stock }).await?;
            }
        }
        Ok(())
    })
}

/// Where each of a customer's newest orders stands.
pub(crate) async fn orders(State(hall): State<Hall>, visitor: Visitor) -> Response {
    let orders = match newest(&hall, &visitor).await {
        Ok(orders) => orders,
        Err(status) => return Failure::of(&status).page(&visitor),
    };
    let watched = hall.clone();
    open(&hall, |events| async move {
        let each = orders.into_iter().map(|order| standing(&watched, &visitor, &events, order));
        let (away, ended) = tokio::join!(away(&watched, &visitor, &events), join_all(each));
        ended.into_iter().collect::<Result<(), Gone>>().and(away)
    })
}

async fn standing(
    hall: &Hall,
    visitor: &Visitor,
    events: &mpsc::Sender<Event>,
    order: Order,
) -> Result<(), Gone> {
    let mut pieces = Pieces::of(events);
    let name = format!("order-{}", order.order_id);
    pieces.send(&name, &Standing::of(&order, visitor.texts)).await?;
    let mut follower = Follower::of(order);
    while let Some(order) = follower.next(&hall.shop).await {
        pieces.send(&name, &Standing::of(&order, visitor.texts)).await?;
    }
    Ok(())
}

/// Follows an order through every state until none can come, however often orders goes away.
struct Follower {
    order: Order,
    steps: Option<Streaming<WatchOrderResponse>>,
}

impl Follower {
    fn of(order: Order) -> Self {
        Self { order, steps: None }
    }

    async fn next(&mut self, shop: &Shop) -> Option<Order> {
        let order_id = Uuid::try_parse(&self.order.order_id).ok()?;
        while !is_final(&self.order) {
            match &mut self.steps {
                None => match shop.watch(order_id).await {
                    Ok(steps) => self.steps = Some(steps),
                    Err(status) if status.code() == Code::NotFound => return None,
                    Err(_) => sleep(AGAIN).await,
                },
                Some(steps) => match steps.message().await {
                    Ok(Some(WatchOrderResponse { order: Some(order), .. })) => {
                        self.order = order.clone();
                        return Some(order);
                    }
                    _ => {
                        self.steps = None;
                        sleep(AGAIN).await;
                    }
                },
            }
        }
        None
    }
}

/// One order of the visitor's own: where it stands, and what caused what.
pub(crate) async fn order(
    State(hall): State<Hall>,
    visitor: Visitor,
    Path(order_id): Path<Uuid>,
) -> Response {
    match own(&hall, &visitor, order_id).await {
        Ok(order) => one(&hall, visitor, order, true),
        Err(failure) => failure.page(&visitor),
    }
}

/// Any order, for the operator.
pub(crate) async fn operators_order(
    State(hall): State<Hall>,
    visitor: Visitor,
    Path(order_id): Path<Uuid>,
) -> Response {
    match hall.shop.order(&visitor.trace, order_id).await {
        Ok(order) => one(&hall, visitor, order, false),
        Err(status) => Failure::of(&status).page(&visitor),
    }
}

fn one(hall: &Hall, visitor: Visitor, order: Order, is_customer: bool) -> Response {
    let watched = hall.clone();
    open(hall, |events| async move {
        let hall = &watched;
        let (card, chain, away) = tokio::join!(
            card(hall, &visitor, &events, &order, is_customer),
            chain(hall, &visitor, &events, order.clone()),
            away(hall, &visitor, &events),
        );
        card.and(chain).and(away)
    })
}

async fn card(
    hall: &Hall,
    visitor: &Visitor,
    events: &mpsc::Sender<Event>,
    order: &Order,
    is_customer: bool,
) -> Result<(), Gone> {
    let mut pieces = Pieces::of(events);
    let order_id = Uuid::try_parse(&order.order_id).unwrap_or_default();
    let show = |order: &Order| Card::of(order, visitor.texts, &visitor.token, is_customer);
    pieces.send("card", &show(order)).await?;
    let mut follower = Follower::of(order.clone());
    while let Some(step) = follower.next(&hall.shop).await {
        // With how it came there. It may be further by now; then the next step shows the same again.
        let full = hall.shop.order(&visitor.trace, order_id).await;
        pieces.send("card", &show(full.as_ref().unwrap_or(&step))).await?;
    }
    Ok(())
}

/// The picture, for as long as it can grow.
async fn chain(
    hall: &Hall,
    visitor: &Visitor,
    events: &mpsc::Sender<Event>,
    mut order: Order,
) -> Result<(), Gone> {
    let mut pieces = Pieces::of(events);
    let mut changed = Instant::now();
    loop {
        if pieces.send("chain", &gather(hall, &order, visitor.texts).await).await? {
            changed = Instant::now();
        }
        let order_id = Uuid::try_parse(&order.order_id).unwrap_or_default();
        if is_final(&order) && changed.elapsed() > OVER {
            return pieces.end().await;
        }
        sleep(if changed.elapsed() < MOVING { OFTEN } else { SELDOM }).await;
        if !is_final(&order)
            && let Ok(now) = hall.shop.order(&visitor.trace, order_id).await
        {
            order = now;
        }
    }
}

/// Who is away, as long as the page is open.
async fn away(hall: &Hall, visitor: &Visitor, events: &mpsc::Sender<Event>) -> Result<(), Gone> {
    let (mut pieces, mut outlooks) = (Pieces::of(events), hall.outlooks.follow());
    while outlooks.changed().await.is_ok() {
        let services = outlooks.borrow_and_update().away.clone();
        pieces.send("away", &Away { t: visitor.texts, services }).await?;
    }
    Ok(())
}

/// The operator's view, piece by piece.
pub(crate) async fn operator(State(hall): State<Hall>, visitor: Visitor) -> Response {
    let asked = hall.clone();
    open(&hall, |events| async move {
        let mut pieces = Pieces::of(&events);
        loop {
            let view = crate::operator::View::look(&asked, &visitor).await;
            view.send(&mut pieces).await?;
            sleep(AGAIN).await;
        }
    })
}
