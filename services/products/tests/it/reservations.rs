//! BatchGetReservations: what became of orders at the stock, read at once.

use proto::products::v1::{
    BatchGetReservationsRequest, Reservation, ReservationState, StockLine,
    product_service_server::ProductService as _,
};
use tonic::{Request, Status};
use uuid::Uuid;

use crate::{calls::violated, shop::Shop};

async fn read(shop: &Shop, order_ids: Vec<String>) -> Result<Vec<Reservation>, Status> {
    let request = Request::new(BatchGetReservationsRequest { order_ids });
    Ok(shop.api.batch_get_reservations(request).await?.into_inner().reservations)
}

/// A reservation in every state.
async fn filled(shop: &mut Shop) -> [(Uuid, ReservationState); 4] {
    let order_ids: [Uuid; 4] = std::array::from_fn(|_| Uuid::now_v7());
    let [reserved, released, rejected, tombstone] = order_ids;
    let told = [
        shop.orders.placed(reserved, &[("tv", 2), ("clock", 1)]),
        shop.orders.placed(released, &[("tv", 3)]),
        shop.orders.cancelled(released),
        shop.orders.placed(rejected, &[("tv", 1000)]),
        shop.orders.cancelled(tombstone),
    ];
    shop.hears(&told).await;
    [
        (reserved, ReservationState::Reserved),
        (released, ReservationState::Released),
        (rejected, ReservationState::Rejected),
        (tombstone, ReservationState::Tombstone),
    ]
}

#[tokio::test]
async fn every_order_that_was_heard_of_is_read_once_and_the_others_are_absent() {
    let mut shop = Shop::open(&[("tv", 10), ("clock", 10)]).await;
    let filled = filled(&mut shop).await;
    let tables = shop.tables().await;
    let asked = filled.iter().rev().map(|(order_id, _)| *order_id);
    let asked = asked.chain([Uuid::now_v7(), filled[0].0]).map(|id| id.to_string());
    let read = read(&shop, asked.collect()).await.unwrap();
    let states: Vec<_> = read.iter().map(|it| (it.order_id.clone(), it.state())).collect();
    assert_eq!(states, filled.map(|(order_id, state)| (order_id.to_string(), state)));

    let line = |product_id: &str, quantity| StockLine { product_id: product_id.into(), quantity };
    let lines: Vec<_> = read.iter().map(|it| it.lines.clone()).collect();
    assert_eq!(lines[..2], [vec![line("tv", 2), line("clock", 1)], vec![line("tv", 3)]]);
    assert!(lines[2].is_empty() && lines[3].is_empty(), "{lines:?}");
    for (event, reservation) in
        ["StockReserved", "StockReserved", "ProductOutOfStock"].iter().zip(&read)
    {
        let told = shop.event(reservation.order_id.parse().unwrap(), event).await;
        let (_, id) = told.headers.iter().find(|(name, _)| name == "ce_id").unwrap();
        assert_eq!(id.as_deref(), Some(reservation.decision_event_id.as_bytes()));
    }
    assert_eq!(read[3].decision_event_id, "");
    assert_eq!(shop.tables().await, tables);
}

#[tokio::test]
async fn a_question_without_orders_or_with_too_many_or_with_none_is_refused() {
    let shop = Shop::open(&[]).await;
    let many = |count| (0..count).map(|_| Uuid::now_v7().to_string()).collect::<Vec<_>>();
    assert_eq!(read(&shop, many(100)).await.unwrap(), []);
    for order_ids in [many(0), many(101)] {
        assert_eq!(violated(&read(&shop, order_ids).await.unwrap_err()), ["order_ids"]);
    }
    let bad = vec!["7".to_owned(), Uuid::now_v7().to_string(), "a\0b".to_owned()];
    let status = read(&shop, bad).await.unwrap_err();
    assert_eq!(violated(&status), ["order_ids[0]", "order_ids[2]"]);
}
