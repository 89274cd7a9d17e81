//! The operator's view of a service: its trail, what is parked and the verbs for it, how far behind it is.

pub mod validate;

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use proto::operations::v1::{
    EmittedEvent, GetLagRequest, GetLagResponse, GetTrailRequest, GetTrailResponse,
    ListParkedRequest, ListParkedResponse, ListSwitchesRequest, ListSwitchesResponse,
    ParkedMessage, RetryParkedRequest, RetryParkedResponse, SetSwitchRequest, SetSwitchResponse,
    SkipParkedRequest, SkipParkedResponse, Switch, TopicLag, TrailEntry, TrailKind, TrailOutcome,
    operations_service_server::OperationsService,
};
use serde::Deserialize;
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};
use tonic::{Request, Response, Status};

use crate::{
    call,
    cause::Cause,
    doorbell::Doorbell,
    envelope::Headers,
    inbox::{Inbox, InboxError},
    operations::validate::Page,
    page_token, parked,
    parked::Parked,
    policy::{Book, Refused},
    progress::Progress,
    status,
    switches::Switches,
    violations::Violations,
    wire::timestamp,
};

/// An inbox whose rows are forgotten, as the verbs need it.
pub(crate) trait Redrive: Send + Sync {
    fn retry<'a>(&'a self, conn: &'a mut PgConnection, key: &'a str) -> RedriveFuture<'a>;
    fn skip<'a>(
        &'a self,
        conn: &'a mut PgConnection,
        parked: &'a Parked,
        verb: &'a Cause,
    ) -> BoxFuture<'a, sqlx::Result<bool>>;
}

type RedriveFuture<'a> = BoxFuture<'a, Result<(usize, Result<(), Refused>), InboxError>>;

impl<B: Book> Redrive for Inbox<B> {
    fn retry<'a>(&'a self, conn: &'a mut PgConnection, key: &'a str) -> RedriveFuture<'a> {
        Box::pin(self.retry_parked(conn, key))
    }

    fn skip<'a>(
        &'a self,
        conn: &'a mut PgConnection,
        parked: &'a Parked,
        verb: &'a Cause,
    ) -> BoxFuture<'a, sqlx::Result<bool>> {
        Box::pin(self.skip_parked(conn, parked, verb))
    }
}

/// Answers `shop.operations.v1.OperationsService` for one service.
pub(crate) struct Operations {
    pub(crate) service: &'static str,
    pub(crate) pool: PgPool,
    pub(crate) inbox: Option<Arc<dyn Redrive>>,
    pub(crate) progress: Progress,
    pub(crate) doorbell: Doorbell,
    /// The demonstration switches, where they are allowed.
    pub(crate) switches: Option<Switches>,
}

#[tonic::async_trait]
impl OperationsService for Operations {
    async fn get_trail(
        &self,
        request: Request<GetTrailRequest>,
    ) -> Result<Response<GetTrailResponse>, Status> {
        let order_id = validate::trail(request.get_ref())?;
        call::concerns(order_id);
        let rows = sqlx::query(
            "select * from messaging.trail where correlation_id = $1 order by handled_at, event_id",
        )
        .bind(order_id)
        .fetch_all(&self.pool)
        .await
        .map_err(|error| status::database(&error))?;
        let entries = rows
            .iter()
            .map(entry)
            .collect::<sqlx::Result<_>>()
            .map_err(|error| status::database(&error))?;
        Ok(Response::new(GetTrailResponse { service: self.service.to_owned(), entries }))
    }

    async fn list_parked(
        &self,
        request: Request<ListParkedRequest>,
    ) -> Result<Response<ListParkedResponse>, Status> {
        let request = request.into_inner();
        let Page { question, after, size } = validate::page(&request)?;
        let key = (!request.key.is_empty()).then_some(request.key.as_str());
        let mut conn = self.conn().await?;
        let page = parked::page(&mut conn, self.service, key, after, size)
            .await
            .map_err(|error| status::database(&error))?;
        let next_page_token = match page.last() {
            Some(last) if page.len() as i64 == size => page_token::write(&question, last.parked_id)
                .map_err(|error| status::internal(&error))?,
            _ => String::new(),
        };
        let messages = page.into_iter().map(|parked| message(self.service, parked)).collect();
        Ok(Response::new(ListParkedResponse { messages, next_page_token }))
    }

