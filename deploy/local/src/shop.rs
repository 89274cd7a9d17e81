//! A customer and a warehouse in one: the calls of the demonstration, each shown as the grpcurl command it equals.

use std::io::Write as _;
use std::time::Duration;

use proto::delivery::v1::delivery_service_client::DeliveryServiceClient;
use proto::delivery::v1::{
    CompleteDeliveryRequest, DeliveryState, DispatchDeliveryRequest, GetDeliveryRequest,
};
use proto::orders::v1::order_service_client::OrderServiceClient;
use proto::orders::v1::{
    CancelOrderRequest, Customer, ListProductReplicasRequest, Order, PlaceOrderLine,
    PlaceOrderRequest, WatchOrderRequest, WatchOrderResponse,
};
use proto::products::v1::product_service_client::ProductServiceClient;
use proto::products::v1::{AdjustStockRequest, GetProductRequest};
use serde::Serialize;
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::feed::{self, Event, Feed, From};
use crate::health::channel;
use crate::ports::Ports;
use crate::process::Part;
use crate::service;

/// How long any step of the demonstration may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The running shop, seen from outside.
#[derive(Debug)]
pub(crate) struct Shop {
    ports: Ports,
    orders: OrderServiceClient<Channel>,
    products: ProductServiceClient<Channel>,
    delivery: DeliveryServiceClient<Channel>,
    feed: Feed,
}

impl Shop {
    pub(crate) async fn visit(ports: &Ports, kafka: &str) -> Result<Self> {
        let connect = |part| {
            let url = service::grpc_url(ports, part);
            channel(&url).map_err(|source| Error::Address { url, source })
        };
        Ok(Self {
            ports: ports.clone(),
            orders: OrderServiceClient::new(connect(Part::Orders)?),
            products: ProductServiceClient::new(connect(Part::Products)?),
            delivery: DeliveryServiceClient::new(connect(Part::Delivery)?),
            feed: Feed::open(kafka, From::Now, feed::all_topics()).await?,
        })
    }

