//! products and delivery, so far as they are asked for rows: they answer what a test has put there.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use proto::{
    delivery::v1::{
        BatchGetDeliveriesRequest, BatchGetDeliveriesResponse, CompleteDeliveryRequest,
        CompleteDeliveryResponse, Delivery, DeliveryState, DispatchDeliveryRequest,
        DispatchDeliveryResponse, FailDeliveryRequest, FailDeliveryResponse, GetDeliveryRequest,
        GetDeliveryResponse, ListDeliveriesRequest, ListDeliveriesResponse,
        delivery_service_server::{DeliveryService, DeliveryServiceServer},
    },
    products::v1::{
        AdjustStockRequest, AdjustStockResponse, BatchGetReservationsRequest,
        BatchGetReservationsResponse, CheckAvailabilityRequest, CheckAvailabilityResponse,
        CreateProductRequest, CreateProductResponse, GetProductRequest, GetProductResponse,
        ListProductsRequest, ListProductsResponse, Reservation, ReservationState,
        UpdateProductRequest, UpdateProductResponse,
        product_service_server::{ProductService, ProductServiceServer},
    },
};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use uuid::Uuid;

/// What both have of each order.
#[derive(Clone)]
pub(crate) struct Rows {
    reservations: Arc<Mutex<BTreeMap<String, Reservation>>>,
    deliveries: Arc<Mutex<BTreeMap<String, Delivery>>>,
    /// The orders that products was asked about, question by question.
    pub(crate) questions: Arc<Mutex<Vec<Vec<String>>>>,
    /// Rung with every question to delivery, which answers when the gate lets it.
    pub(crate) asked: Arc<Notify>,
    pub(crate) gate: Arc<Semaphore>,
}

impl Rows {
    /// Answers at the returned URL, as products and as delivery.
    pub(crate) async fn serve(workers: &mut JoinSet<anyhow::Result<()>>) -> (Self, String) {
        let rows = Self {
            reservations: Arc::default(),
            deliveries: Arc::default(),
            questions: Arc::default(),
            asked: Arc::default(),
            gate: Arc::new(Semaphore::new(1)),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder()
            .add_service(ProductServiceServer::new(rows.clone()))
            .add_service(DeliveryServiceServer::new(rows.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        workers.spawn(async { Ok(server.await?) });
        (rows, url)
    }

    pub(crate) fn reserve(&self, order_id: Uuid, state: ReservationState) {
        let order_id = order_id.to_string();
        let row =
            Reservation { order_id: order_id.clone(), state: state.into(), ..Default::default() };
        self.reservations.lock().unwrap().insert(order_id, row);
    }

    pub(crate) fn deliver(&self, order_id: Uuid, state: DeliveryState, cancel_refused: bool) {
        let order_id = order_id.to_string();
        let row = Delivery {
            order_id: order_id.clone(),
            state: state.into(),
            cancel_refused,
            ..Default::default()
        };
        self.deliveries.lock().unwrap().insert(order_id, row);
    }
}

fn known<T: Clone>(rows: &Mutex<BTreeMap<String, T>>, order_ids: &[String]) -> Vec<T> {
    let rows = rows.lock().unwrap();
    order_ids.iter().filter_map(|order_id| rows.get(order_id).cloned()).collect()
}

fn nobody_asks<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("nobody asks this here"))
}

#[tonic::async_trait]
impl ProductService for Rows {
    async fn batch_get_reservations(
        &self,
        request: Request<BatchGetReservationsRequest>,
    ) -> Result<Response<BatchGetReservationsResponse>, Status> {
        let order_ids = request.into_inner().order_ids;
        let reservations = known(&self.reservations, &order_ids);
        self.questions.lock().unwrap().push(order_ids);
        Ok(Response::new(BatchGetReservationsResponse { reservations }))
    }

    async fn create_product(
        &self,
        _: Request<CreateProductRequest>,
    ) -> Result<Response<CreateProductResponse>, Status> {
        nobody_asks()
    }

    async fn update_product(
        &self,
        _: Request<UpdateProductRequest>,
    ) -> Result<Response<UpdateProductResponse>, Status> {
        nobody_asks()
    }

    async fn adjust_stock(
        &self,
        _: Request<AdjustStockRequest>,
    ) -> Result<Response<AdjustStockResponse>, Status> {
        nobody_asks()
    }

    async fn get_product(
        &self,
        _: Request<GetProductRequest>,
    ) -> Result<Response<GetProductResponse>, Status> {
        nobody_asks()
    }

    async fn list_products(
        &self,
        _: Request<ListProductsRequest>,
    ) -> Result<Response<ListProductsResponse>, Status> {
        nobody_asks()
    }

    async fn check_availability(
        &self,
        _: Request<CheckAvailabilityRequest>,
    ) -> Result<Response<CheckAvailabilityResponse>, Status> {
        nobody_asks()
    }
}

#[tonic::async_trait]
impl DeliveryService for Rows {
    async fn batch_get_deliveries(
        &self,
        request: Request<BatchGetDeliveriesRequest>,
    ) -> Result<Response<BatchGetDeliveriesResponse>, Status> {
        self.asked.notify_one();
        let _let_in = self.gate.acquire().await.unwrap();
        let deliveries = known(&self.deliveries, &request.into_inner().order_ids);
        Ok(Response::new(BatchGetDeliveriesResponse { deliveries }))
    }

    async fn get_delivery(
        &self,
        _: Request<GetDeliveryRequest>,
    ) -> Result<Response<GetDeliveryResponse>, Status> {
        nobody_asks()
    }

    async fn list_deliveries(
        &self,
        _: Request<ListDeliveriesRequest>,
    ) -> Result<Response<ListDeliveriesResponse>, Status> {
        nobody_asks()
    }

    async fn dispatch_delivery(
        &self,
        _: Request<DispatchDeliveryRequest>,
    ) -> Result<Response<DispatchDeliveryResponse>, Status> {
        nobody_asks()
    }

    async fn complete_delivery(
        &self,
        _: Request<CompleteDeliveryRequest>,
    ) -> Result<Response<CompleteDeliveryResponse>, Status> {
        nobody_asks()
    }

    async fn fail_delivery(
        &self,
        _: Request<FailDeliveryRequest>,
    ) -> Result<Response<FailDeliveryResponse>, Status> {
        nobody_asks()
    }
}
