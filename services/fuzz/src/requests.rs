//! Requests, as their bytes come off the wire: none makes its check panic, one that is refused is told which field is wrong,
//! and what passes can be worked with. The first byte of an input chooses the method.

use chassis::{
    cause::{Cause, Coordination},
    operations,
    telemetry::TraceContext,
};
use chrono::DateTime;
use prost::Message;
use proto::{
    delivery::v1::{CompleteDeliveryRequest, DispatchDeliveryRequest},
    money::Money,
    operations::v1::{
        GetLagRequest, ListParkedRequest, ListSwitchesRequest, RetryParkedRequest,
        SetSwitchRequest, SkipParkedRequest,
    },
    orchestrator::v1::{
        Act, ForceCompensateRequest, ListSagasRequest, MarkResolvedRequest, RetryStepRequest,
        SkipStepRequest, UnparkRequest,
    },
    orders::v1::{ListOrdersRequest, PlaceOrderRequest},
    products::v1::{CreateProductRequest, GetProductRequest},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

type Checked = Result<(), Status>;

/// A method: its name, and what the service that answers it asks of a request.
pub type Method = (&'static str, fn(&[u8]) -> Checked);

/// Every method. New ones go to the end: an input names its method by the position here.
pub const METHODS: [Method; 34] = [
    ("PlaceOrder", |bytes| decoded(bytes, place_order)),
    ("CancelOrder", |bytes| decoded(bytes, orders::validate::cancel)),
    ("GetOrder", |bytes| decoded(bytes, orders::validate::get)),
    ("ListOrders", |bytes| decoded(bytes, list_orders)),
    ("WatchOrder", |bytes| decoded(bytes, orders::validate::watch)),
    ("ListProductReplicas", |bytes| decoded(bytes, orders::validate::replicas)),
    ("CreateProduct", |bytes| decoded(bytes, create_product)),
    ("UpdateProduct", |bytes| decoded(bytes, products::validate::update)),
    ("AdjustStock", |bytes| decoded(bytes, products::validate::adjust)),
    ("GetProduct", |bytes| decoded(bytes, get_product)),
    ("ListProducts", |bytes| decoded(bytes, products::validate::page)),
    ("CheckAvailability", |bytes| decoded(bytes, products::validate::lines)),
    ("GetDelivery", |bytes| decoded(bytes, delivery::validate::get)),
    ("ListDeliveries", |bytes| decoded(bytes, delivery::validate::page)),
    ("DispatchDelivery", |bytes| decoded(bytes, dispatch_delivery)),
    ("CompleteDelivery", |bytes| decoded(bytes, complete_delivery)),
    ("FailDelivery", |bytes| decoded(bytes, delivery::validate::fail)),
    ("GetSaga", |bytes| decoded(bytes, orchestrator::validate::get)),
    ("ListSagas", |bytes| decoded(bytes, list_sagas)),
    ("WatchSaga", |bytes| decoded(bytes, orchestrator::validate::watch)),
    ("RetryStep", |bytes| decoded(bytes, |it: &RetryStepRequest| verb(&it.saga_id, &it.act))),
    ("SkipStep", |bytes| decoded(bytes, |it: &SkipStepRequest| verb(&it.saga_id, &it.act))),
    ("ForceCompensate", |bytes| {
        decoded(bytes, |it: &ForceCompensateRequest| verb(&it.saga_id, &it.act))
    }),
    ("MarkResolved", |bytes| decoded(bytes, |it: &MarkResolvedRequest| verb(&it.saga_id, &it.act))),
    ("Unpark", |bytes| decoded(bytes, |it: &UnparkRequest| verb(&it.saga_id, &it.act))),
    ("GetTrail", |bytes| decoded(bytes, operations::validate::trail)),
    ("ListParked", |bytes| decoded(bytes, list_parked)),
    ("RetryParked", |bytes| decoded(bytes, retry_parked)),
    ("SkipParked", |bytes| decoded(bytes, skip_parked)),
    ("GetLag", |bytes| decoded::<GetLagRequest, _, _>(bytes, |_| nothing_to_check())),
    ("SetSwitch", |bytes| decoded::<SetSwitchRequest, _, _>(bytes, |_| nothing_to_check())),
    ("ListSwitches", |bytes| decoded::<ListSwitchesRequest, _, _>(bytes, |_| nothing_to_check())),
    ("BatchGetReservations", |bytes| decoded(bytes, products::validate::orders)),
    ("BatchGetDeliveries", |bytes| decoded(bytes, delivery::validate::batch)),
];

/// What must hold.
pub fn check(input: &[u8]) {
    if let Some((method, Err(refusal))) = answer(input) {
        says_what_is_wrong(method, &refusal);
    }
}

/// The method that an input is for, and what its check says. None when there is no such method.
pub fn answer(input: &[u8]) -> Option<(&'static str, Checked)> {
    let (&method, request) = input.split_first()?;
    let (name, check) = METHODS.get(usize::from(method))?;
    Some((name, check(request)))
}

/// A refusal of what was asked names every field that is wrong, and why.
pub(crate) fn says_what_is_wrong(method: &str, refusal: &Status) {
    assert_eq!(refusal.code(), Code::InvalidArgument, "{method}: {refusal}");
    let named = refusal.get_details_bad_request().map(|it| it.field_violations);
    let named = named.unwrap_or_default();
    assert!(!named.is_empty(), "{method} names no field: {refusal}");
    for violation in named {
        let said = !violation.field.is_empty() && !violation.description.is_empty();
        assert!(said, "{method} names nothing: {refusal}");
    }
}

/// What is no message at all never reaches a service.
fn decoded<R: Message + Default, T, E: Into<Status>>(
    bytes: &[u8],
    check: impl FnOnce(&R) -> Result<T, E>,
) -> Checked {
    match R::decode(bytes) {
        Ok(request) => check(&request).map(|_| ()).map_err(Into::into),
        Err(_) => Ok(()),
    }
}

fn nothing_to_check() -> Checked {
    Ok(())
}

/// An order that passes is priced, whatever the catalogue says, or refused in the same way.
fn place_order(request: &PlaceOrderRequest) -> Checked {
    let day = std::time::Duration::from_secs(86_400);
    let cause = cause("orders", "PlaceOrder");
    let placement = orders::placement::Placement::check(
        request.clone(),
        cause,
        Coordination::Choreography,
        day,
    )?;
    for units in [i64::MAX, 1] {
        let catalogue = placement.wanted.iter().map(|(product_id, _)| priced(product_id, units));
        let catalogue = catalogue.collect::<Option<Vec<_>>>().unwrap_or_default();
        match placement.price(&catalogue) {
            Ok(order) => can_be_told(&orders::wire::order(&order)),
            Err(refused) => says_what_is_wrong("PlaceOrder", &refused.into()),
        }
    }
    Ok(())
}

fn priced(product_id: &str, units: i64) -> Option<orders::catalogue::Product> {
    Some(orders::catalogue::Product {
        product_id: product_id.to_owned(),
        name: product_id.to_owned(),
        price: Money::new("KRW", units, 999_999_999).ok()?,
        stock: 1,
        version: 1,
        updated_at: DateTime::UNIX_EPOCH,
    })
}

/// A product that passes can be told to whoever keeps a copy.
fn create_product(request: &CreateProductRequest) -> Checked {
    let product = products::validate::create(request, DateTime::UNIX_EPOCH)?;
    can_be_told(&products::wire::product_changed(&product, None));
    Ok(())
}

fn list_orders(request: &ListOrdersRequest) -> Checked {
    orders::filter::check(request, DateTime::UNIX_EPOCH).map(|_| ())
}

fn list_sagas(request: &ListSagasRequest) -> Checked {
    orchestrator::filter::check(request, DateTime::UNIX_EPOCH).map(|_| ())
}

fn get_product(request: &GetProductRequest) -> Checked {
    Ok(products::validate::product_id(&request.product_id).map(can_be_kept)?)
}

fn dispatch_delivery(request: &DispatchDeliveryRequest) -> Checked {
    delivery::validate::act(&request.order_id, &request.request_id).map(|_| ())
}

fn complete_delivery(request: &CompleteDeliveryRequest) -> Checked {
    delivery::validate::act(&request.order_id, &request.request_id).map(|_| ())
}

fn list_parked(request: &ListParkedRequest) -> Checked {
    let page = operations::validate::page(request)?;
    can_be_kept(&page.question.key);
    Ok(())
}

fn retry_parked(request: &RetryParkedRequest) -> Checked {
    operations::validate::retry(request).map(can_be_kept)
}

fn skip_parked(request: &SkipParkedRequest) -> Checked {
    operations::validate::skip(request).map(can_be_kept)
}

fn verb(saga_id: &str, act: &Option<Act>) -> Checked {
    let cause = cause(orchestrator::NAME, "Verb");
    orchestrator::validate::Verb::check(saga_id, act.clone(), cause).map(|_| ())
}

fn cause(service: &'static str, method: &str) -> Cause {
    Cause::local(service, method, Uuid::nil(), TraceContext::default(), DateTime::UNIX_EPOCH)
}

fn can_be_told(message: &impl serde::Serialize) {
    let told = serde_json::to_string(message);
    assert!(told.is_ok(), "{told:?}");
}

/// Postgres has no text with a NUL in it.
fn can_be_kept(text: &str) {
    assert!(!text.contains('\0'), "{text:?} is not to be compared with what the database has");
}
