//! In the middle of a saga, in a state that is certain: killed, cut off from the database, its disk full, cancelled.

use anyhow::{Context as _, bail};
use local::Part;
use proto::orders::v1::{CancelReason, OrderState};
use tonic_types::StatusExt as _;

use crate::{
    held::Hold,
    sagas::cancelled,
    shop::{Shop, until},
    standstill::{End, Standstill, Still, complete, dispatch, fulfilling, has_not_begun},
};

/// Whom a saga waits for.
const PARTICIPANTS: [Part; 3] = [Part::Products, Part::Delivery, Part::Orders];

const FULL: &str = "
    create sequence refusals;
    create function no_space() returns trigger language plpgsql as $$
    begin
        perform nextval('refusals');
        raise exception 'could not extend file: No space left on device' using errcode = '53100';
    end $$;
    create trigger no_space before insert on saga_changes for each row execute function no_space()";
const ROOM: &str =
    "drop trigger no_space on saga_changes; drop function no_space; drop sequence refusals";

/// The orchestrator is killed in every state in which a saga waits, and before it has committed the next one.
pub(crate) async fn orchestrator_killed(shop: Shop) -> anyhow::Result<()> {
    for part in PARTICIPANTS {
        let (held, standstill) = Standstill::before(&shop, part, Hold::Deaf).await?;
        shop.stack.kill9(Part::Orchestrator).await?;
        shop.stack.start(Part::Orchestrator).await?;
        standstill.is_one(&shop).await?;
        held.let_go().await?;
        standstill.ends_well(&shop).await?;
    }
    killed_before_it_commits(&shop, Part::Orchestrator).await
}

/// What a participant wrote for a command is lost with it, and written once when it is back.
pub(crate) async fn participant_killed(shop: Shop) -> anyhow::Result<()> {
    for part in PARTICIPANTS {
        killed_before_it_commits(&shop, part).await?;
    }
    Ok(())
}

async fn killed_before_it_commits(shop: &Shop, part: Part) -> anyhow::Result<()> {
    let (held, standstill) = Standstill::before(shop, part, Hold::Uncommitted).await?;
    shop.stack.kill9(part).await?;
    held.let_go().await?;
    shop.stack.start(part).await?;
    standstill.ends_well(shop).await
}

/// Its connections are cut while orders, and then the orchestrator, has changes in them that are not committed.
pub(crate) async fn postgres_restarted(shop: Shop) -> anyhow::Result<()> {
    for part in [Part::Orders, Part::Orchestrator] {
        let (held, standstill) = Standstill::before(&shop, part, Hold::Uncommitted).await?;
        shop.stack.sigterm(Part::Postgres).await?;
        drop(held);
        shop.stack.start(Part::Postgres).await?;
        standstill.ends_well(&shop).await?;
    }
    Ok(())
}

/// Nothing of a change is kept that could not be kept whole; there is room again, and the sagas go on.
pub(crate) async fn disk_full(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(3).await?;
    let called_off = fulfilling(&shop, &product).await?;
    let database = shop.database(Part::Orchestrator).await?;
    sqlx::raw_sql(FULL).execute(&database).await?;
    let placed = shop.place(&product, 1).await?.order_id;
    shop.cancel(&called_off).await?;
    let tried = until("the orchestrator has tried again and again", async || {
        let refusals: i64 =
            sqlx::query_scalar("select last_value from refusals").fetch_one(&database).await?;
        if refusals > 2 { Ok(()) } else { bail!("{refusals} times") }
    })
    .await;
    let begun = shop.saga(&placed).await;
    let waits = shop.saga(&called_off).await;
    sqlx::raw_sql(ROOM).execute(&database).await?;
    tried?;
    has_not_begun(begun)?;
    assert_eq!(waits?.state, "FULFILLING");

    let placed = Still { order_id: placed, at: None, ends: End::Fulfilling };
    let called_off = Still { order_id: called_off, at: None, ends: End::Cancelled };
    for saga in [placed, called_off] {
        saga.ends_well(&shop).await?;
    }
    shop.until_stock(&product, 2).await
}

/// The customer cancels in every state in which a saga waits for a participant, for the customer, or for nothing more.
pub(crate) async fn cancelled_in_every_state(shop: Shop) -> anyhow::Result<()> {
    for part in PARTICIPANTS {
        let (held, standstill) = Standstill::before(&shop, part, Hold::Deaf).await?;
        for saga in &standstill.sagas {
            let answer = shop.cancel(&saga.order_id).await?.state();
            assert_eq!(answer, answer_to_a_cancel(saga), "{saga:?}");
        }
        held.let_go().await?;
        for Still { order_id, ends, .. } in &standstill.sagas {
            match ends {
                End::Fulfilling | End::Cancelled => {
                    cancelled(&shop, order_id, CancelReason::Customer).await?;
                }
                End::Refused => refused(&shop, order_id, OrderState::Confirmed).await?,
                End::Done => refused(&shop, order_id, OrderState::Completed).await?,
            }
        }
        standstill.stock_is_right(&shop, |end| matches!(end, End::Refused | End::Done)).await?;
    }
    cancelled_while_no_command_waits(&shop).await
}

/// CANCELLED where orders can decide it alone: before it has confirmed, and after it has cancelled.
fn answer_to_a_cancel(saga: &Still) -> OrderState {
    match saga.at {
        Some("RESERVING" | "STARTING_DELIVERY" | "CONFIRMING" | "COMPENSATING") => {
            OrderState::Cancelled
        }
        _ => OrderState::Cancelling,
    }
}

async fn refused(shop: &Shop, order_id: &str, state: OrderState) -> anyhow::Result<()> {
    let order = shop.until_order(order_id, state).await?;
    assert!(order.cancel_refused, "{order:?}");
    let end = if state == OrderState::Completed { "DONE" } else { "FULFILLING" };
    shop.until_saga(order_id, end).await?;
    Ok(())
}

async fn cancelled_while_no_command_waits(shop: &Shop) -> anyhow::Result<()> {
    let product = shop.product(2).await?;
    let order_id = fulfilling(shop, &product).await?;
    assert_eq!(shop.cancel(&order_id).await?.state(), OrderState::Cancelling);
    cancelled(shop, &order_id, CancelReason::Customer).await?;
    let before = shop.order(&order_id).await?;
    assert_eq!(shop.cancel(&order_id).await?.revision, before.revision);

    let order_id = fulfilling(shop, &product).await?;
    dispatch(shop, &order_id).await?;
    complete(shop, &order_id).await?;
    shop.until_saga(&order_id, "DONE").await?;
    let late = shop.cancel(&order_id).await.expect_err("a completed order is not cancelled");
    assert_eq!(late.get_details_error_info().context("error info")?.reason, "ORDER_COMPLETED");
    shop.until_stock(&product, 1).await
}
