//! Answers the calls about the catalogue: request -> checked values -> one transaction -> answer. A change, its event and
//! its row in the trail commit together.

use chassis::{
    call,
    cause::Cause,
    doorbell::Doorbell,
    idempotency::{self, Claim, Claimed},
    outbox, page_token,
    trail::{self, Entry, Kind, Outcome},
};
use proto::products::v1::{
    AdjustStockRequest, AdjustStockResponse, BatchGetReservationsRequest,
    BatchGetReservationsResponse, CheckAvailabilityRequest, CheckAvailabilityResponse,
    CreateProductRequest, CreateProductResponse, GetProductRequest, GetProductResponse,
    ListProductsRequest, ListProductsResponse, UpdateProductRequest, UpdateProductResponse,
    product_service_server::ProductService,
};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    SERVICE, domain,
    error::Error,
    lines::{Line, Lines},
    product::Product,
    store,
    validate::{self, Page},
    wire,
};

/// Who calls, as long as nobody has to say.
const NOBODY: &str = "";

/// Answers `shop.products.v1.ProductService`.
#[derive(Clone, Debug)]
pub struct Api {
    pool: PgPool,
    doorbell: Doorbell,
}

#[tonic::async_trait]
impl ProductService for Api {
    async fn create_product(
        &self,
        request: Request<CreateProductRequest>,
    ) -> Result<Response<CreateProductResponse>, Status> {
        let cause = call::cause(SERVICE, "CreateProduct", &request);
        let mut request = request.into_inner();
        let product = validate::create(&request, cause.now)?;
        let request_id = std::mem::take(&mut request.request_id);
        let claim = Claim::new(NOBODY, &request_id, "CreateProduct", &request, &product.product_id);
        let product = self.create(&cause, claim, product).await?;
        Ok(Response::new(CreateProductResponse { product: Some(wire::product(product)) }))
    }

