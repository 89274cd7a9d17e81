//! `shop.orders.v1.OrderService`: request -> domain values -> one transaction -> response.

use std::{pin::Pin, time::Duration};

use chassis::{
    call,
    cause::{Cause, Coordination},
    doorbell::Doorbell,
    idempotency::{self, Claim, Claimed},
    outbox, page_token,
    policy::Book as _,
    trail::{self, Entry, Kind},
    violations::Violations,
    watch::{self, Watchers},
};
use proto::orders::v1::{
    CancelOrderRequest, CancelOrderResponse, GetOrderRequest, GetOrderResponse, ListOrdersRequest,
    ListOrdersResponse, ListProductReplicasRequest, ListProductReplicasResponse, OrderView,
    PlaceOrderRequest, PlaceOrderResponse, ProductReplica, WatchOrderRequest, WatchOrderResponse,
    order_service_server::OrderService,
};
use sqlx::PgPool;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    book::{Book, Wants},
    catalogue::{self, Product},
    config,
    domain::Message,
    error::Error,
    filter,
    intake::Intake,
    order::Order,
    placement::Placement,
    stock_check::StockCheck,
    store,
    validate::{self, Page},
    watch::Seen,
    wire,
};

/// Answers the calls.
#[derive(Debug)]
pub struct Api {
    /// Connections that the calls share.
    pub pool: PgPool,
    /// Rung after every commit with events.
    pub doorbell: Doorbell,
    /// Where orders are placed.
    pub intake: Intake,
    /// Where orders are watched.
    pub watchers: Watchers<Seen>,
    /// Whether the stock is checked first.
    pub stock_check: config::StockCheck,
    /// How it is checked with products.
    pub products: StockCheck,
    /// The coordination of orders that do not say.
    pub coordination: Coordination,
    /// How long an order may stay pending.
    pub deadline: Duration,
}

#[tonic::async_trait]
impl OrderService for Api {
    type WatchOrderStream = Pin<Box<dyn Stream<Item = watch::Answer<Seen>> + Send + 'static>>;

    async fn place_order(
        &self,
        request: Request<PlaceOrderRequest>,
    ) -> Result<Response<PlaceOrderResponse>, Status> {
        let cause = call::cause("orders", "PlaceOrder", &request);
        let placement =
            Placement::check(request.into_inner(), cause, self.coordination, self.deadline)?;
        call::concerns(placement.order_id);
        let placement = self.check_stock(placement).await?;
        let order = self.intake.place(placement).await?;
        Ok(Response::new(PlaceOrderResponse { order: Some(wire::order(&order)) }))
    }

    async fn cancel_order(
        &self,
        request: Request<CancelOrderRequest>,
    ) -> Result<Response<CancelOrderResponse>, Status> {
        let cause = call::cause("orders", "CancelOrder", &request);
        let request = request.into_inner();
        let order_id = validate::cancel(&request)?;
        let order = self.cancel(order_id, &request, cause).await?;
        Ok(Response::new(CancelOrderResponse { order: Some(wire::order(&order)) }))
    }

    async fn get_order(
        &self,
        request: Request<GetOrderRequest>,
    ) -> Result<Response<GetOrderResponse>, Status> {
        let (order_id, view) = validate::get(request.get_ref())?;
        let order = self.read(order_id, view == OrderView::Full).await?;
        Ok(Response::new(GetOrderResponse { order: Some(order) }))
    }

    async fn list_orders(
        &self,
        request: Request<ListOrdersRequest>,
    ) -> Result<Response<ListOrdersResponse>, Status> {
        let request = request.into_inner();
        let (filter, page_size) = filter::check(&request, chassis::clock::now())?;
        let orders = async {
            let mut conn = self.pool.acquire().await?;
            store::list(&mut conn, &filter, page_size + 1).await
        };
        let mut orders = orders.await.map_err(Error::from)?;
        let more = orders.len() as i64 > page_size;
        orders.truncate(usize::try_from(page_size).unwrap_or(usize::MAX));
        let next_page_token = match orders.last() {
            Some(last) if more => page_token::write(&filter::question(&request), last.order_id)
                .map_err(|error| Error::Encode(Box::new(error)))?,
            _ => String::new(),
        };
        Ok(Response::new(ListOrdersResponse {
            orders: orders.iter().map(wire::order).collect(),
            next_page_token,
        }))
    }

