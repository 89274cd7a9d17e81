//! The services, as an operator asks any of them.

use chassis::telemetry::TraceContext;
use proto::operations::v1::{
    GetLagRequest, GetLagResponse, GetTrailRequest, ListParkedRequest, ListSwitchesRequest,
    ParkedMessage, RetryParkedRequest, SetSwitchRequest, SkipParkedRequest, Switch, TrailEntry,
    operations_service_client::OperationsServiceClient,
};
use tonic::{Status, transport::Channel};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};
use uuid::Uuid;

use crate::shop::Shop;

/// A service of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Service {
    Orders,
    Products,
    Delivery,
    Orchestrator,
}

impl Service {
    /// In the order of their definition.
    pub(crate) const ALL: [Self; 4] =
        [Self::Orders, Self::Products, Self::Delivery, Self::Orchestrator];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Products => "products",
            Self::Delivery => "delivery",
            Self::Orchestrator => "orchestrator",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

impl Shop {
    fn operations(&self, service: Service) -> OperationsServiceClient<Channel> {
        OperationsServiceClient::new(self.channel(service))
    }

    /// Whether a service answers, and can work.
    pub(crate) async fn is_up(&self, service: Service) -> bool {
        let mut client = HealthClient::new(self.channel(service));
        let send = |request| async move { client.check(request).await };
        let question = HealthCheckRequest { service: String::new() };
        let trace = TraceContext::random();
        let answer = self.call(&trace, "grpc.health.v1.Health/Check", question, send).await;
        answer.is_ok_and(|answer| answer.status == ServingStatus::Serving as i32)
    }

    /// What a service did for an order.
    pub(crate) async fn trail(
        &self,
        service: Service,
        order_id: Uuid,
    ) -> Result<Vec<TrailEntry>, Status> {
        const METHOD: &str = "shop.operations.v1.OperationsService/GetTrail";
        let mut client = self.operations(service);
        let send = |request| async move { client.get_trail(request).await };
        let question = GetTrailRequest { order_id: order_id.to_string() };
        Ok(self.call(&TraceContext::random(), METHOD, question, send).await?.entries)
    }

    /// How far behind a service is.
    pub(crate) async fn lag(&self, service: Service) -> Result<GetLagResponse, Status> {
        const METHOD: &str = "shop.operations.v1.OperationsService/GetLag";
        let mut client = self.operations(service);
        let send = |request| async move { client.get_lag(request).await };
        self.call(&TraceContext::random(), METHOD, GetLagRequest {}, send).await
    }

    /// The first messages that a service could not handle.
    pub(crate) async fn parked(&self, service: Service) -> Result<Vec<ParkedMessage>, Status> {
        const METHOD: &str = "shop.operations.v1.OperationsService/ListParked";
        let mut client = self.operations(service);
        let send = |request| async move { client.list_parked(request).await };
        let question = ListParkedRequest { page_size: 20, ..Default::default() };
        Ok(self.call(&TraceContext::random(), METHOD, question, send).await?.messages)
    }

    /// Handles the parked messages of a key again.
    pub(crate) async fn retry(
        &self,
        trace: &TraceContext,
        service: Service,
        key: String,
    ) -> Result<(), Status> {
        const METHOD: &str = "shop.operations.v1.OperationsService/RetryParked";
        let mut client = self.operations(service);
        let send = |request| async move { client.retry_parked(request).await };
        self.call(trace, METHOD, RetryParkedRequest { key }, send).await.map(|_| ())
    }

    /// Gives the first parked message of a key up.
    pub(crate) async fn skip(
        &self,
        trace: &TraceContext,
        service: Service,
        question: SkipParkedRequest,
    ) -> Result<(), Status> {
        const METHOD: &str = "shop.operations.v1.OperationsService/SkipParked";
        let mut client = self.operations(service);
        let send = |request| async move { client.skip_parked(request).await };
        self.call(trace, METHOD, question, send).await.map(|_| ())
    }

    /// The demonstration switches of a service; none where they are not allowed.
    pub(crate) async fn switches(&self, service: Service) -> Result<Vec<Switch>, Status> {
        const METHOD: &str = "shop.operations.v1.OperationsService/ListSwitches";
        let mut client = self.operations(service);
        let send = |request| async move { client.list_switches(request).await };
        let trace = TraceContext::random();
        Ok(self.call(&trace, METHOD, ListSwitchesRequest {}, send).await?.switches)
    }

    /// Turns a demonstration switch.
    pub(crate) async fn turn(
        &self,
        trace: &TraceContext,
        service: Service,
        name: String,
        on: bool,
    ) -> Result<(), Status> {
        const METHOD: &str = "shop.operations.v1.OperationsService/SetSwitch";
        let mut client = self.operations(service);
        let send = |request| async move { client.set_switch(request).await };
        self.call(trace, METHOD, SetSwitchRequest { name, on }, send).await.map(|_| ())
    }
}