    /// The stock of a product, as soon as orders knows it as products has it.
    pub(crate) async fn agreed_stock(&mut self, product_id: &str) -> Result<i64> {
        let agree = async {
            loop {
                let (real, replica) = self.stock(product_id).await?;
                if real == replica {
                    return Ok(real);
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, agree).await.unwrap_or_else(|_| {
            Err(failed("read the stock")(late("orders has not heard of the change of stock")))
        })
    }

    async fn stock(&mut self, product_id: &str) -> Result<(i64, i64)> {
        let action = "read the stock";
        let request = GetProductRequest { product_id: product_id.to_owned() };
        let real =
            self.products.get_product(request).await.map_err(failed(action))?.into_inner().product;
        let request = ListProductReplicasRequest { page_size: 1000, page_token: String::new() };
        let replicas =
            self.orders.list_product_replicas(request).await.map_err(failed(action))?.into_inner();
        let replica =
            replicas.products.into_iter().find(|product| product.product_id == product_id);
        Ok((real.map_or(0, |product| product.stock), replica.map_or(0, |product| product.stock)))
    }

    pub(crate) async fn restock(&mut self, product_id: &str, delta: i64) -> Result<()> {
        let request = AdjustStockRequest {
            request_id: request_id(),
            product_id: product_id.to_owned(),
            delta,
        };
        self.show(Part::Products, "shop.products.v1.ProductService/AdjustStock", &request);
        self.products.adjust_stock(request).await.map_err(failed("add to the stock"))?;
        Ok(())
    }

    pub(crate) async fn place(&mut self, product_id: &str, quantity: i32) -> Result<Order> {
        let request = PlaceOrderRequest {
            request_id: request_id(),
            customer: Some(Customer {
                customer_id: "1@uengine.org".to_owned(),
                name: "홍길동".to_owned(),
                address: "서울시".to_owned(),
            }),
            lines: vec![PlaceOrderLine { product_id: product_id.to_owned(), quantity }],
            coordination: 0,
        };
        self.show(Part::Orders, "shop.orders.v1.OrderService/PlaceOrder", &request);
        let answer = self.orders.place_order(request).await.map_err(failed("place the order"))?;
        answered(answer.into_inner().order)
    }

    pub(crate) async fn cancel(&mut self, order_id: &str) -> Result<Order> {
        let request = CancelOrderRequest {
            order_id: order_id.to_owned(),
            request_id: request_id(),
            etag: String::new(),
        };
        self.show(Part::Orders, "shop.orders.v1.OrderService/CancelOrder", &request);
        let answer = self.orders.cancel_order(request).await.map_err(failed("cancel the order"))?;
        answered(answer.into_inner().order)
    }

    /// Sends the parcel off, as soon as delivery has heard that the order is confirmed.
    pub(crate) async fn dispatch(&mut self, order_id: &str) -> Result<()> {
        let ready = async {
            let request = GetDeliveryRequest { order_id: order_id.to_owned() };
            loop {
                let answer = self.delivery.get_delivery(request.clone()).await?.into_inner();
                if answer.delivery.is_some_and(|delivery| delivery.state() == DeliveryState::Ready)
                {
                    return Ok(());
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let ready =
            timeout(LIMIT, ready).await.unwrap_or_else(|_| Err(late("the delivery is not READY")));
        ready.map_err(failed("wait for the delivery"))?;
        let request =
            DispatchDeliveryRequest { order_id: order_id.to_owned(), request_id: request_id() };
        self.show(Part::Delivery, "shop.delivery.v1.DeliveryService/DispatchDelivery", &request);
        self.delivery.dispatch_delivery(request).await.map_err(failed("dispatch the delivery"))?;
        Ok(())
    }

    pub(crate) async fn complete(&mut self, order_id: &str) -> Result<()> {
        let request =
            CompleteDeliveryRequest { order_id: order_id.to_owned(), request_id: request_id() };
        self.show(Part::Delivery, "shop.delivery.v1.DeliveryService/CompleteDelivery", &request);
        self.delivery.complete_delivery(request).await.map_err(failed("complete the delivery"))?;
        Ok(())
    }

    /// Watches an order until it `is_there` and every expected event has passed, and shows both as they come.
    pub(crate) async fn follow(
        &mut self,
        order: &Order,
        is_there: impl Fn(&Order) -> bool,
        expected: &[&str],
    ) -> Result<Order> {
        let request =
            WatchOrderRequest { order_id: order.order_id.clone(), after_revision: order.revision };
        self.show(Part::Orders, "shop.orders.v1.OrderService/WatchOrder", &request);
        let mut watch =
            self.orders.watch_order(request).await.map_err(failed("watch the order"))?.into_inner();
        let mut now = order.clone();
        let mut missing: Vec<_> = expected.to_vec();
        let follow = async {
            while !(is_there(&now) && missing.is_empty()) {
                tokio::select! {
                    Some(step) = watch.next() => {
                        let step = step.map_err(failed("watch the order"))?;
                        show_step(&step);
                        now = step.order.unwrap_or(now);
                    }
                    event = self.feed.next() => {
                        let event = event?;
                        if event.order.as_ref() == Some(&order.order_id) {
                            show_event(&event);
                            missing.retain(|name| *name != event.short_type());
                        }
                    }
                }
            }
            Ok(now)
        };
        timeout(LIMIT, follow).await.unwrap_or_else(|_| {
            let status = late("not everything that was expected has happened; see the logs");
            Err(failed(&format!("follow the order {}", order.order_id))(status))
        })
    }

    fn show(&self, part: Part, method: &str, request: &impl Serialize) {
        let request = serde_json::to_string(request).unwrap_or_default();
        say(format!(
            "  $ grpcurl -plaintext -d '{request}' 127.0.0.1:{} {method}",
            self.ports.of(part)
        ));
    }
}

/// One line on stdout. A closed one is no reason to stop halfway through an order.
pub(crate) fn say(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

fn show_step(step: &WatchOrderResponse) {
    let Some(order) = &step.order else { return };
    let cause =
        step.transition.as_ref().map(|transition| format!(", because of {}", transition.cause));
    say(format!("    order is {}{}", state(order), cause.unwrap_or_default()));
}

fn show_event(event: &Event) {
    let cause = event.cause_type.as_deref().unwrap_or("a call");
    say(format!("    event {:<21} <- {cause:<21} {}", event.short_type(), event.payload));
}

/// `CONFIRMED` for `ORDER_STATE_CONFIRMED`.
pub(crate) fn state(order: &Order) -> String {
    order.state().as_str_name().trim_start_matches("ORDER_STATE_").to_owned()
}

fn request_id() -> String {
    format!("demo-{}", Uuid::new_v4())
}

fn answered(order: Option<Order>) -> Result<Order> {
    let order = order
        .ok_or_else(|| failed("read the answer")(Status::internal("the answer holds no order")))?;
    say(format!("    answered: order {} is {}", order.order_id, state(&order)));
    Ok(order)
}

fn late(what: &str) -> Status {
    Status::deadline_exceeded(what)
}

fn failed(action: &str) -> impl FnOnce(Status) -> Error {
    let action = action.to_owned();
    move |source| {
        if source.code() == Code::Unavailable {
            let text = format!(
                "cannot {action}: {}; is the shop running? Start it with `make up`",
                source.message()
            );
            return Error::Unfit(text);
        }
        Error::Call { action, source: Box::new(source) }
    }
}
