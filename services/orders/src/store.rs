//! Orders, their transitions and the replica of the catalogue in Postgres: functions on a connection, set-based.

pub mod turns;

use std::str::FromStr as _;

use chassis::{cause::Coordination, policy::SaveError};
use chrono::{DateTime, Utc};
use proto::{money::Money, orders::v1::OrderState};
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

use crate::{
    domain::{Cancel, Fate, Reason, State},
    order::{Customer, Order, Transition},
};

/// Loads one order; none if there is no such.
pub async fn order(conn: &mut PgConnection, order_id: Uuid) -> sqlx::Result<Option<Order>> {
    let row = sqlx::query("select * from orders where order_id = $1")
        .bind(order_id)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read_order).transpose()
}

/// Loads orders in no particular order.
pub async fn orders(conn: &mut PgConnection, order_ids: &[Uuid]) -> sqlx::Result<Vec<Order>> {
    let rows = sqlx::query("select * from orders where order_id = any($1)")
        .bind(order_ids)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read_order).collect()
}

/// Locks and loads orders, by order_id.
pub async fn lock_orders(conn: &mut PgConnection, order_ids: &[Uuid]) -> sqlx::Result<Vec<Order>> {
    let rows =
        sqlx::query("select * from orders where order_id = any($1) order by order_id for update")
            .bind(order_ids)
            .fetch_all(conn)
            .await?;
    rows.iter().map(read_order).collect()
}

/// Writes new orders. Their ids are new too, so all of them are written.
pub async fn insert_orders(conn: &mut PgConnection, orders: &[&Order]) -> sqlx::Result<()> {
    if orders.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into orders (order_id, customer_id, customer_name, customer_address, lines, total, coordination, state,
                             created_at, updated_at, deadline_at)
         select order_id, customer_id, customer_name, customer_address, lines, total, coordination, 'pending',
                created_at, created_at, deadline_at
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::jsonb[], $7::text[],
                     $8::timestamptz[], $9::timestamptz[])
             as placed (order_id, customer_id, customer_name, customer_address, lines, total, coordination, created_at,
                        deadline_at)",
    )
    .bind(orders.iter().map(|order| order.order_id).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.customer.customer_id.as_str()).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.customer.name.as_str()).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.customer.address.as_str()).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| Json(&order.lines)).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| Json(&order.total)).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.coordination.as_str()).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.created_at).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.deadline_at).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes changed orders, each with the version it was loaded with. [`SaveError::Conflict`] if one has moved meanwhile.
pub async fn update_orders(
    conn: &mut PgConnection,
    orders: &[(&Order, i64)],
) -> Result<(), SaveError> {
    if orders.is_empty() {
        return Ok(());
    }
    let fate = |index: usize| orders[index].0.fate;
    let all = 0..orders.len();
    let written = sqlx::query(
        "update orders
         set state = changed.state,
             cancel = changed.cancel,
             cancel_reason = changed.cancel_reason,
             stock_reserved = changed.stock_reserved,
             delivery_started = changed.delivery_started,
             version = changed.version,
             revision = changed.revision,
             updated_at = changed.updated_at,
             settled_at = changed.settled_at
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::boolean[],
                     $8::bigint[], $9::bigint[], $10::timestamptz[], $11::timestamptz[])
             as changed (order_id, loaded_version, state, cancel, cancel_reason, stock_reserved, delivery_started,
                         version, revision, updated_at, settled_at)
         where orders.order_id = changed.order_id
           and orders.version = changed.loaded_version",
    )
    .bind(orders.iter().map(|(order, _)| order.order_id).collect::<Vec<_>>())
    .bind(orders.iter().map(|(_, loaded_version)| *loaded_version).collect::<Vec<_>>())
    .bind(all.clone().map(|index| state_name(fate(index).state)).collect::<Vec<_>>())
    .bind(all.clone().map(|index| cancel_name(fate(index).cancel)).collect::<Vec<_>>())
    .bind(orders.iter().map(|(order, _)| order.reason().map(reason_name)).collect::<Vec<_>>())
    .bind(all.clone().map(|index| fate(index).stock_reserved).collect::<Vec<_>>())
    .bind(all.map(|index| fate(index).delivery_started).collect::<Vec<_>>())
    .bind(orders.iter().map(|(order, _)| order.version).collect::<Vec<_>>())
    .bind(orders.iter().map(|(order, _)| order.revision).collect::<Vec<_>>())
    .bind(orders.iter().map(|(order, _)| order.updated_at).collect::<Vec<_>>())
    .bind(orders.iter().map(|(order, _)| order.settled_at).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    SaveError::unless_all_written(orders.len(), &written)
}

