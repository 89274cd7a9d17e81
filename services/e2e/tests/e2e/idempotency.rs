//! One click, one order, however often it is sent.

use anyhow::Context as _;
use futures::future::join_all;
use proto::orders::v1::Coordination;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::shop::{Shop, request};

pub(crate) async fn same_request(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let request = request(&[(&product, 1)]);
    let sent = join_all((0..20).map(|_| shop.place_request(request.clone()))).await;
    let placed = sent.into_iter().collect::<Result<Vec<_>, _>>()?;
    let first = placed.first().context("twenty answers")?;
    assert!(placed.iter().all(|order| order.order_id == first.order_id));
    shop.until_stock(&product, 4).await
}

pub(crate) async fn other_content(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let first = request(&[(&product, 1)]);
    shop.place_request(first.clone()).await?;
    let mut more = first.clone();
    more.lines[0].quantity = 2;
    let mut otherwise = first;
    let other_style = shop.by_style(Coordination::Orchestration, Coordination::Choreography);
    otherwise.set_coordination(other_style);
    for other in [more, otherwise] {
        let refused = shop.place_request(other).await.expect_err("other content under the same id");
        assert_eq!(refused.code(), Code::AlreadyExists);
        let reason = refused.get_details_error_info().context("error info")?.reason;
        assert_eq!(reason, "REQUEST_ID_REUSED");
    }
    shop.until_stock(&product, 4).await
}
