//! What each call answers, what it refuses and with which details, and that a refusal writes nothing.

use std::time::Duration;

use chassis::doorbell::Doorbell;
use products::api::Api;
use proto::{
    google::r#type::Money,
    products::v1::{
        AdjustStockRequest, CheckAvailabilityRequest, CreateProductRequest, GetProductRequest,
        ListProductsRequest, Product, ProductOption, ProductOptions, StockLine,
        UpdateProductRequest, product_service_server::ProductService,
    },
};
use serde_json::json;
use sqlx::postgres::PgListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::shop::Shop;

pub(crate) fn krw(units: i64) -> Option<Money> {
    Some(Money { currency_code: "KRW".to_owned(), units, nanos: 0 })
}

pub(crate) fn tv() -> CreateProductRequest {
    CreateProductRequest {
        request_id: String::new(),
        product_id: "tv".to_owned(),
        name: "TV".to_owned(),
        price: krw(10_000),
        stock: 10,
        image_url: "/images/tv.png".to_owned(),
        options: vec![option("size", "55 inches")],
    }
}

fn option(name: &str, description: &str) -> ProductOption {
    ProductOption { name: name.to_owned(), description: description.to_owned() }
}

pub(crate) async fn create(api: &Api, request: CreateProductRequest) -> Result<Product, Status> {
    let answer = api.create_product(Request::new(request)).await?;
    Ok(answer.into_inner().product.unwrap())
}

pub(crate) async fn update(api: &Api, request: UpdateProductRequest) -> Result<Product, Status> {
    let answer = api.update_product(Request::new(request)).await?;
    Ok(answer.into_inner().product.unwrap())
}

pub(crate) async fn adjust(api: &Api, request: AdjustStockRequest) -> Result<Product, Status> {
    let answer = api.adjust_stock(Request::new(request)).await?;
    Ok(answer.into_inner().product.unwrap())
}

async fn get(api: &Api, product_id: &str) -> Result<Product, Status> {
    let request = GetProductRequest { product_id: product_id.to_owned() };
    let answer = api.get_product(Request::new(request)).await?;
    Ok(answer.into_inner().product.unwrap())
}

