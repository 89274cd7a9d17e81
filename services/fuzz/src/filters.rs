//! The conditions of lists: what passes says what was asked for, a page follows with the token of its own question, and no
//! other question takes that token. An input is the list, the seconds of the time in eight bytes, and the request.

use chassis::{page_token, wire};
use chrono::{DateTime, Utc};
use prost::Message;
use proto::{
    delivery::v1::ListDeliveriesRequest, orchestrator::v1::ListSagasRequest,
    orders::v1::ListOrdersRequest,
};
use uuid::Uuid;

use crate::requests::says_what_is_wrong;

/// After this one.
const POSITION: Uuid = Uuid::from_u128(0x0198_c0de_7a3f_7000_8000_0000_0000_0001);

/// What must hold.
pub fn check(input: &[u8]) {
    let Some((&list, rest)) = input.split_first() else { return };
    let Some((seconds, request)) = rest.split_first_chunk() else { return };
    let Some(now) = DateTime::from_timestamp(i64::from_be_bytes(*seconds), 0) else { return };
    match list {
        0 => decoded(request, |request| orders(request, now)),
        1 => decoded(request, |request| sagas(request, now)),
        2 => decoded(request, deliveries),
        _ => {}
    }
}

fn decoded<R: Message + Default>(bytes: &[u8], check: impl FnOnce(&R)) {
    if let Ok(request) = R::decode(bytes) {
        check(&request);
    }
}

fn orders(request: &ListOrdersRequest, now: DateTime<Utc>) {
    let (mut filter, size) = match orders::filter::check(request, now) {
        Ok(checked) => checked,
        Err(refusal) => return says_what_is_wrong("ListOrders", &refusal),
    };
    assert!((1..=1000).contains(&size), "a page of {size}");
    assert_eq!(filter.created_from.map(wire::timestamp), request.create_time_from);
    assert_eq!(filter.created_before.map(wire::timestamp), request.create_time_before);
    assert_eq!(filter.customer_id.as_deref().unwrap_or_default(), request.customer_id);
    assert_eq!(filter.pending_since.is_some(), request.pending_for.is_some());
    assert!(filter.pending_since.is_none_or(|since| since <= now), "pending since the future");

    let page_token = token(&orders::filter::question(request));
    let next = ListOrdersRequest { page_size: 7, page_token, ..request.clone() };
    filter.after = Some(POSITION);
    let followed = orders::filter::check(&next, now).map(|(next, _)| format!("{next:?}"));
    assert_eq!(followed.ok(), Some(format!("{filter:?}")), "{request:?}");
    let other = ListOrdersRequest { customer_id: format!("{}x", next.customer_id), ..next };
    assert!(orders::filter::check(&other, now).is_err(), "{other:?}");
}

fn sagas(request: &ListSagasRequest, now: DateTime<Utc>) {
    let (mut filter, size) = match orchestrator::filter::check(request, now) {
        Ok(checked) => checked,
        Err(refusal) => return says_what_is_wrong("ListSagas", &refusal),
    };
    assert!((1..=1000).contains(&size), "a page of {size}");
    assert_eq!(filter.state.as_deref().unwrap_or_default(), request.state);
    assert_eq!(filter.saga_id, Uuid::try_parse(&request.order_id).ok());
    assert_eq!(filter.begun_before.is_some(), request.older_than.is_some());
    assert!(filter.begun_before.is_none_or(|before| before <= now), "begun in the future");

    let page_token = token(&orchestrator::filter::question(request));
    let next = ListSagasRequest { page_size: 7, page_token, ..request.clone() };
    filter.after = Some(POSITION);
    let followed = orchestrator::filter::check(&next, now).map(|(next, _)| format!("{next:?}"));
    assert_eq!(followed.ok(), Some(format!("{filter:?}")), "{request:?}");
    let other = ListSagasRequest { parked: !next.parked, ..next };
    assert!(orchestrator::filter::check(&other, now).is_err(), "{other:?}");
}

fn deliveries(request: &ListDeliveriesRequest) {
    let page = match delivery::validate::page(request) {
        Ok(page) => page,
        Err(refusal) => return says_what_is_wrong("ListDeliveries", &refusal),
    };
    assert!((1..=1000).contains(&page.size), "a page of {}", page.size);
    assert_eq!(page.state.is_some(), request.state != 0, "{request:?}");

    let position = (DateTime::<Utc>::UNIX_EPOCH, POSITION);
    let page_token = page_token::write(&page.question, (0_i64, POSITION)).unwrap_or_default();
    let next = ListDeliveriesRequest { page_token, ..request.clone() };
    let followed = delivery::validate::page(&next).ok().and_then(|next| next.before);
    assert_eq!(followed, Some(position), "{request:?}");
    let other = ListDeliveriesRequest { state: (request.state + 1) % 7, ..next };
    assert!(delivery::validate::page(&other).is_err(), "{other:?}");
}

fn token(question: &impl Message) -> String {
    page_token::write(question, POSITION).unwrap_or_default()
}
