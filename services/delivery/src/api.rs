//! DeliveryService: the warehouse's calls. A call that changes something is one transaction: claim the request_id, lock and
//! load, decide, save, append, note.

use chassis::{
    call,
    cause::Cause,
    doorbell::Doorbell,
    idempotency::{self, Claim, Claimed},
    outbox, page_token,
    trail::{self, Entry, Kind, Outcome},
};
use proto::delivery::v1::{
    BatchGetDeliveriesRequest, BatchGetDeliveriesResponse, CompleteDeliveryRequest,
    CompleteDeliveryResponse, Delivery as View, DispatchDeliveryRequest, DispatchDeliveryResponse,
    FailDeliveryRequest, FailDeliveryResponse, GetDeliveryRequest, GetDeliveryResponse,
    ListDeliveriesRequest, ListDeliveriesResponse, delivery_service_server::DeliveryService,
};
use sqlx::PgPool;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    NAME,
    domain::{self, Call},
    error::Error,
    events, store,
    validate::{self, Page},
    wire,
};

/// Nobody is named: the warehouse's request_ids share one space.
const CALLER: &str = "";

/// Answers DeliveryService.
#[derive(Clone, Debug)]
pub struct Api {
    /// Connections to the service's database.
    pub pool: PgPool,
    /// Rung after every commit that told something.
    pub doorbell: Doorbell,
}

#[tonic::async_trait]
impl DeliveryService for Api {
    async fn get_delivery(
        &self,
        request: Request<GetDeliveryRequest>,
    ) -> Result<Response<GetDeliveryResponse>, Status> {
        let order_id = validate::get(request.get_ref())?;
        let delivery = Some(self.read(order_id).await?);
        Ok(Response::new(GetDeliveryResponse { delivery }))
    }

    async fn list_deliveries(
        &self,
        request: Request<ListDeliveriesRequest>,
    ) -> Result<Response<ListDeliveriesResponse>, Status> {
        let page = validate::page(request.get_ref())?;
        Ok(Response::new(self.list(page).await?))
    }

    async fn batch_get_deliveries(
        &self,
        request: Request<BatchGetDeliveriesRequest>,
    ) -> Result<Response<BatchGetDeliveriesResponse>, Status> {
        let order_ids = validate::batch(request.get_ref())?;
        let deliveries = self.read_all(&order_ids).await?;
        Ok(Response::new(BatchGetDeliveriesResponse { deliveries }))
    }

    async fn dispatch_delivery(
        &self,
        request: Request<DispatchDeliveryRequest>,
    ) -> Result<Response<DispatchDeliveryResponse>, Status> {
        let cause = call::cause(NAME, "DispatchDelivery", &request);
        let mut content = request.into_inner();
        let request_id = std::mem::take(&mut content.request_id);
        let order_id = validate::act(&content.order_id, &request_id)?;
        let claim =
            Claim::new(CALLER, &request_id, "DispatchDelivery", &content, &content.order_id);
        let delivery = Some(self.act(order_id, claim, &Call::Dispatch, cause).await?);
        Ok(Response::new(DispatchDeliveryResponse { delivery }))
    }

    async fn complete_delivery(
        &self,
        request: Request<CompleteDeliveryRequest>,
    ) -> Result<Response<CompleteDeliveryResponse>, Status> {
        let cause = call::cause(NAME, "CompleteDelivery", &request);
        let mut content = request.into_inner();
        let request_id = std::mem::take(&mut content.request_id);
        let order_id = validate::act(&content.order_id, &request_id)?;
        let claim =
            Claim::new(CALLER, &request_id, "CompleteDelivery", &content, &content.order_id);
        let delivery = Some(self.act(order_id, claim, &Call::Complete, cause).await?);
        Ok(Response::new(CompleteDeliveryResponse { delivery }))
    }

    async fn fail_delivery(
        &self,
        request: Request<FailDeliveryRequest>,
    ) -> Result<Response<FailDeliveryResponse>, Status> {
        let cause = call::cause(NAME, "FailDelivery", &request);
        let mut content = request.into_inner();
        let order_id = validate::fail(&content)?;
        let request_id = std::mem::take(&mut content.request_id);
        let claim = Claim::new(CALLER, &request_id, "FailDelivery", &content, &content.order_id);
        let call = Call::Fail { reason: content.reason };
        let delivery = Some(self.act(order_id, claim, &call, cause).await?);
        Ok(Response::new(FailDeliveryResponse { delivery }))
    }
}

impl Api {
    async fn read(&self, order_id: Uuid) -> Result<View, Error> {
        call::concerns(order_id);
        let mut conn = self.pool.acquire().await?;
        let delivery = store::get(&mut conn, order_id).await?.ok_or(Error::NotFound(order_id))?;
        Ok(wire::delivery(&delivery))
    }

    async fn read_all(&self, order_ids: &[Uuid]) -> Result<Vec<View>, Error> {
        let mut conn = self.pool.acquire().await?;
        let deliveries = store::get_all(&mut conn, order_ids).await?;
        Ok(deliveries.iter().map(wire::delivery).collect())
    }

    async fn act(
        &self,
        order_id: Uuid,
        claim: Option<Claim>,
        call: &Call,
        cause: Cause,
    ) -> Result<View, Error> {
        call::concerns(order_id);
        let mut tx = self.pool.begin().await?;
        match idempotency::claim(&mut tx, claim.as_ref()).await? {
            Claimed::Fresh => {}
            Claimed::Reused => return Err(Error::RequestIdReused),
            Claimed::Repeat(_) => {
                let delivery =
                    store::get(&mut tx, order_id).await?.ok_or(Error::NotFound(order_id))?;
                return Ok(wire::delivery(&delivery));
            }
        }
        let mut delivery =
            store::lock(&mut tx, &[order_id]).await?.pop().ok_or(Error::NotFound(order_id))?;
        let loaded = delivery.version;

        let event_id = Uuid::now_v7();
        let (state, told) = domain::act(&delivery.state, call, event_id)
            .map_err(|refusal| Error::Refused { order_id, refusal })?;
        delivery.advance(state, cause.now);
        let cause = cause.of_order(order_id, delivery.coordination);
        let events = [events::outgoing(&delivery, told, event_id, &cause)?];

        store::update(&mut tx, &[(&delivery, loaded)]).await?;
        outbox::append(&mut tx, &events).await?;
        trail::note(&mut tx, &[Entry::local(Kind::Call, &cause, Outcome::Applied, &events)])
            .await?;
        tx.commit().await?;
        self.doorbell.ring();
        Ok(wire::delivery(&delivery))
    }

    async fn list(&self, page: Page) -> Result<ListDeliveriesResponse, Error> {
        let mut conn = self.pool.acquire().await?;
        // One more than asked for tells whether another page follows.
        let mut deliveries = store::page(&mut conn, page.state, page.before, page.size + 1).await?;
        let more = deliveries.len() as i64 > page.size;
        deliveries.truncate(usize::try_from(page.size).unwrap_or_default());
        let last = deliveries.last().filter(|_| more);
        let next_page_token = match last
            .and_then(|last| Some((last.created_at, last.parcel.as_ref()?.delivery_id)))
        {
            Some((created_at, delivery_id)) => {
                page_token::write(&page.question, (created_at.timestamp_micros(), delivery_id))?
            }
            None => String::new(),
        };
        Ok(ListDeliveriesResponse {
            deliveries: deliveries.iter().map(wire::delivery).collect(),
            next_page_token,
        })
    }
}
