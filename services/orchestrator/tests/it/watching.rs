//! Watches: the saga as it is, then every change in order, none left out; a good end only when nothing can follow.

use proto::orchestrator::v1::{
    WatchSagaRequest, WatchSagaResponse, saga_service_server::SagaService as _,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::shop::{PATIENT, Shop, in_time};

type Watch = std::pin::Pin<Box<dyn Stream<Item = Result<WatchSagaResponse, Status>> + Send>>;

async fn watch(shop: &Shop, saga_id: Uuid, after_version: i64) -> Watch {
    let request = WatchSagaRequest { saga_id: saga_id.to_string(), after_version };
    shop.api.watch_saga(Request::new(request)).await.unwrap().into_inner()
}

async fn rest(mut watch: Watch) -> Vec<(i64, String)> {
    let mut seen = Vec::new();
    while let Some(answer) = in_time(watch.next()).await {
        let change = answer.unwrap().change.unwrap();
        seen.push((change.version, change.state));
    }
    seen
}

#[tokio::test]
async fn a_watch_shows_the_saga_first_then_every_change_and_ends() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = shop.begun().await;
    let mut stream = watch(&shop, order_id, 0).await;
    let first = in_time(stream.next()).await.unwrap().unwrap();
    assert_eq!(first.saga.unwrap().state, "RESERVING");
    assert!(first.change.is_none());
    for answer in ["ProductOutOfStock", "OrderCancelled", "StockReleased"] {
        shop.answer(order_id, answer).await;
    }
    let changes = [(2, "CANCELLING_ORDER"), (3, "COMPENSATING"), (4, "CANCELLED")];
    let changes = changes.map(|(version, state)| (version, state.to_owned()));
    assert_eq!(rest(stream).await, changes);
    assert_eq!(rest(watch(&shop, order_id, 2).await).await, changes[1..]);
    assert_eq!(rest(watch(&shop, order_id, 4).await).await, []);
    let mut ended = watch(&shop, order_id, 0).await;
    assert!(in_time(ended.next()).await.unwrap().unwrap().saga.unwrap().finished);
    assert!(in_time(ended.next()).await.is_none());
}

#[tokio::test]
async fn a_watch_ends_with_unavailable_when_the_service_stops() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = shop.begun().await;
    let mut stream = watch(&shop, order_id, 1).await;
    shop.shutdown.cancel();
    let end = in_time(stream.next()).await.unwrap().unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    assert!(in_time(stream.next()).await.is_none());
}

#[tokio::test]
async fn a_watch_cannot_begin_in_the_future() {
    let mut shop = Shop::open(PATIENT).await;
    let order_id = shop.begun().await;
    for after_version in [-1, 2] {
        let request = WatchSagaRequest { saga_id: order_id.to_string(), after_version };
        let status = shop.api.watch_saga(Request::new(request)).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}
