//! Payloads of events and commands: what is decoded once is decoded to the same again, however it is written, and every
//! service decides it without a panic, does not apply it twice, and tells of it in a way that the others understand.
//! The first byte of an input is the type, the second says how it is written and who coordinates its order.

use std::fmt::Debug;

use chassis::{
    envelope::ContentType,
    inbox::{Inbox, Record},
    outbox::Outgoing,
    policy::{Book, Refused, decode},
    switches::Switch,
    trail::Outcome,
};
use chrono::DateTime;
use delivery::domain::Carriers;
use orchestrator::patience::Patience;
use proto::{
    delivery::v1::{
        CancelDelivery, DeliveryCancelRefused, DeliveryCancelled, DeliveryCompleted,
        DeliveryDispatched, DeliveryFailed, DeliveryReady, DeliveryStarted, ReadyDelivery,
        StartDelivery,
    },
    event::Event,
    orders::v1::{
        CancelOrder, CompleteOrder, ConfirmOrder, OrderCancelRefused, OrderCancelRequested,
        OrderCancelled, OrderCompleted, OrderConfirmed, OrderPlaced, RefuseCancel,
    },
    products::v1::{
        ProductChanged, ProductOutOfStock, ReleaseStock, ReserveStock, StockReleased, StockReserved,
    },
};

use crate::headers;

/// A type: its full name, and what must hold for a payload of it.
pub type Kind = (fn() -> String, fn(ContentType, &[u8]) -> Result<(), Refused>);

/// Every event and command. New ones go to the end: an input names its type by the position here.
pub const KINDS: [Kind; 26] = [
    kind::<OrderPlaced>(),
    kind::<OrderConfirmed>(),
    kind::<OrderCancelRequested>(),
    kind::<OrderCancelRefused>(),
    kind::<OrderCancelled>(),
    kind::<OrderCompleted>(),
    kind::<StockReserved>(),
    kind::<ProductOutOfStock>(),
    kind::<StockReleased>(),
    kind::<ProductChanged>(),
    kind::<DeliveryStarted>(),
    kind::<DeliveryReady>(),
    kind::<DeliveryDispatched>(),
    kind::<DeliveryCompleted>(),
    kind::<DeliveryCancelled>(),
    kind::<DeliveryCancelRefused>(),
    kind::<DeliveryFailed>(),
    kind::<ConfirmOrder>(),
    kind::<CancelOrder>(),
    kind::<RefuseCancel>(),
    kind::<CompleteOrder>(),
    kind::<ReserveStock>(),
    kind::<ReleaseStock>(),
    kind::<StartDelivery>(),
    kind::<ReadyDelivery>(),
    kind::<CancelDelivery>(),
];

/// Set in the second byte: binary protobuf, not JSON.
pub const PROTOBUF: u8 = 1;
/// Set in the second byte: the order is driven by commands.
pub const ORCHESTRATED: u8 = 2;

/// What must hold.
pub fn check(input: &[u8]) {
    let Some((&[kind, flags], payload)) = input.split_first_chunk() else { return };
    let Some((name, same)) = KINDS.get(usize::from(kind)) else { return };
    let content_type =
        if flags & PROTOBUF == 0 { ContentType::Json } else { ContentType::Protobuf };
    if same(content_type, payload).is_err() {
        return;
    }
    let record = record(&name(), content_type, flags & ORCHESTRATED != 0, payload);
    let refuse = Switch::new(false);
    let (first, longest) = (std::time::Duration::from_secs(1), std::time::Duration::from_secs(60));
    heard(&orders::inbox(), &record);
    heard(&products::inbox(), &record);
    heard(&delivery::inbox(Carriers::default(), refuse), &record);
    heard(&orchestrator::inbox(Patience { first, longest, attempts: 100 }), &record);
}

const fn kind<E: Event + PartialEq + Debug>() -> Kind {
    (E::full_name, decoded_to_the_same::<E>)
}

fn decoded_to_the_same<E: Event + PartialEq + Debug>(
    content_type: ContentType,
    payload: &[u8],
) -> Result<(), Refused> {
    let event: E = decode(content_type, payload)?;
    let again = decode(ContentType::Protobuf, &event.encode_to_vec());
    assert_eq!(again.as_ref(), Ok(&event));
    match serde_json::to_vec(&event) {
        Ok(json) => assert_eq!(decode(ContentType::Json, &json).as_ref(), Ok(&event)),
        // Protobuf keeps the number of a variant that is not known yet, and JSON has no name for it.
        Err(error) => assert_eq!(content_type, ContentType::Protobuf, "{error}: {event:?}"),
    }
    Ok(())
}

fn record(event_type: &str, content_type: ContentType, commanded: bool, payload: &[u8]) -> Record {
    let content_type = match content_type {
        ContentType::Json => "application/json",
        ContentType::Protobuf => "application/protobuf",
    };
    let coordination = if commanded { "orchestration" } else { "choreography" };
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", "0198c0de-7a3f-7000-8000-00000000000e"),
        ("ce_type", event_type),
        ("ce_source", "elsewhere"),
        ("ce_time", "2026-11-27T12:00:00Z"),
        ("ce_coordination", coordination),
        ("content-type", content_type),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), Some(value.as_bytes().to_vec())));
    Record {
        topic: "fuzz".to_owned(),
        partition: 0,
        offset: 0,
        kafka_time: DateTime::UNIX_EPOCH,
        key: String::new(),
        headers: headers.to_vec(),
        payload: Some(payload.to_vec()),
    }
}

/// A service that has heard of nothing else decides it, and decides it again.
fn heard<B: Book + Default>(inbox: &Inbox<B>, record: &Record) {
    let mut book = B::default();
    let now = DateTime::UNIX_EPOCH;
    let Some(Ok(first)) = inbox.rehearse(record, &mut book, now) else { return };
    first.events.iter().for_each(is_understood);
    let again = inbox.rehearse(record, &mut book, now);
    let Some(Ok(again)) = again else { panic!("{again:?} after {first:?}") };
    assert_ne!(again.outcome, Outcome::Applied, "{again:?} after {first:?}");
    again.events.iter().for_each(is_understood);
}

fn is_understood(event: &Outgoing) {
    let envelope = headers::read(&headers::sent(event));
    let Ok(envelope) = envelope else { panic!("{envelope:?} of {event:?}") };
    let kind = KINDS.iter().find(|(name, _)| name() == envelope.event_type);
    let Some((_, same)) = kind else { panic!("{event:?} is of no known type") };
    assert_eq!(same(envelope.content_type, &event.payload), Ok(()), "{event:?}");
}
