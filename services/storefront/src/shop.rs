//! The services, as the storefront asks them: every call has a deadline and belongs to the trace of the page it is for.

use std::time::Duration;

use chassis::{cause::Cause, clock, spans, telemetry::TraceContext};
use proto::{
    delivery::v1::{
        CompleteDeliveryRequest, Delivery, DeliveryState, DispatchDeliveryRequest,
        FailDeliveryRequest, ListDeliveriesRequest, delivery_service_client::DeliveryServiceClient,
    },
    orchestrator::v1::{GetSagaRequest, Saga, SagaView, saga_service_client::SagaServiceClient},
    orders::v1::{
        CancelOrderRequest, GetOrderRequest, ListOrdersRequest, ListProductReplicasRequest, Order,
        OrderView, PlaceOrderRequest, ProductReplica, WatchOrderRequest, WatchOrderResponse,
        order_service_client::OrderServiceClient,
    },
    products::v1::{ListProductsRequest, Product, product_service_client::ProductServiceClient},
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Channel, Uri},
};
use uuid::Uuid;

use crate::{config::Config, service::Service};

/// A catalogue beyond this many pages is cut off.
const MOST_PAGES: usize = 3;

/// Clients of the services.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    pub(crate) orders: OrderServiceClient<Channel>,
    pub(crate) products: ProductServiceClient<Channel>,
    pub(crate) delivery: DeliveryServiceClient<Channel>,
    pub(crate) sagas: SagaServiceClient<Channel>,
    channels: [Channel; 4],
    timeout: Duration,
}

impl Shop {
    /// Connects when it is first needed, and again whenever a service comes back.
    pub(crate) fn new(config: &Config) -> Self {
        let channel = |uri: &Uri| {
            Channel::builder(uri.clone())
                .connect_timeout(config.call_timeout)
                .http2_keep_alive_interval(Duration::from_secs(10))
                .keep_alive_timeout(config.call_timeout)
                .connect_lazy()
        };
        let channels = Service::ALL.map(|service| {
            channel(match service {
                Service::Orders => &config.orders_url,
                Service::Products => &config.products_url,
                Service::Delivery => &config.delivery_url,
                Service::Orchestrator => &config.orchestrator_url,
            })
        });
        let [orders, products, delivery, orchestrator] = channels.clone();
        Self {
            orders: OrderServiceClient::new(orders),
            products: ProductServiceClient::new(products),
            delivery: DeliveryServiceClient::new(delivery),
            sagas: SagaServiceClient::new(orchestrator),
            channels,
            timeout: config.call_timeout,
        }
    }

    /// The way to a service.
    #[expect(clippy::indexing_slicing, reason = "there is a channel for every service, in order")]
    pub(crate) fn channel(&self, service: Service) -> Channel {
        self.channels[service as usize].clone()
    }

    /// One call, on behalf of the page that `trace` belongs to.
    pub(crate) async fn call<Q, A, F>(
        &self,
        trace: &TraceContext,
        method: &'static str,
        question: Q,
        send: impl FnOnce(Request<Q>) -> F,
    ) -> Result<A, Status>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut request = Request::new(question);
        // A stream is followed for longer than its call may take.
        if !method.contains("/Watch") {
            request.set_timeout(self.timeout);
        }
        let now = clock::now();
        let cause = Cause::local("storefront", method, Uuid::now_v7(), trace.clone(), now);
        let mut span = spans::ask(method, &cause, &mut request);
        let answer = tokio::time::timeout(self.timeout, send(request))
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        span.answered(answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
        answer.map(Response::into_inner)
    }

    /// The catalogue as products has it.
    pub(crate) async fn catalogue(&self, trace: &TraceContext) -> Result<Vec<Product>, Status> {
        const METHOD: &str = "shop.products.v1.ProductService/ListProducts";
        all_pages(|page_token| async move {
            let question = ListProductsRequest { page_size: 1000, page_token };
            let mut client = self.products.clone();
            let send = |request| async move { client.list_products(request).await };
            let page = self.call(trace, METHOD, question, send).await?;
            Ok((page.products, page.next_page_token))
        })
        .await
    }

    /// The catalogue as orders knows it.
    pub(crate) async fn replica(
        &self,
        trace: &TraceContext,
    ) -> Result<Vec<ProductReplica>, Status> {
        const METHOD: &str = "shop.orders.v1.OrderService/ListProductReplicas";
        all_pages(|page_token| async move {
            let question = ListProductReplicasRequest { page_size: 1000, page_token };
            let mut client = self.orders.clone();
            let send = |request| async move { client.list_product_replicas(request).await };
            let page = self.call(trace, METHOD, question, send).await?;
            Ok((page.products, page.next_page_token))
        })
        .await
    }

    pub(crate) async fn place(
        &self,
        trace: &TraceContext,
        question: PlaceOrderRequest,
    ) -> Result<Order, Status> {
        const METHOD: &str = "shop.orders.v1.OrderService/PlaceOrder";
        let mut client = self.orders.clone();
        let send = |request| async move { client.place_order(request).await };
        answered(self.call(trace, METHOD, question, send).await?.order)
    }

    pub(crate) async fn cancel(
        &self,
        trace: &TraceContext,
        question: CancelOrderRequest,
    ) -> Result<Order, Status> {
        const METHOD: &str = "shop.orders.v1.OrderService/CancelOrder";
        let mut client = self.orders.clone();
        let send = |request| async move { client.cancel_order(request).await };
        answered(self.call(trace, METHOD, question, send).await?.order)
    }