    async fn update_product(
        &self,
        request: Request<UpdateProductRequest>,
    ) -> Result<Response<UpdateProductResponse>, Status> {
        let cause = call::cause(SERVICE, "UpdateProduct", &request);
        let mut request = request.into_inner();
        let update = validate::update(&request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let claim = Claim::new(NOBODY, &request_id, "UpdateProduct", &request, &request.product_id);
        let product = self
            .change(&cause, claim, &request.product_id, |product| {
                if !request.etag.is_empty() && request.etag != product.etag() {
                    return Err(Error::StaleEtag(product.product_id.clone()));
                }
                Ok(product.updated(update, cause.now)?)
            })
            .await?;
        Ok(Response::new(UpdateProductResponse { product: Some(wire::product(product)) }))
    }

    async fn adjust_stock(
        &self,
        request: Request<AdjustStockRequest>,
    ) -> Result<Response<AdjustStockResponse>, Status> {
        let cause = call::cause(SERVICE, "AdjustStock", &request);
        let mut request = request.into_inner();
        let delta = validate::adjust(&request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let claim = Claim::new(NOBODY, &request_id, "AdjustStock", &request, &request.product_id);
        let product = self
            .change(&cause, claim, &request.product_id, |product| {
                Ok(product.restocked(delta, cause.now)?)
            })
            .await?;
        Ok(Response::new(AdjustStockResponse { product: Some(wire::product(product)) }))
    }

    async fn get_product(
        &self,
        request: Request<GetProductRequest>,
    ) -> Result<Response<GetProductResponse>, Status> {
        let request = request.into_inner();
        let product_id = validate::product_id(&request.product_id)?;
        let product = self.get(product_id).await?;
        Ok(Response::new(GetProductResponse { product: Some(wire::product(product)) }))
    }

    async fn list_products(
        &self,
        request: Request<ListProductsRequest>,
    ) -> Result<Response<ListProductsResponse>, Status> {
        let page = validate::page(&request.into_inner())?;
        Ok(Response::new(self.list(&page).await?))
    }

    async fn check_availability(
        &self,
        request: Request<CheckAvailabilityRequest>,
    ) -> Result<Response<CheckAvailabilityResponse>, Status> {
        let lines = validate::lines(&request.into_inner())?;
        Ok(Response::new(self.check(&lines).await?))
    }

    async fn batch_get_reservations(
        &self,
        request: Request<BatchGetReservationsRequest>,
    ) -> Result<Response<BatchGetReservationsResponse>, Status> {
        let orders = validate::orders(&request.into_inner())?;
        Ok(Response::new(self.reservations(&orders).await?))
    }
}

impl Api {
    /// On this service's database.
    pub fn new(pool: PgPool, doorbell: Doorbell) -> Self {
        Self { pool, doorbell }
    }

    async fn create(
        &self,
        cause: &Cause,
        claim: Option<Claim>,
        product: Product,
    ) -> Result<Product, Error> {
        let mut tx = self.pool.begin().await?;
        if let Some(product_id) = done_before(&mut tx, claim.as_ref()).await? {
            return find(&mut tx, &product_id).await;
        }
        if !store::insert_product(&mut tx, &product).await? {
            return Err(Error::Exists(product.product_id));
        }
        self.commit(tx, cause, &product).await?;
        Ok(product)
    }

    async fn change(
        &self,
        cause: &Cause,
        claim: Option<Claim>,
        product_id: &str,
        decide: impl FnOnce(&Product) -> Result<Product, Error> + Send,
    ) -> Result<Product, Error> {
        let mut tx = self.pool.begin().await?;
        if let Some(product_id) = done_before(&mut tx, claim.as_ref()).await? {
            return find(&mut tx, &product_id).await;
        }
        let mut shelf = store::lock_products(&mut tx, &[product_id]).await?;
        let product =
            shelf.remove(product_id).ok_or_else(|| Error::NotFound(product_id.to_owned()))?;
        let changed = decide(&product)?;
        store::update_products(&mut tx, &[(&changed, product.version)]).await?;
        self.commit(tx, cause, &changed).await?;
        Ok(changed)
    }

    /// Tells of the change, notes the call, commits, and rings.
    async fn commit(
        &self,
        mut tx: Transaction<'_, Postgres>,
        cause: &Cause,
        product: &Product,
    ) -> Result<(), Error> {
        let events = [cause.emit(&wire::product_changed(product, None))?];
        outbox::append(&mut tx, &events).await?;
        let entry = Entry::local(Kind::Call, cause, Outcome::Applied, &events);
        trail::note(&mut tx, &[entry]).await?;
        tx.commit().await?;
        self.doorbell.ring();
        Ok(())
    }

    async fn get(&self, product_id: &str) -> Result<Product, Error> {
        let mut conn = self.pool.acquire().await?;
        find(&mut conn, product_id).await
    }

    async fn list(&self, page: &Page) -> Result<ListProductsResponse, Error> {
        let mut conn = self.pool.acquire().await?;
        // One more than asked for tells whether there is a next page.
        let mut products = store::products_after(&mut conn, &page.after, page.size + 1).await?;
        let mut next_page_token = String::new();
        if products.len() as i64 > page.size {
            products.pop();
            let last = products.last().map(|product| product.product_id.as_str());
            next_page_token = page_token::write(&validate::question(), last)?;
        }
        let products = products.into_iter().map(wire::product).collect();
        Ok(ListProductsResponse { products, next_page_token })
    }

    async fn check(&self, lines: &Lines) -> Result<CheckAvailabilityResponse, Error> {
        let asked: Vec<&str> = lines.iter().map(Line::product_id).collect();
        let mut conn = self.pool.acquire().await?;
        let shelf = store::products(&mut conn, &asked).await?;
        let shortages: Vec<_> =
            domain::shortages(lines, &shelf).iter().map(wire::shortage).collect();
        Ok(CheckAvailabilityResponse {
            available: shortages.is_empty(),
            shortages,
            products: shelf.into_values().map(wire::product).collect(),
        })
    }

    async fn reservations(&self, orders: &[Uuid]) -> Result<BatchGetReservationsResponse, Error> {
        let mut conn = self.pool.acquire().await?;
        let rows = store::reservations(&mut conn, orders).await?;
        let reservations =
            rows.iter().map(|(order_id, row)| wire::reservation(*order_id, &row.reservation));
        Ok(BatchGetReservationsResponse { reservations: reservations.collect() })
    }
}

/// The product that this request made or changed when it came before; none when it is new.
async fn done_before(
    conn: &mut PgConnection,
    claim: Option<&Claim>,
) -> Result<Option<String>, Error> {
    match idempotency::claim(conn, claim).await? {
        Claimed::Fresh => Ok(None),
        Claimed::Repeat(product_id) => Ok(Some(product_id)),
        Claimed::Reused => Err(Error::RequestIdReused),
    }
}

async fn find(conn: &mut PgConnection, product_id: &str) -> Result<Product, Error> {
    let mut shelf = store::products(conn, &[product_id]).await?;
    shelf.remove(product_id).ok_or_else(|| Error::NotFound(product_id.to_owned()))
}
