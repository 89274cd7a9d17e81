//! `settle demo`: four orders against a running shop, and every event they cause.

use std::process::ExitCode;

use proto::orders::v1::{CancelReason, Coordination, OrderState};

use crate::error::{Error, Result};
use crate::ports::Ports;
use crate::shop::{Shop, say, state};

const PRODUCT: &str = "tv";

/// Places, cancels, refuses, completes, and runs out of stock.
pub(crate) async fn run(ports: &Ports, kafka: &str) -> Result<ExitCode> {
    let mut shop = Shop::visit(ports, kafka).await?;
    prepare(&mut shop).await?;
    cancel_in_time(&mut shop).await?;
    cancel_too_late(&mut shop).await?;
    run_out_of_stock(&mut shop).await?;
    say(
        "\nThat is all: every order has settled, and the stock is what the confirmed orders left of it.",
    );
    Ok(ExitCode::SUCCESS)
}

/// Earlier demonstrations have sold some.
async fn prepare(shop: &mut Shop) -> Result<()> {
    let stock = shop.agreed_stock(PRODUCT).await?;
    if stock < 2 {
        say(format!("Only {stock} {PRODUCT} left; here are ten more."));
        shop.restock(PRODUCT, 10).await?;
    }
    Ok(())
}

async fn cancel_in_time(shop: &mut Shop) -> Result<()> {
    show_stock(shop).await?;
    say("\n1. Order one tv. The answer comes at once: PENDING. The services agree a moment later.");
    let order = shop.place(PRODUCT, 1).await?;
    let placed =
        ["OrderPlaced", "StockReserved", "ProductChanged", "DeliveryStarted", "OrderConfirmed"];
    let order =
        shop.follow(&order, |order| order.state() == OrderState::Confirmed, &placed).await?;
    show_stock(shop).await?;

    say("\n2. Cancel it. Delivery stops first, then the stock comes back.");
    let order = shop.cancel(&order.order_id).await?;
    let undone = ["OrderCancelRequested", "DeliveryCancelled", "OrderCancelled", "ProductChanged"];
    shop.follow(&order, |order| order.state() == OrderState::Cancelled, &undone).await?;
    show_stock(shop).await
}

async fn cancel_too_late(shop: &mut Shop) -> Result<()> {
    say("\n3. Order another one and send it off.");
    let order = shop.place(PRODUCT, 1).await?;
    let order = shop
        .follow(&order, |order| order.state() == OrderState::Confirmed, &["OrderConfirmed"])
        .await?;
    shop.dispatch(&order.order_id).await?;

    say("\n4. Cancel it now: too late, the parcel has left. The order stays CONFIRMED.");
    let order = shop.cancel(&order.order_id).await?;
    let order =
        shop.follow(&order, |order| order.cancel_refused, &["DeliveryCancelRefused"]).await?;

    say("\n5. The parcel arrives.");
    shop.complete(&order.order_id).await?;
    shop.follow(&order, |order| order.state() == OrderState::Completed, &["DeliveryCompleted"])
        .await?;
    show_stock(shop).await
}

async fn run_out_of_stock(shop: &mut Shop) -> Result<()> {
    let stock = shop.agreed_stock(PRODUCT).await?;
    let quantity = i32::try_from(stock + 1).unwrap_or(i32::MAX).max(100);
    say(format!(
        "\n6. Order {quantity} tv, more than there are. No stock is touched: there is no ProductChanged."
    ));
    let order = shop.place(PRODUCT, quantity).await?;
    let rolled_back: &[&str] = match order.coordination() {
        // The stock is asked for before the delivery.
        Coordination::Orchestration => {
            &["OrderPlaced", "ProductOutOfStock", "OrderCancelled", "StockReleased"]
        }
        Coordination::Choreography | Coordination::Unspecified => &[
            "OrderPlaced",
            "DeliveryStarted",
            "ProductOutOfStock",
            "OrderCancelled",
            "DeliveryCancelled",
        ],
    };
    let order =
        shop.follow(&order, |order| order.state() == OrderState::Cancelled, rolled_back).await?;
    let reason = order.cancel_reason().as_str_name().trim_start_matches("CANCEL_REASON_");
    say(format!("    the order is {}, reason {reason}", state(&order)));
    show_stock(shop).await?;
    if order.cancel_reason() == CancelReason::OutOfStock {
        return Ok(());
    }
    Err(Error::Unfit(format!("the order was cancelled for {reason}, not for OUT_OF_STOCK")))
}

async fn show_stock(shop: &mut Shop) -> Result<()> {
    let stock = shop.agreed_stock(PRODUCT).await?;
    say(format!("    stock of {PRODUCT}: {stock} at products, and as orders knows it"));
    Ok(())
}