    async fn watch_order(
        &self,
        request: Request<WatchOrderRequest>,
    ) -> Result<Response<Self::WatchOrderStream>, Status> {
        let request = request.into_inner();
        let order_id = validate::watch(&request)?;
        let mut order = self.read(order_id, false).await?;
        let mut violations = Violations::default();
        if request.after_revision > order.revision {
            let revision = order.revision;
            violations.add("after_revision", format!("is beyond the order's revision {revision}"));
        }
        violations.finish()?;
        let first = if request.after_revision == 0 {
            Some(WatchOrderResponse { order: Some(order.clone()), transition: None })
        } else {
            order.revision = request.after_revision;
            None
        };
        let stream = self.watchers.watch(Seen { order_id, order }, first)?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_product_replicas(
        &self,
        request: Request<ListProductReplicasRequest>,
    ) -> Result<Response<ListProductReplicasResponse>, Status> {
        let Page { size, after } = validate::replicas(request.get_ref())?;
        let products = async {
            let mut conn = self.pool.acquire().await?;
            catalogue::page(&mut conn, &after, size + 1).await
        };
        let mut products = products.await.map_err(Error::from)?;
        let more = products.len() as i64 > size;
        products.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        let next_page_token = match products.last() {
            Some(last) if more => page_token::write(&validate::question(), &last.product_id)
                .map_err(|error| Error::Encode(Box::new(error)))?,
            _ => String::new(),
        };
        let products = products.into_iter().map(replica).collect();
        Ok(Response::new(ListProductReplicasResponse { products, next_page_token }))
    }
}

impl Api {
    /// Asks products where that is wanted; a repeated request is not checked again.
    async fn check_stock(&self, placement: Placement) -> Result<Placement, Error> {
        match self.stock_check {
            config::StockCheck::None => Ok(placement),
            config::StockCheck::Replica => Ok(Placement { refuse_shortage: true, ..placement }),
            config::StockCheck::Live => {
                let mut conn = self.pool.acquire().await?;
                if idempotency::look_up(&mut conn, placement.claim.as_ref()).await?.is_some() {
                    return Ok(placement);
                }
                drop(conn);
                let answered = Some(self.products.ask(&placement.wanted, &placement.cause).await?);
                Ok(Placement { answered, refuse_shortage: true, ..placement })
            }
        }
    }

    async fn cancel(
        &self,
        order_id: Uuid,
        request: &CancelOrderRequest,
        cause: Cause,
    ) -> Result<Order, Error> {
        call::concerns(order_id);
        let mut tx = self.pool.begin().await?;
        let mut book = Book::load(&mut tx, &Wants::one(order_id)).await?;
        let order =
            book.order(order_id).ok_or_else(|| Error::NotFound(request.order_id.clone()))?;
        let cause = cause.of_order(order_id, order.coordination);
        let content = CancelOrderRequest { request_id: String::new(), ..request.clone() };
        let caller = &order.customer.customer_id;
        let claim = Claim::new(caller, &request.request_id, "CancelOrder", &content, order_id);
        match idempotency::claim(&mut tx, claim.as_ref()).await? {
            Claimed::Fresh => {}
            Claimed::Repeat(_) => return Ok(order.clone()),
            Claimed::Reused => return Err(Error::RequestIdReused),
        }
        if !request.etag.is_empty() && request.etag != order.etag() {
            return Err(Error::StaleEtag(request.order_id.clone()));
        }
        let reaction = book
            .decide(order_id, Message::CancelOrder, &cause)
            .map_err(|error| Error::deciding(order_id, error))?;
        let order = book
            .order(order_id)
            .cloned()
            .ok_or_else(|| Error::NotFound(request.order_id.clone()))?;
        book.save(&mut tx).await?;
        outbox::append(&mut tx, &reaction.events).await?;
        trail::note(
            &mut tx,
            &[Entry::local(Kind::Call, &cause, reaction.outcome, &reaction.events)],
        )
        .await?;
        tx.commit().await?;
        book.committed();
        self.doorbell.ring();
        Ok(order)
    }

    async fn read(&self, order_id: Uuid, full: bool) -> Result<proto::orders::v1::Order, Error> {
        call::concerns(order_id);
        let mut conn = self.pool.acquire().await?;
        let order = store::order(&mut conn, order_id)
            .await?
            .ok_or_else(|| Error::NotFound(order_id.to_string()))?;
        let mut answer = wire::order(&order);
        if full {
            let transitions = store::transitions_after(&mut conn, &[(order_id, 0)]).await?;
            answer.transitions = transitions.iter().map(wire::transition).collect();
        }
        Ok(answer)
    }
}

fn replica(product: Product) -> ProductReplica {
    ProductReplica {
        product_id: product.product_id,
        name: product.name,
        price: Some(product.price.into()),
        stock: product.stock,
        version: product.version,
        update_time: Some(chassis::wire::timestamp(product.updated_at)),
    }
}