pub(crate) fn delta(product_id: &str, delta: i64) -> AdjustStockRequest {
    let product_id = product_id.to_owned();
    AdjustStockRequest { request_id: String::new(), product_id, delta }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

/// The fields that a request is told are wrong.
#[track_caller]
pub(crate) fn violated(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

/// How much is written in all the tables.
async fn written(shop: &Shop) -> Vec<i64> {
    sqlx::query_scalar(
        "select count(*) from products
         union all select count(*) from messaging.outbox
         union all select count(*) from messaging.trail
         union all select count(*) from messaging.requests",
    )
    .fetch_all(shop.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn a_created_product_is_told_noted_and_read_back() {
    let shop = Shop::open(&[]).await;
    let created = create(&shop.api, tv()).await.unwrap();
    assert_eq!((created.product_id.as_str(), created.stock, created.version), ("tv", 10, 1));
    assert_eq!(created.options, vec![option("size", "55 inches")]);
    assert!(created.create_time.is_some() && created.create_time == created.update_time);
    assert_eq!(get(&shop.api, "tv").await.unwrap(), created);

    let told = shop.told().await;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].0.as_str(), told[0].1.as_str()), ("shop.products.v1.ProductChanged", "tv"));
    let changed = json!({
        "productId": "tv", "productName": "TV", "productPrice": {"currencyCode": "KRW", "units": "10000"},
        "productStock": "10", "imageUrl": "/images/tv.png", "version": "1",
    });
    assert_eq!(told[0].2, changed);
    let noted: (String, String, String, String) = sqlx::query_as(
        "select kind, consumer, event_id::text, emitted -> 0 ->> 'type'
         from messaging.trail",
    )
    .fetch_one(shop.pool())
    .await
    .unwrap();
    let (kind, method, call, emitted) = noted;
    assert_eq!((kind.as_str(), method.as_str()), ("call", "CreateProduct"));
    assert_eq!(Some(call), told[0].3, "the call is the cause of its event");
    assert_eq!(emitted, "shop.products.v1.ProductChanged");
}

#[tokio::test]
async fn a_change_rings_for_the_relay_when_it_is_committed() {
    let shop = Shop::open(&[("tv", 10)]).await;
    let mut relay = PgListener::connect_with(shop.pool()).await.unwrap();
    relay.listen(chassis::doorbell::CHANNEL).await.unwrap();
    let (doorbell, shutdown) = (Doorbell::default(), CancellationToken::new());
    let mut carrier = JoinSet::new();
    carrier.spawn(doorbell.clone().carry(shop.database.options.clone(), shutdown.clone()));
    let api = Api::new(shop.pool().clone(), doorbell);
    adjust(&api, delta("tv", 1)).await.unwrap();
    let rung = tokio::time::timeout(Duration::from_secs(20), relay.recv()).await;
    rung.expect("it rings").unwrap();
    shutdown.cancel();
    carrier.join_all().await;
}

#[tokio::test]
async fn a_product_without_an_id_gets_one() {
    let shop = Shop::open(&[]).await;
    let anonymous = CreateProductRequest { product_id: String::new(), ..tv() };
    let first = create(&shop.api, anonymous.clone()).await.unwrap();
    let second = create(&shop.api, anonymous).await.unwrap();
    assert_ne!(first.product_id, second.product_id);
    assert_eq!(first.product_id.parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
}

#[tokio::test]
async fn a_product_is_not_created_over_another() {
    let shop = Shop::open(&[("tv", 3)]).await;
    let before = written(&shop).await;
    let status = create(&shop.api, tv()).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(reason(&status), "PRODUCT_EXISTS");
    assert_eq!(written(&shop).await, before);
    assert_eq!(shop.stock("tv").await, 3);
}

#[tokio::test]
async fn everything_wrong_with_a_new_product_is_named_at_once() {
    let shop = Shop::open(&[]).await;
    let wrong = CreateProductRequest {
        request_id: "with space".to_owned(),
        product_id: "TV!".to_owned(),
        name: String::new(),
        price: krw(-1),
        stock: -1,
        image_url: "x".repeat(2001),
        options: vec![option("", &"x".repeat(2001)), option("nul\0", "")],
    };
    let status = create(&shop.api, wrong).await.unwrap_err();
    let all = [
        "request_id",
        "product_id",
        "name",
        "price",
        "stock",
        "image_url",
        "options[0].name",
        "options[0].description",
        "options[1].name",
    ];
    assert_eq!(violated(&status), all);
    let wrong = CreateProductRequest {
        price: None,
        stock: 1_000_000_001,
        options: vec![option("size", ""); 51],
        ..tv()
    };
    let status = create(&shop.api, wrong).await.unwrap_err();
    assert_eq!(violated(&status), ["price", "stock", "options"]);
    assert_eq!(written(&shop).await, [0, 0, 0, 0]);
}

#[tokio::test]
async fn an_update_changes_what_is_given_and_nothing_else() {
    let shop = Shop::open(&[]).await;
    let created = create(&shop.api, tv()).await.unwrap();
    let change = UpdateProductRequest {
        product_id: "tv".to_owned(),
        etag: created.etag.clone(),
        price: krw(12_000),
        ..UpdateProductRequest::default()
    };
    let changed = update(&shop.api, change).await.unwrap();
    assert_eq!((changed.price.clone(), changed.version), (krw(12_000), 2));
    assert_ne!(changed.etag, created.etag);
    assert_eq!((changed.name.as_str(), &changed.options), ("TV", &created.options));
    let change = UpdateProductRequest {
        product_id: "tv".to_owned(),
        name: Some("Television".to_owned()),
        image_url: Some(String::new()),
        options: Some(ProductOptions::default()),
        ..UpdateProductRequest::default()
    };
    let changed = update(&shop.api, change).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.image_url.as_str()), ("Television", ""));
    assert_eq!((changed.options.len(), changed.stock, changed.version), (0, 10, 3));
    assert_eq!(get(&shop.api, "tv").await.unwrap(), changed);
    let told = shop.told().await;
    assert_eq!(told[2].2["productName"], "Television");
    assert_eq!(told[2].2["version"], "3");
}

#[tokio::test]
async fn an_update_that_cannot_be_is_refused_and_writes_nothing() {
    let shop = Shop::open(&[("tv", 10)]).await;
    let seen = get(&shop.api, "tv").await.unwrap();
    adjust(&shop.api, delta("tv", 1)).await.unwrap();
    let before = (written(&shop).await, shop.tables().await);
    let valid = UpdateProductRequest {
        product_id: "tv".to_owned(),
        name: Some("New".to_owned()),
        ..UpdateProductRequest::default()
    };

    let stale = UpdateProductRequest { etag: seen.etag, ..valid.clone() };
    let status = update(&shop.api, stale).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "STALE_ETAG"));
    let unknown = UpdateProductRequest { product_id: "unheard-of".to_owned(), ..valid };
    let status = update(&shop.api, unknown).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "PRODUCT_NOT_FOUND"));
    let nothing =
        UpdateProductRequest { product_id: "tv".to_owned(), ..UpdateProductRequest::default() };
    assert_eq!(violated(&update(&shop.api, nothing).await.unwrap_err()), ["name"]);
    let wrong = UpdateProductRequest {
        request_id: "é".to_owned(),
        product_id: String::new(),
        etag: String::new(),
        name: Some(String::new()),
        price: Some(Money { currency_code: "won".to_owned(), units: 1, nanos: 0 }),
        image_url: Some("\n".to_owned()),
        options: Some(ProductOptions { options: vec![option("", "")] }),
    };
    let all = ["request_id", "product_id", "name", "price", "image_url", "options.options[0].name"];
    assert_eq!(violated(&update(&shop.api, wrong).await.unwrap_err()), all);
    assert_eq!((written(&shop).await, shop.tables().await), before);
}