/// Writes transitions.
pub async fn insert_transitions(
    conn: &mut PgConnection,
    transitions: &[Transition],
) -> sqlx::Result<()> {
    if transitions.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into order_transitions (order_id, revision, state, cancel_reason, cancel_refused, cause, cause_id,
                                        event_id, trace_id, created_at)
         select *
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::boolean[], $6::text[], $7::uuid[],
                     $8::uuid[], $9::text[], $10::timestamptz[])",
    )
    .bind(transitions.iter().map(|it| it.order_id).collect::<Vec<_>>())
    .bind(transitions.iter().map(|it| it.revision).collect::<Vec<_>>())
    .bind(transitions.iter().map(|it| shown_name(it.state)).collect::<Vec<_>>())
    .bind(transitions.iter().map(|it| it.reason.map(reason_name)).collect::<Vec<_>>())
    .bind(transitions.iter().map(|it| it.cancel_refused).collect::<Vec<_>>())
    .bind(transitions.iter().map(|it| it.cause.as_str()).collect::<Vec<_>>())
    .bind(transitions.iter().map(|it| it.cause_id).collect::<Vec<_>>())
    .bind(transitions.iter().map(|it| it.event_id).collect::<Vec<_>>())
    .bind(transitions.iter().map(|it| it.trace_id.as_deref()).collect::<Vec<_>>())
    .bind(transitions.iter().map(|it| it.created_at).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// The transitions of each order after a revision of its own, by order and revision.
pub async fn transitions_after(
    conn: &mut PgConnection,
    after: &[(Uuid, i64)],
) -> sqlx::Result<Vec<Transition>> {
    let (order_ids, revisions): (Vec<Uuid>, Vec<i64>) = after.iter().copied().unzip();
    let rows = sqlx::query(
        "select transition.*
         from unnest($1::uuid[], $2::bigint[]) as watched (order_id, revision)
         join order_transitions as transition
           on transition.order_id = watched.order_id
          and transition.revision > watched.revision
         order by transition.order_id, transition.revision",
    )
    .bind(order_ids)
    .bind(revisions)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read_transition).collect()
}

/// How many orders have not settled, counted up to 100,000, and the age of the oldest in seconds: the one whose deadline
/// comes first.
pub const UNSETTLED: &str = "
    select count(*),
           coalesce(extract(epoch from max(clock_timestamp() - created_at)), 0)::float8
    from (
        select created_at
        from orders
        where state = 'pending'
        order by deadline_at
        limit 100000
    ) pending";

/// The pending orders whose deadline has passed, oldest first.
pub async fn overdue(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "select order_id
         from orders
         where state = 'pending' and deadline_at <= $1
         order by deadline_at
         limit $2",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Which orders a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In this state, as shown.
    pub state: Option<OrderState>,
    /// Of this customer.
    pub customer_id: Option<String>,
    /// Accepted at or after.
    pub created_from: Option<DateTime<Utc>>,
    /// Accepted before.
    pub created_before: Option<DateTime<Utc>>,
    /// Pending, and accepted at or before.
    pub pending_since: Option<DateTime<Utc>>,
    /// After this order in the list.
    pub after: Option<Uuid>,
}

/// A page of orders, newest first: ids are UUIDv7, so by id downwards.
pub async fn list(
    conn: &mut PgConnection,
    filter: &Filter,
    limit: i64,
) -> sqlx::Result<Vec<Order>> {
    let (state, cancelling) = match filter.state {
        None => (None, None),
        Some(OrderState::Cancelling) => (Some("confirmed"), Some(true)),
        Some(OrderState::Confirmed) => (Some("confirmed"), Some(false)),
        Some(state) => (Some(shown_name(state)), None),
    };
    let rows = sqlx::query(
        "select *
         from orders
         where ($1::text is null or state = $1)
           and ($2::boolean is null or (cancel = 'requested') = $2)
           and ($3::text is null or customer_id = $3)
           and ($4::timestamptz is null or created_at >= $4)
           and ($5::timestamptz is null or created_at < $5)
           and ($6::timestamptz is null or (state = 'pending' and created_at <= $6))
           and ($7::uuid is null or order_id < $7)
         order by order_id desc
         limit $8",
    )
    .bind(state)
    .bind(cancelling)
    .bind(&filter.customer_id)
    .bind(filter.created_from)
    .bind(filter.created_before)
    .bind(filter.pending_since)
    .bind(filter.after)
    .bind(limit)
    // Planned for these values: the unused conditions fold away.
    .persistent(false)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read_order).collect()
}