    async fn retry_parked(
        &self,
        request: Request<RetryParkedRequest>,
    ) -> Result<Response<RetryParkedResponse>, Status> {
        let request = request.into_inner();
        let key = validate::retry(&request)?;
        let mut conn = self.conn().await?;
        self.first_parked(&mut conn, key).await?;
        let handled = self.redrive(&mut conn, key).await?;
        Ok(Response::new(RetryParkedResponse { handled }))
    }

    async fn skip_parked(
        &self,
        request: Request<SkipParkedRequest>,
    ) -> Result<Response<SkipParkedResponse>, Status> {
        let cause = call::cause(self.service, "SkipParked", &request);
        let request = request.into_inner();
        let key = validate::skip(&request)?;
        let mut conn = self.conn().await?;
        let first = self.first_parked(&mut conn, key).await?;
        let not_first = || {
            let why = format!("{} is not the first parked message of this key", request.parked_id);
            status::precondition("NOT_FIRST", key, &why)
        };
        if first.parked_id != request.parked_id {
            return Err(not_first());
        }
        tracing::warn!(
            key,
            parked_id = first.parked_id,
            reason = request.reason,
            "skipped a message"
        );
        if let Some(inbox) = &self.inbox
            && !inbox
                .skip(&mut conn, &first, &cause)
                .await
                .map_err(|error| status::database(&error))?
        {
            return Err(not_first());
        }
        let handled = self.redrive(&mut conn, key).await?;
        Ok(Response::new(SkipParkedResponse { handled }))
    }

    async fn get_lag(&self, _: Request<GetLagRequest>) -> Result<Response<GetLagResponse>, Status> {
        let mut conn = self.conn().await?;
        let (outbox_rows, oldest) =
            outbox_lag(&mut conn).await.map_err(|error| status::database(&error))?;
        let parked = parked::count(&mut conn, self.service)
            .await
            .map_err(|error| status::database(&error))?;
        let topics: HashMap<String, i64> = self.progress.lag();
        let mut topics: Vec<_> =
            topics.into_iter().map(|(topic, messages)| TopicLag { topic, messages }).collect();
        topics.sort_by(|one, other| one.topic.cmp(&other.topic));
        let outbox_oldest_age =
            oldest.and_then(|age| std::time::Duration::try_from_secs_f64(age).ok());
        Ok(Response::new(GetLagResponse {
            service: self.service.to_owned(),
            outbox_rows,
            outbox_oldest_age: outbox_oldest_age.map(Into::into),
            topics,
            parked,
        }))
    }

    async fn set_switch(
        &self,
        request: Request<SetSwitchRequest>,
    ) -> Result<Response<SetSwitchResponse>, Status> {
        let request = request.into_inner();
        let Some(switches) = &self.switches else {
            let why = "the switches are for demonstrations; start the service with --demo";
            return Err(status::precondition("DEMO_OFF", &request.name, why));
        };
        let mut violations = Violations::default();
        if let Err(unknown) = switches.turn(&request.name, request.on) {
            violations.add("name", unknown.to_string());
        }
        violations.finish()?;
        tracing::warn!(switch = request.name, on = request.on, "turned a demonstration switch");
        Ok(Response::new(SetSwitchResponse { name: request.name, on: request.on }))
    }

    async fn list_switches(
        &self,
        _: Request<ListSwitchesRequest>,
    ) -> Result<Response<ListSwitchesResponse>, Status> {
        let all = self.switches.as_ref().map(Switches::all).unwrap_or_default();
        let switches = all.into_iter().map(|(name, on)| Switch { name: name.to_owned(), on });
        Ok(Response::new(ListSwitchesResponse { switches: switches.collect() }))
    }
}

