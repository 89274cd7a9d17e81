//! Deliveries in Postgres. A row is locked before it is decided on, and every write says which version it has seen.

use chassis::policy::SaveError;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

use crate::{
    domain::{Late, State},
    parcel::{Delivery, Line, Parcel},
};

/// Locks and reads the deliveries of these orders, in the one order in which everybody locks them.
pub async fn lock(conn: &mut PgConnection, order_ids: &[Uuid]) -> sqlx::Result<Vec<Delivery>> {
    let rows = sqlx::query(
        "select *
         from deliveries
         where order_id = any($1)
         order by order_id
         for update",
    )
    .bind(order_ids)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// Reads the delivery of an order, tombstones aside.
pub async fn get(conn: &mut PgConnection, order_id: Uuid) -> sqlx::Result<Option<Delivery>> {
    let row =
        sqlx::query("select * from deliveries where order_id = $1 and delivery_id is not null")
            .bind(order_id)
            .fetch_optional(conn)
            .await?;
    row.as_ref().map(read).transpose()
}

/// Reads the deliveries of these orders by order_id, tombstones aside.
pub async fn get_all(conn: &mut PgConnection, order_ids: &[Uuid]) -> sqlx::Result<Vec<Delivery>> {
    let rows = sqlx::query(
        "select *
         from deliveries
         where order_id = any($1) and delivery_id is not null
         order by order_id",
    )
    .bind(order_ids)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// A page of deliveries, tombstones aside, newest first. Written so that any plan of it, a generic one too, reads only
/// the page from the index: no `is null or`.
pub const PAGE: &str = "
    select *
    from deliveries
    where delivery_id is not null
        and (created_at, delivery_id)
            < (coalesce($1, 'infinity'::timestamptz), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
    order by created_at desc, delivery_id desc
    limit $3";

/// The same of the deliveries in one state.
pub const PAGE_OF_STATE: &str = "
    select *
    from deliveries
    where delivery_id is not null
        and state = $4
        and (created_at, delivery_id)
            < (coalesce($1, 'infinity'::timestamptz), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
    order by created_at desc, delivery_id desc
    limit $3";

/// Reads at most `limit` deliveries, newest first, older than `before`; in one state, where it is given by its name here.
pub async fn page(
    conn: &mut PgConnection,
    state: Option<&str>,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> sqlx::Result<Vec<Delivery>> {
    let (created_at, delivery_id) = before.unzip();
    let query = sqlx::query(if state.is_some() { PAGE_OF_STATE } else { PAGE });
    let query = query.bind(created_at).bind(delivery_id).bind(limit);
    let query = match state {
        Some(state) => query.bind(state),
        None => query,
    };
    let rows = query.fetch_all(conn).await?;
    rows.iter().map(read).collect()
}

/// Writes the first rows of orders.
pub async fn insert(conn: &mut PgConnection, new: &[&Delivery]) -> Result<(), SaveError> {
    if new.is_empty() {
        return Ok(());
    }
    let mut columns = Columns::default();
    new.iter().for_each(|delivery| columns.add(delivery));
    let parcel = |index: usize| new[index].parcel.as_ref();
    let all = 0..new.len();
    let written = sqlx::query(
        "insert into deliveries
             (order_id, state, failure_reason, cancel_refused, decision_event_id, version, updated_at, coordination,
              created_at, delivery_id, customer_id, customer_name, delivery_address, lines)
         select *
         from unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::uuid[], $6::bigint[], $7::timestamptz[],
                     $8::text[], $9::timestamptz[], $10::uuid[], $11::text[], $12::text[], $13::text[], $14::jsonb[])
         on conflict do nothing",
    )
    .bind(columns.order_ids)
    .bind(columns.states)
    .bind(columns.failure_reasons)
    .bind(columns.cancels_refused)
    .bind(columns.decision_event_ids)
    .bind(columns.versions)
    .bind(columns.updated_at)
    .bind(new.iter().map(|delivery| delivery.coordination.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|delivery| delivery.created_at).collect::<Vec<_>>())
    .bind(all.clone().map(|index| Some(parcel(index)?.delivery_id)).collect::<Vec<_>>())
    .bind(all.clone().map(|index| Some(parcel(index)?.customer_id.as_str())).collect::<Vec<_>>())
    .bind(all.clone().map(|index| Some(parcel(index)?.customer_name.as_str())).collect::<Vec<_>>())
    .bind(all.clone().map(|index| Some(parcel(index)?.address.as_str())).collect::<Vec<_>>())
    .bind(all.map(|index| Some(Json(parcel(index)?.lines.as_slice()))).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    SaveError::unless_all_written(new.len(), &written)
}

/// Writes deliveries over the versions that were loaded. A parcel never changes.
pub async fn update(
    conn: &mut PgConnection,
    changed: &[(&Delivery, i64)],
) -> Result<(), SaveError> {
    if changed.is_empty() {
        return Ok(());
    }
    let mut columns = Columns::default();
    changed.iter().for_each(|(delivery, _)| columns.add(delivery));
    let written = sqlx::query(
        "update deliveries
         set state = next.state,
             failure_reason = next.failure_reason,
             cancel_refused = next.cancel_refused,
             decision_event_id = next.decision_event_id,
             version = next.version,
             updated_at = next.updated_at
         from unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::uuid[], $6::bigint[], $7::timestamptz[],
                     $8::bigint[])
             as next (order_id, state, failure_reason, cancel_refused, decision_event_id, version, updated_at, loaded)
         where deliveries.order_id = next.order_id and deliveries.version = next.loaded",
    )
    .bind(columns.order_ids)
    .bind(columns.states)
    .bind(columns.failure_reasons)
    .bind(columns.cancels_refused)
    .bind(columns.decision_event_ids)
    .bind(columns.versions)
    .bind(columns.updated_at)
    .bind(changed.iter().map(|(_, loaded)| *loaded).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    SaveError::unless_all_written(changed.len(), &written)
}

/// What changes in a row, column by column.
#[derive(Default)]
struct Columns<'a> {
    order_ids: Vec<Uuid>,
    states: Vec<&'static str>,
    failure_reasons: Vec<Option<&'a str>>,
    cancels_refused: Vec<bool>,
    decision_event_ids: Vec<Option<Uuid>>,
    versions: Vec<i64>,
    updated_at: Vec<DateTime<Utc>>,
}

impl<'a> Columns<'a> {
    fn add(&mut self, delivery: &'a Delivery) {
        let (reason, refused, decision) = match &delivery.state {
            State::Started | State::Ready | State::Tombstone => (None, false, None),
            State::Dispatched(late) | State::Completed(late) => {
                (None, *late == Late::CancelRefused, None)
            }
            State::Cancelled { told_by } => (None, false, Some(*told_by)),
            State::Failed { told_by, reason } => (Some(reason.as_str()), false, Some(*told_by)),
        };
        self.order_ids.push(delivery.order_id);
        self.states.push(name(&delivery.state));
        self.failure_reasons.push(reason);
        self.cancels_refused.push(refused);
        self.decision_event_ids.push(decision);
        self.versions.push(delivery.version);
        self.updated_at.push(delivery.updated_at);
    }
}

fn name(state: &State) -> &'static str {
    match state {
        State::Started => "started",
        State::Ready => "ready",
        State::Dispatched(_) => "dispatched",
        State::Completed(_) => "completed",
        State::Cancelled { .. } => "cancelled",
        State::Failed { .. } => "failed",
        State::Tombstone => "tombstone",
    }
}

fn read(row: &PgRow) -> sqlx::Result<Delivery> {
    let coordination: &str = row.try_get("coordination")?;
    Ok(Delivery {
        order_id: row.try_get("order_id")?,
        parcel: read_parcel(row)?,
        state: read_state(row)?,
        coordination: coordination
            .parse()
            .map_err(|why: String| sqlx::Error::Decode(why.into()))?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn read_parcel(row: &PgRow) -> sqlx::Result<Option<Parcel>> {
    let Some(delivery_id) = row.try_get("delivery_id")? else { return Ok(None) };
    let Json(lines): Json<Vec<Line>> = row.try_get("lines")?;
    Ok(Some(Parcel {
        delivery_id,
        customer_id: row.try_get("customer_id")?,
        customer_name: row.try_get("customer_name")?,
        address: row.try_get("delivery_address")?,
        lines,
    }))
}

fn read_state(row: &PgRow) -> sqlx::Result<State> {
    let late = if row.try_get("cancel_refused")? { Late::CancelRefused } else { Late::NoCancel };
    Ok(match row.try_get("state")? {
        "started" => State::Started,
        "ready" => State::Ready,
        "dispatched" => State::Dispatched(late),
        "completed" => State::Completed(late),
        "cancelled" => State::Cancelled { told_by: row.try_get("decision_event_id")? },
        "failed" => State::Failed {
            told_by: row.try_get("decision_event_id")?,
            reason: row.try_get("failure_reason")?,
        },
        "tombstone" => State::Tombstone,
        other => return Err(sqlx::Error::Decode(format!("{other:?} is not a state").into())),
    })
}