    /// One order with its transitions.
    pub(crate) async fn order(&self, trace: &TraceContext, id: Uuid) -> Result<Order, Status> {
        const METHOD: &str = "shop.orders.v1.OrderService/GetOrder";
        let question = GetOrderRequest { order_id: id.to_string(), view: OrderView::Full.into() };
        let mut client = self.orders.clone();
        let send = |request| async move { client.get_order(request).await };
        answered(self.call(trace, METHOD, question, send).await?.order)
    }

    /// One page of orders.
    pub(crate) async fn orders(
        &self,
        trace: &TraceContext,
        question: ListOrdersRequest,
    ) -> Result<Vec<Order>, Status> {
        const METHOD: &str = "shop.orders.v1.OrderService/ListOrders";
        let mut client = self.orders.clone();
        let send = |request| async move { client.list_orders(request).await };
        Ok(self.call(trace, METHOD, question, send).await?.orders)
    }

    /// Follows an order: first as it is, then every step.
    pub(crate) async fn watch(&self, id: Uuid) -> Result<Streaming<WatchOrderResponse>, Status> {
        const METHOD: &str = "shop.orders.v1.OrderService/WatchOrder";
        let question = WatchOrderRequest { order_id: id.to_string(), after_revision: 0 };
        let mut client = self.orders.clone();
        let send = |request| async move { client.watch_order(request).await };
        self.call(&TraceContext::random(), METHOD, question, send).await
    }

    /// The saga that drives an order.
    pub(crate) async fn saga(&self, trace: &TraceContext, id: Uuid) -> Result<Saga, Status> {
        const METHOD: &str = "shop.orchestrator.v1.SagaService/GetSaga";
        let question = GetSagaRequest { saga_id: id.to_string(), view: SagaView::Full.into() };
        let mut client = self.sagas.clone();
        let send = |request| async move { client.get_saga(request).await };
        answered(self.call(trace, METHOD, question, send).await?.saga)
    }

    /// The first deliveries in a state.
    pub(crate) async fn deliveries(
        &self,
        trace: &TraceContext,
        state: DeliveryState,
    ) -> Result<Vec<Delivery>, Status> {
        const METHOD: &str = "shop.delivery.v1.DeliveryService/ListDeliveries";
        let question =
            ListDeliveriesRequest { page_size: 20, page_token: String::new(), state: state.into() };
        let mut client = self.delivery.clone();
        let send = |request| async move { client.list_deliveries(request).await };
        Ok(self.call(trace, METHOD, question, send).await?.deliveries)
    }

    pub(crate) async fn dispatch(&self, trace: &TraceContext, id: Uuid) -> Result<(), Status> {
        const METHOD: &str = "shop.delivery.v1.DeliveryService/DispatchDelivery";
        let (order_id, request_id) = (id.to_string(), format!("dispatch-{id}"));
        let question = DispatchDeliveryRequest { order_id, request_id };
        let mut client = self.delivery.clone();
        let send = |request| async move { client.dispatch_delivery(request).await };
        self.call(trace, METHOD, question, send).await.map(|_| ())
    }

    pub(crate) async fn complete(&self, trace: &TraceContext, id: Uuid) -> Result<(), Status> {
        const METHOD: &str = "shop.delivery.v1.DeliveryService/CompleteDelivery";
        let (order_id, request_id) = (id.to_string(), format!("complete-{id}"));
        let question = CompleteDeliveryRequest { order_id, request_id };
        let mut client = self.delivery.clone();
        let send = |request| async move { client.complete_delivery(request).await };
        self.call(trace, METHOD, question, send).await.map(|_| ())
    }

    pub(crate) async fn fail(&self, trace: &TraceContext, id: Uuid) -> Result<(), Status> {
        const METHOD: &str = "shop.delivery.v1.DeliveryService/FailDelivery";
        let reason = "the warehouse gave it up".to_owned();
        let (order_id, request_id) = (id.to_string(), format!("fail-{id}"));
        let question = FailDeliveryRequest { order_id, request_id, reason };
        let mut client = self.delivery.clone();
        let send = |request| async move { client.fail_delivery(request).await };
        self.call(trace, METHOD, question, send).await.map(|_| ())
    }
}

/// What is listed page by page: `page` asks for the page of a token, and answers what is on it and the token of the next.
async fn all_pages<T, F>(page: impl Fn(String) -> F) -> Result<Vec<T>, Status>
where
    F: Future<Output = Result<(Vec<T>, String), Status>>,
{
    let (mut all, mut page_token) = (Vec::new(), String::new());
    for _ in 0..MOST_PAGES {
        let (listed, next) = page(page_token).await?;
        all.extend(listed);
        if next.is_empty() {
            break;
        }
        page_token = next;
    }
    Ok(all)
}

fn answered<T>(answer: Option<T>) -> Result<T, Status> {
    answer.ok_or_else(|| Status::data_loss("the answer holds nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_read_to_the_last_one_or_until_there_are_too_many() {
        let listed = async |last: usize| {
            let pages = all_pages(|token| async move {
                let number = token.parse::<usize>().unwrap_or(1);
                let next = if number == last { String::new() } else { (number + 1).to_string() };
                Ok((vec![number], next))
            });
            pages.await.unwrap()
        };
        assert_eq!(listed(1).await, [1]);
        assert_eq!(listed(2).await, [1, 2]);
        assert_eq!(listed(99).await.len(), MOST_PAGES);
    }
}