impl Operations {
    async fn conn(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>, Status> {
        self.pool.acquire().await.map_err(|error| status::database(&error))
    }

    async fn first_parked(&self, conn: &mut PgConnection, key: &str) -> Result<Parked, Status> {
        parked::first(conn, self.service, key)
            .await
            .map_err(|error| status::database(&error))?
            .ok_or_else(|| status::not_found("Parked", key))
    }

    async fn redrive(&self, conn: &mut PgConnection, key: &str) -> Result<i32, Status> {
        let Some(inbox) = &self.inbox else { return Ok(0) };
        let (handled, rest) = inbox
            .retry(conn, key)
            .await
            .map_err(|InboxError::Database(error)| status::database(&error))?;
        self.doorbell.ring();
        rest.map_err(|refused| {
            status::precondition(
                "STILL_REFUSED",
                key,
                &format!("{handled} handled, then refused again: {refused}"),
            )
        })?;
        Ok(i32::try_from(handled).unwrap_or(i32::MAX))
    }
}

/// Counting stops here: an operator needs to know no more, and asks when there is most to count.
const COUNTED: i64 = 100_000;

/// Rows that the relay has not shipped, up to [`COUNTED`], and the age in seconds of the oldest among them.
async fn outbox_lag(conn: &mut PgConnection) -> sqlx::Result<(i64, Option<f64>)> {
    sqlx::query_as(
        "select count(*), (extract(epoch from clock_timestamp() - min(created_at)))::float8
         from (
             select fresh.created_at
             from (
                 select acked::text::pg_snapshot as acked,
                        target::text::pg_snapshot as target,
                        sent_seq,
                        bit_or(1::bigint << shard) as shards
                 from messaging.outbox_standing
                 group by acked::text, target::text, sent_seq
             ) as lane
             cross join lateral (
                 select seq, xid, shard, created_at
                 from messaging.outbox
                 where xid >= pg_snapshot_xmax(lane.acked)
                 union all
                 select seq, xid, shard, created_at
                 from messaging.outbox
                 where xid = any (array(select pg_snapshot_xip(lane.acked)))
             ) as fresh
             where (lane.shards >> fresh.shard) & 1 = 1
               and (lane.target is null
                    or fresh.seq > lane.sent_seq
                    or not pg_visible_in_snapshot(fresh.xid, lane.target))
             limit $1
         ) as unsent",
    )
    .bind(COUNTED)
    .fetch_one(conn)
    .await
}

fn message(consumer: &str, parked: Parked) -> ParkedMessage {
    let headers = Headers(&parked.record.headers);
    let text = |name| headers.text(name).unwrap_or_default().to_owned();
    let mut payload = parked.record.payload.clone().unwrap_or_default();
    payload.truncate(4096);
    ParkedMessage {
        parked_id: parked.parked_id,
        consumer: consumer.to_owned(),
        r#type: text("ce_type"),
        event_id: text("ce_id"),
        key: parked.record.key.clone(),
        topic: parked.record.topic.clone(),
        partition: parked.record.partition,
        offset: parked.record.offset,
        reason: parked.reason,
        park_time: Some(timestamp(parked.parked_at)),
        payload,
    }
}

#[derive(Deserialize)]
struct Emitted {
    id: String,
    r#type: String,
    topic: String,
    key: String,
}

fn entry(row: &PgRow) -> sqlx::Result<TrailEntry> {
    let time =
        |column| row.try_get::<Option<DateTime<Utc>>, _>(column).map(|time| time.map(timestamp));
    let id = |column| {
        row.try_get::<Option<uuid::Uuid>, _>(column)
            .map(|id| id.map(|id| id.to_string()).unwrap_or_default())
    };
    let sqlx::types::Json(emitted) =
        row.try_get::<sqlx::types::Json<Vec<Emitted>>, _>("emitted")?;
    Ok(TrailEntry {
        kind: kind(row.try_get("kind")?).into(),
        event_id: id("event_id")?,
        consumer: row.try_get("consumer")?,
        r#type: row.try_get("type")?,
        correlation_id: id("correlation_id")?,
        causation_id: id("causation_id")?,
        source: row.try_get("source")?,
        create_time: time("created_at")?,
        kafka_time: time("kafka_time")?,
        receive_time: time("received_at")?,
        handle_time: time("handled_at")?,
        topic: row.try_get::<Option<_>, _>("topic")?.unwrap_or_default(),
        partition: row.try_get::<Option<_>, _>("partition")?.unwrap_or_default(),
        offset: row.try_get::<Option<_>, _>("offset")?.unwrap_or_default(),
        outcome: outcome(row.try_get("outcome")?).into(),
        trace_id: row.try_get::<Option<_>, _>("trace_id")?.unwrap_or_default(),
        emitted: emitted
            .into_iter()
            .map(|it| EmittedEvent {
                event_id: it.id,
                r#type: it.r#type,
                topic: it.topic,
                key: it.key,
            })
            .collect(),
        deliveries: row.try_get("deliveries")?,
    })
}

fn kind(text: &str) -> TrailKind {
    TrailKind::from_str_name(&format!("TRAIL_KIND_{}", text.to_uppercase())).unwrap_or_default()
}

fn outcome(text: &str) -> TrailOutcome {
    TrailOutcome::from_str_name(&format!("TRAIL_OUTCOME_{}", text.to_uppercase()))
        .unwrap_or_default()
}
