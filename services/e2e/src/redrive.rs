//! Parks the key of an order by a message that nobody can read, lets its customer call it off, and takes the key up again as an
//! operator does: a retry, which is refused, and then a skip, after which what has waited behind it is handled.

use std::time::Duration;

use local::{Part, SERVICES};
use proto::{
    operations::v1::{ListParkedRequest, ParkedMessage, RetryParkedRequest, SkipParkedRequest},
    orders::v1::{CancelOrderRequest, GetOrderRequest, Order},
};
use tonic::Code;
use uuid::Uuid;

use crate::arena::{Arena, until};

/// These react to orders that are placed, whoever coordinates them.
const PARKS: [Part; 2] = [Part::Products, Part::Delivery];
const PATIENCE: Duration = Duration::from_secs(40);

/// Sends the message.
pub async fn poison(arena: &Arena, order_id: Uuid) -> anyhow::Result<()> {
    let headers = [("ce_type", "shop.orders.v1.OrderPlaced".to_owned())];
    let (topic, key) = (proto::event::ORDERS_EVENTS, order_id.to_string());
    let place = arena.sender.send(topic, &key, &headers, b"{ this is not JSON").await?;
    arena.ledger.injected(place);
    Ok(())
}

/// Waits until the key is parked, and for what its customer does behind it; retries it in vain, and skips the poison. Returns
/// how many messages were handled that had waited.
pub async fn redrive(arena: &Arena, order_id: Uuid) -> anyhow::Result<usize> {
    let key = order_id.to_string();
    for part in PARKS {
        wait_for_parked(arena, part, &key, 1).await?;
    }
    if cancel(arena, &key).await? {
        // products hears of it only once delivery has agreed, if the order was confirmed.
        wait_for_parked(arena, Part::Delivery, &key, 2).await?;
    }
    let mut handled = 0;
    for part in PARKS {
        let retry = RetryParkedRequest { key: key.clone() };
        if arena.operations(part)?.retry_parked(retry).await.is_ok() {
            anyhow::bail!("{} has handled what cannot be read", part.name());
        }
        handled += skip_all(arena, part, &key).await?;
    }
    Ok(handled)
}

async fn wait_for_parked(arena: &Arena, part: Part, key: &str, count: usize) -> anyhow::Result<()> {
    until("the key is parked", PATIENCE, async || {
        let parked = parked(arena, part, key).await?.len();
        anyhow::ensure!(parked >= count, "{} has {parked} of {count} messages", part.name());
        Ok(())
    })
    .await
}

/// Calls the order off; whether that changed anything, so that orders tells of it under the same key.
async fn cancel(arena: &Arena, key: &str) -> anyhow::Result<bool> {
    let read = GetOrderRequest { order_id: key.to_owned(), ..Default::default() };
    let cancel = CancelOrderRequest {
        order_id: key.to_owned(),
        request_id: format!("cancel-behind-poison-{key}"),
        ..Default::default()
    };
    let revision = |order: Option<Order>| order.unwrap_or_default().revision;
    until("the order is called off", PATIENCE, async || {
        let mut orders = arena.orders_unhurt()?;
        let before = orders.get_order(read.clone()).await?.into_inner();
        match orders.cancel_order(cancel.clone()).await {
            Ok(after) => Ok(revision(after.into_inner().order) > revision(before.order)),
            // It is too late.
            Err(status) if status.code() == Code::FailedPrecondition => Ok(false),
            Err(status) => Err(status.into()),
        }
    })
    .await
}

/// Skips whatever is parked anywhere; nothing but poison stays parked when it is retried. Returns what cannot be.
pub async fn clear(arena: &Arena) -> anyhow::Result<()> {
    for part in SERVICES {
        until("nothing is parked", PATIENCE, async || {
            for message in parked(arena, part, "").await? {
                skip_all(arena, part, &message.key).await?;
            }
            anyhow::ensure!(parked(arena, part, "").await?.is_empty(), "there is still something");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Gives up what is at the head of a key and unreadable, as long as there is something; whatever else is parked is a finding.
async fn skip_all(arena: &Arena, part: Part, key: &str) -> anyhow::Result<usize> {
    let mut handled = 0;
    until("the key is taken up again", PATIENCE, async || {
        let Some(first) = parked(arena, part, key).await?.into_iter().next() else { return Ok(()) };
        anyhow::ensure!(is_poison(&first), "{first:?} is parked, and it is none of ours");
        let skip = SkipParkedRequest {
            key: key.to_owned(),
            parked_id: first.parked_id,
            reason: "a fault was injected".to_owned(),
        };
        match arena.operations(part)?.skip_parked(skip).await {
            Ok(answer) => handled += usize::try_from(answer.into_inner().handled)?,
            // Another one behind it, or it is gone already.
            Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::NotFound) => {}
            Err(status) => return Err(status.into()),
        }
        anyhow::bail!("there may be more")
    })
    .await?;
    Ok(handled)
}

fn is_poison(message: &ParkedMessage) -> bool {
    message.event_id.is_empty()
}

async fn parked(arena: &Arena, part: Part, key: &str) -> anyhow::Result<Vec<ParkedMessage>> {
    let request = ListParkedRequest { key: key.to_owned(), ..Default::default() };
    Ok(arena.operations(part)?.list_parked(request).await?.into_inner().messages)
}
