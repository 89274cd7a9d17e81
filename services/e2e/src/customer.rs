//! The life of one order, as its customer and the warehouse lead it: placed until it is acknowledged, followed until it is
//! settled, and then cancelled or delivered. Whatever is not answered is asked again under the same request_id.

use std::{future::Future, sync::Arc, time::Duration};

use proto::{
    delivery::v1::{
        CompleteDeliveryRequest, DispatchDeliveryRequest, FailDeliveryRequest,
        delivery_service_client::DeliveryServiceClient,
    },
    orders::v1::{
        CancelOrderRequest, Coordination, Customer, GetOrderRequest, Order, OrderState,
        PlaceOrderLine, PlaceOrderRequest, WatchOrderRequest,
        order_service_client::OrderServiceClient,
    },
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request, Status, transport::Channel};
use uuid::Uuid;

use crate::{arena::Arena, tally::Tally};

const PAUSE: Duration = Duration::from_millis(100);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// A stream that says nothing for so long may have lost its connection.
const WATCH_LIMIT: Duration = Duration::from_secs(10);
/// The warehouse gives a delivery up that is not to be moved.
const MOVE_LIMIT: Duration = Duration::from_secs(30);

type Orders = OrderServiceClient<Channel>;
type Delivery = DeliveryServiceClient<Channel>;

/// What is to become of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing more once it is settled.
    Keep,
    /// Cancelled as soon as it is acknowledged.
    CancelAtOnce,
    /// Cancelled when it is confirmed.
    CancelLater,
    /// Dispatched.
    Dispatch,
    /// Dispatched and completed.
    Complete,
    /// Failed by the warehouse.
    Fail,
    /// Dispatched while it is being cancelled.
    DispatchAndCancel,
}

/// One order to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The id of its request, which is its customer's too.
    pub request_id: String,
    /// What is ordered.
    pub product_id: String,
    /// How much of it.
    pub quantity: i32,
    /// Driven by the orchestrator.
    pub orchestrated: bool,
    /// Followed by a stream.
    pub watched: bool,
    /// Sent again though it was answered.
    pub sent_again: bool,
    /// What is to become of it.
    pub wish: Wish,
}

/// Leads the order through its life; `due` is when it was to be placed.
pub async fn live(
    arena: Arc<Arena>,
    mut orders: Orders,
    delivery: Delivery,
    plan: Plan,
    due: Instant,
    tally: Arc<Tally>,
) {
    tally.count("due");
    let Some(order_id) = place(&orders, &plan, &tally).await else { return };
    tally.accepted(due.elapsed());
    arena.ledger.acknowledged(order_id, &plan.request_id);
    if plan.sent_again {
        match place(&orders, &plan, &tally).await {
            Some(again) if again != order_id => {
                arena.ledger.placed_twice(&plan.request_id, order_id, again);
            }
            _ => tally.count("requests repeated"),
        }
    }
    if plan.wish == Wish::CancelAtOnce {
        cancel(&orders, order_id, &tally).await;
    }
    let settled = follow(&mut orders, order_id, plan.watched, &tally).await;
    tally.settled(due.elapsed());
    tally.count("settled");
    if settled == OrderState::Confirmed {
        befall(&orders, &delivery, order_id, plan.wish, &tally).await;
    }
}

async fn place(orders: &Orders, plan: &Plan, tally: &Tally) -> Option<Uuid> {
    let mut request = PlaceOrderRequest {
        request_id: plan.request_id.clone(),
        customer: Some(Customer {
            customer_id: plan.request_id.clone(),
            name: "홍길동".to_owned(),
            address: "서울시".to_owned(),
        }),
        lines: vec![PlaceOrderLine {
            product_id: plan.product_id.clone(),
            quantity: plan.quantity,
        }],
        ..Default::default()
    };
    request.set_coordination(if plan.orchestrated {
        Coordination::Orchestration
    } else {
        Coordination::Choreography
    });
    let placed = insist(tally, || {
        let (mut orders, request) = (orders.clone(), request.clone());
        async move { orders.place_order(request).await }
    });
    let order = placed.await.ok().and_then(|answer| answer.into_inner().order);
    let order_id = order.and_then(|order| Uuid::parse_str(&order.order_id).ok());
    if order_id.is_none() {
        tally.count("orders refused");
    }
    order_id
}

async fn follow(orders: &mut Orders, order_id: Uuid, watched: bool, tally: &Tally) -> OrderState {
    let mut revision = 0;
    loop {
        let seen = if watched {
            watch(orders, order_id, &mut revision).await
        } else {
            look(orders, order_id).await
        };
        match seen {
            Ok(Some(state)) => return state,
            Ok(None) => {}
            Err(_) => tally.count("looks and watches that broke"),
        }
        sleep(BETWEEN_LOOKS).await;
    }
}