#[tokio::test]
async fn stock_is_added_and_taken_but_not_below_zero() {
    let shop = Shop::open(&[("tv", 10)]).await;
    assert_eq!(adjust(&shop.api, delta("tv", 5)).await.unwrap().stock, 15);
    assert_eq!(adjust(&shop.api, delta("tv", -15)).await.unwrap().stock, 0);
    let before = (written(&shop).await, shop.tables().await);

    let status = adjust(&shop.api, delta("tv", -1)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(reason(&status), "INSUFFICIENT_STOCK");
    let failures = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(failures[0].subject, "tv");
    let status = adjust(&shop.api, delta("unheard-of", 1)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "PRODUCT_NOT_FOUND"));
    for wrong in [0, i64::MIN, i64::MAX] {
        assert_eq!(violated(&adjust(&shop.api, delta("tv", wrong)).await.unwrap_err()), ["delta"]);
    }
    let status = adjust(&shop.api, delta("", 0)).await.unwrap_err();
    assert_eq!(violated(&status), ["product_id", "delta"]);
    assert_eq!((written(&shop).await, shop.tables().await), before);
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_and_a_bad_id_is_said_to_be_bad() {
    let shop = Shop::open(&[]).await;
    let status = get(&shop.api, "unheard-of").await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "PRODUCT_NOT_FOUND"));
    assert_eq!(violated(&get(&shop.api, "nul\0").await.unwrap_err()), ["product_id"]);
}

#[tokio::test]
async fn the_catalogue_is_paged_by_id() {
    let ids = ["a", "a-b", "aa", "b", "clock"];
    let shop = Shop::open(&ids.map(|id| (id, 1))).await;
    let mut request = ListProductsRequest { page_size: 2, page_token: String::new() };
    let mut pages = Vec::new();
    loop {
        let answer = shop.api.list_products(Request::new(request.clone())).await.unwrap();
        let answer = answer.into_inner();
        pages.push(answer.products.into_iter().map(|it| it.product_id).collect::<Vec<_>>());
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, [vec!["a", "a-b"], vec!["aa", "b"], vec!["clock"]]);
    let all = ListProductsRequest { page_size: 5, page_token: String::new() };
    let answer = shop.api.list_products(Request::new(all)).await.unwrap().into_inner();
    assert_eq!((answer.products.len(), answer.next_page_token.as_str()), (5, ""));
    let wrong = ListProductsRequest { page_size: -1, page_token: "tv".to_owned() };
    let status = shop.api.list_products(Request::new(wrong)).await.unwrap_err();
    assert_eq!(violated(&status), ["page_size", "page_token"]);
}

fn asks(lines: &[(&str, i32)]) -> Request<CheckAvailabilityRequest> {
    let line = |(product_id, quantity): &(&str, i32)| StockLine {
        product_id: (*product_id).to_owned(),
        quantity: *quantity,
    };
    Request::new(CheckAvailabilityRequest { lines: lines.iter().map(line).collect() })
}

#[tokio::test]
async fn availability_is_answered_with_every_shortage_and_the_products() {
    let shop = Shop::open(&[("tv", 10), ("clock", 2)]).await;
    let check = |lines: &[(&str, i32)]| shop.api.check_availability(asks(lines));
    let answer = check(&[("tv", 10)]).await.unwrap().into_inner();
    assert!(answer.available && answer.shortages.is_empty());
    assert_eq!((answer.products[0].name.as_str(), &answer.products[0].price), ("TV", &krw(10_000)));
    let answer = check(&[("tv", 11), ("clock", 2), ("unheard-of", 1)]).await.unwrap().into_inner();
    assert!(!answer.available);
    let short: Vec<_> = answer
        .shortages
        .iter()
        .map(|it| (it.product_id.as_str(), it.requested, it.available))
        .collect();
    assert_eq!(short, [("tv", 11, 10), ("unheard-of", 1, 0)]);
    let known: Vec<_> = answer.products.iter().map(|it| it.product_id.as_str()).collect();
    assert_eq!(known, ["clock", "tv"]);
}

#[tokio::test]
async fn every_bad_line_is_named() {
    let shop = Shop::open(&[]).await;
    let check = |lines: &[(&str, i32)]| shop.api.check_availability(asks(lines));
    assert_eq!(violated(&check(&[]).await.unwrap_err()), ["lines"]);
    let status = check(&[("tv", 0), ("TV", 1), ("tv", 1_000_001)]).await.unwrap_err();
    let all =
        ["lines[0].quantity", "lines[1].product_id", "lines[2].product_id", "lines[2].quantity"];
    assert_eq!(violated(&status), all);
    let status = check(&[("tv", 1); 101]).await.unwrap_err();
    assert_eq!(violated(&status).len(), 101);
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_and_nothing_of_it_leaks() {
    let shop = Shop::open(&[]).await;
    let closed = shop.pool().clone();
    closed.close().await;
    let api = Api::new(closed, Doorbell::default());
    let status = get(&api, "tv").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason(&status), "DATABASE_UNAVAILABLE");
    assert!(status.get_details_retry_info().is_some());
}
