//! The orders whose turn it is to be compared: from one to the next, by order_id.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::read_order;
use crate::order::Order;

/// The first unsettled orders behind this one that have not moved since `before`, by order_id: the pending ones, and those
/// whose customer waits for a decision.
pub async fn unsettled(
    conn: &mut PgConnection,
    after: Uuid,
    before: DateTime<Utc>,
    limit: usize,
) -> sqlx::Result<Vec<Order>> {
    // Two looks into two indexes; of each no more than are needed.
    read(
        conn,
        "(select *
          from orders
          where state = 'pending' and order_id > $1 and updated_at < $2
          order by order_id
          limit $3)
         union all
         (select *
          from orders
          where state = 'confirmed' and cancel = 'requested' and order_id > $1 and updated_at < $2
          order by order_id
          limit $3)
         order by order_id
         limit $3",
        (after, before, limit),
    )
    .await
}

/// The first of all the others behind this one that have not moved since `before`, by order_id.
pub async fn settled(
    conn: &mut PgConnection,
    after: Uuid,
    before: DateTime<Utc>,
    limit: usize,
) -> sqlx::Result<Vec<Order>> {
    read(
        conn,
        "select *
         from orders
         where order_id > $1
           and updated_at < $2
           and state <> 'pending'
           and not (state = 'confirmed' and cancel = 'requested')
         order by order_id
         limit $3",
        (after, before, limit),
    )
    .await
}

async fn read(
    conn: &mut PgConnection,
    statement: &'static str,
    (after, before, limit): (Uuid, DateTime<Utc>, usize),
) -> sqlx::Result<Vec<Order>> {
    let rows = sqlx::query(statement)
        .bind(after)
        .bind(before)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?;
    rows.iter().map(read_order).collect()
}