async fn look(orders: &mut Orders, order_id: Uuid) -> Result<Option<OrderState>, Status> {
    let request = GetOrderRequest { order_id: order_id.to_string(), ..Default::default() };
    Ok(orders.get_order(request).await?.into_inner().order.and_then(|order| settled(&order)))
}

/// Goes on after the last revision that was seen.
async fn watch(
    orders: &mut Orders,
    order_id: Uuid,
    revision: &mut i64,
) -> Result<Option<OrderState>, Status> {
    let request = WatchOrderRequest { order_id: order_id.to_string(), after_revision: *revision };
    let mut request = Request::new(request);
    // The channel's own limit is for calls.
    request.set_timeout(WATCH_LIMIT);
    let mut stream = orders.watch_order(request).await?.into_inner();
    loop {
        let next = timeout(WATCH_LIMIT, stream.message()).await;
        let next = next.map_err(|_| Status::deadline_exceeded("the watch is silent"))??;
        let Some(order) = next.and_then(|seen| seen.order) else { return Ok(None) };
        if order.revision < *revision {
            return Err(Status::internal("a watch went back"));
        }
        *revision = order.revision;
        if let Some(state) = settled(&order) {
            return Ok(Some(state));
        }
    }
}

fn settled(order: &Order) -> Option<OrderState> {
    let state = order.state();
    let open =
        matches!(state, OrderState::Unspecified | OrderState::Pending | OrderState::Cancelling);
    (!open).then_some(state)
}

async fn befall(orders: &Orders, delivery: &Delivery, order_id: Uuid, wish: Wish, tally: &Tally) {
    match wish {
        Wish::Keep | Wish::CancelAtOnce => {}
        Wish::CancelLater => cancel(orders, order_id, tally).await,
        Wish::Dispatch => {
            dispatch(delivery, order_id, tally).await;
        }
        Wish::Complete => {
            if dispatch(delivery, order_id, tally).await {
                complete(delivery, order_id, tally).await;
            }
        }
        Wish::Fail => fail(delivery, order_id, tally).await,
        Wish::DispatchAndCancel => {
            tokio::join!(dispatch(delivery, order_id, tally), cancel(orders, order_id, tally));
        }
    }
}

async fn cancel(orders: &Orders, order_id: Uuid, tally: &Tally) {
    let request = CancelOrderRequest {
        order_id: order_id.to_string(),
        request_id: format!("cancel-{order_id}"),
        ..Default::default()
    };
    let asked = insist(tally, || {
        let (mut orders, request) = (orders.clone(), request.clone());
        async move { orders.cancel_order(request).await }
    });
    tally.count(if asked.await.is_ok() { "cancels taken" } else { "cancels refused" });
}

/// Whether the goods have left. They may not before delivery has heard that the order is confirmed.
async fn dispatch(delivery: &Delivery, order_id: Uuid, tally: &Tally) -> bool {
    let request = DispatchDeliveryRequest {
        order_id: order_id.to_string(),
        request_id: format!("dispatch-{order_id}"),
    };
    let give_up = Instant::now() + MOVE_LIMIT;
    loop {
        let asked = insist(tally, || {
            let (mut delivery, request) = (delivery.clone(), request.clone());
            async move { delivery.dispatch_delivery(request).await }
        });
        match asked.await {
            Ok(_) => {
                tally.count("dispatched");
                return true;
            }
            Err(status) if status.code() != Code::FailedPrecondition => return false,
            Err(_) if Instant::now() > give_up => return false,
            // Not yet, or not any more: the second is found out by asking too.
            Err(status) if status.message().contains("not confirmed") => sleep(PAUSE).await,
            Err(_) => return false,
        }
    }
}

async fn complete(delivery: &Delivery, order_id: Uuid, tally: &Tally) {
    let request = CompleteDeliveryRequest {
        order_id: order_id.to_string(),
        request_id: format!("complete-{order_id}"),
    };
    let asked = insist(tally, || {
        let (mut delivery, request) = (delivery.clone(), request.clone());
        async move { delivery.complete_delivery(request).await }
    });
    if asked.await.is_ok() {
        tally.count("delivered");
    }
}

async fn fail(delivery: &Delivery, order_id: Uuid, tally: &Tally) {
    let request = FailDeliveryRequest {
        order_id: order_id.to_string(),
        request_id: format!("fail-{order_id}"),
        reason: "the van broke down".to_owned(),
    };
    let asked = insist(tally, || {
        let (mut delivery, request) = (delivery.clone(), request.clone());
        async move { delivery.fail_delivery(request).await }
    });
    if asked.await.is_ok() {
        tally.count("deliveries failed");
    }
}

/// Asks until there is an answer; a refusal is one.
pub(crate) async fn insist<T, F>(tally: &Tally, mut ask: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(status) if is_an_answer(status.code()) => return Err(status),
            Err(_) => tally.count("calls sent again"),
        }
        sleep(PAUSE).await;
    }
}

fn is_an_answer(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Unimplemented
    )
}