fn read_order(row: &PgRow) -> sqlx::Result<Order> {
    let Json(lines) = row.try_get("lines")?;
    let Json(total): Json<Money> = row.try_get("total")?;
    let state = read_state(row.try_get("state")?, row.try_get("cancel_reason")?)?;
    let fate = Fate {
        state,
        cancel: read_cancel(row.try_get("cancel")?)?,
        stock_reserved: row.try_get("stock_reserved")?,
        delivery_started: row.try_get("delivery_started")?,
    };
    Ok(Order {
        order_id: row.try_get("order_id")?,
        customer: Customer {
            customer_id: row.try_get("customer_id")?,
            name: row.try_get("customer_name")?,
            address: row.try_get("customer_address")?,
        },
        lines,
        total,
        coordination: Coordination::from_str(row.try_get("coordination")?).map_err(corrupt)?,
        fate,
        version: row.try_get("version")?,
        revision: row.try_get("revision")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        settled_at: row.try_get("settled_at")?,
        deadline_at: row.try_get("deadline_at")?,
    })
}

fn read_transition(row: &PgRow) -> sqlx::Result<Transition> {
    Ok(Transition {
        order_id: row.try_get("order_id")?,
        revision: row.try_get("revision")?,
        state: read_shown(row.try_get("state")?)?,
        reason: row.try_get::<Option<&str>, _>("cancel_reason")?.map(read_reason).transpose()?,
        cancel_refused: row.try_get("cancel_refused")?,
        cause: row.try_get("cause")?,
        cause_id: row.try_get("cause_id")?,
        event_id: row.try_get("event_id")?,
        trace_id: row.try_get("trace_id")?,
        created_at: row.try_get("created_at")?,
    })
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Confirmed => "confirmed",
        State::Cancelled(_) => "cancelled",
        State::Completed => "completed",
    }
}

fn read_state(name: &str, reason: Option<&str>) -> sqlx::Result<State> {
    match (name, reason) {
        ("pending", _) => Ok(State::Pending),
        ("confirmed", _) => Ok(State::Confirmed),
        ("completed", _) => Ok(State::Completed),
        ("cancelled", Some(reason)) => Ok(State::Cancelled(read_reason(reason)?)),
        _ => Err(corrupt(format!("an order in state {name:?}"))),
    }
}

fn cancel_name(cancel: Cancel) -> &'static str {
    match cancel {
        Cancel::None => "none",
        Cancel::Requested => "requested",
        Cancel::Refused => "refused",
    }
}

fn read_cancel(name: &str) -> sqlx::Result<Cancel> {
    [Cancel::None, Cancel::Requested, Cancel::Refused]
        .into_iter()
        .find(|cancel| cancel_name(*cancel) == name)
        .ok_or_else(|| corrupt(format!("a cancellation {name:?}")))
}

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::OutOfStock => "out_of_stock",
        Reason::Customer => "customer",
        Reason::DeliveryFailed => "delivery_failed",
        Reason::TimedOut => "timed_out",
    }
}

fn read_reason(name: &str) -> sqlx::Result<Reason> {
    [Reason::OutOfStock, Reason::Customer, Reason::DeliveryFailed, Reason::TimedOut]
        .into_iter()
        .find(|reason| reason_name(*reason) == name)
        .ok_or_else(|| corrupt(format!("a reason {name:?}")))
}

fn shown_name(state: OrderState) -> &'static str {
    match state {
        OrderState::Unspecified => "unspecified",
        OrderState::Pending => "pending",
        OrderState::Confirmed => "confirmed",
        OrderState::Cancelled => "cancelled",
        OrderState::Completed => "completed",
        OrderState::Cancelling => "cancelling",
    }
}

fn read_shown(name: &str) -> sqlx::Result<OrderState> {
    OrderState::from_str_name(&format!("ORDER_STATE_{}", name.to_uppercase()))
        .ok_or_else(|| corrupt(format!("a state {name:?}")))
}

fn corrupt(what: String) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}
