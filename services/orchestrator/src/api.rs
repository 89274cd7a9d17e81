//! SagaService: reading and following sagas, and an operator's verbs. A verb is one transaction: lock and load, decide,
//! save, append, note.

use std::pin::Pin;

use chassis::{
    call,
    doorbell::Doorbell,
    outbox, page_token,
    policy::Book as _,
    trail::{self, Entry, Kind, Outcome},
    violations::Violations,
    watch::{self, Watchers},
};
use proto::orchestrator::v1::{
    ForceCompensateRequest, ForceCompensateResponse, GetSagaRequest, GetSagaResponse,
    ListSagasRequest, ListSagasResponse, MarkResolvedRequest, MarkResolvedResponse,
    RetryStepRequest, RetryStepResponse, Saga as View, SagaView, SkipStepRequest, SkipStepResponse,
    UnparkRequest, UnparkResponse, WatchSagaRequest, WatchSagaResponse,
    saga_service_server::SagaService,
};
use sqlx::PgPool;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    NAME,
    book::Book,
    error::Error,
    filter,
    patience::Patience,
    row::Row,
    saga::{Change, Refusal},
    store,
    validate::{self, Verb},
    watch::Seen,
    wire,
};

/// Answers SagaService.
#[derive(Debug)]
pub struct Api {
    /// Connections to the service's database.
    pub pool: PgPool,
    /// Rung after every commit that sent something.
    pub doorbell: Doorbell,
    /// Where sagas are followed.
    pub watchers: Watchers<Seen>,
    /// How long answers are waited for.
    pub patience: Patience,
}

#[tonic::async_trait]
impl SagaService for Api {
    type WatchSagaStream = Pin<Box<dyn Stream<Item = watch::Answer<Seen>> + Send + 'static>>;

    async fn get_saga(
        &self,
        request: Request<GetSagaRequest>,
    ) -> Result<Response<GetSagaResponse>, Status> {
        let (saga_id, view) = validate::get(request.get_ref())?;
        let row = self.read(saga_id).await?;
        let mut saga = wire::saga(&row);
        if view == SagaView::Full {
            saga.history = self.history(saga_id, row.version).await?;
        }
        Ok(Response::new(GetSagaResponse { saga: Some(saga) }))
    }

    async fn list_sagas(
        &self,
        request: Request<ListSagasRequest>,
    ) -> Result<Response<ListSagasResponse>, Status> {
        let request = request.into_inner();
        let (filter, page_size) = filter::check(&request, chassis::clock::now())?;
        Ok(Response::new(self.list(&request, &filter, page_size).await?))
    }

    async fn watch_saga(
        &self,
        request: Request<WatchSagaRequest>,
    ) -> Result<Response<Self::WatchSagaStream>, Status> {
        let saga_id = validate::watch(request.get_ref())?;
        let after_version = request.get_ref().after_version;
        let row = self.read(saga_id).await?;
        let mut violations = Violations::default();
        if after_version > row.version {
            let version = row.version;
            violations.add("after_version", format!("is beyond the saga's version {version}"));
        }
        violations.finish()?;
        let from_now = after_version == 0;
        let first =
            from_now.then(|| WatchSagaResponse { saga: Some(wire::saga(&row)), change: None });
        let seen = Seen {
            saga_id,
            definition: row.definition,
            version: if from_now { row.version } else { after_version },
            is_final: row.finished_at.is_some(),
        };
        Ok(Response::new(Box::pin(self.watchers.watch(seen, first)?)))
    }

    async fn retry_step(
        &self,
        request: Request<RetryStepRequest>,
    ) -> Result<Response<RetryStepResponse>, Status> {
        let cause = call::cause(NAME, "RetryStep", &request);
        let RetryStepRequest { saga_id, act, step } = request.into_inner();
        let verb = Verb::check(&saga_id, act, cause)?;
        let step = Some(step.as_str()).filter(|step| !step.is_empty());
        let saga = self.act(verb, |row| row.definition.retry(&row.saga, step)).await?;
        Ok(Response::new(RetryStepResponse { saga: Some(saga) }))
    }

    async fn skip_step(
        &self,
        request: Request<SkipStepRequest>,
    ) -> Result<Response<SkipStepResponse>, Status> {
        let cause = call::cause(NAME, "SkipStep", &request);
        let SkipStepRequest { saga_id, act, step } = request.into_inner();
        let verb = Verb::check(&saga_id, act, cause)?;
        let saga = self.act(verb, |row| row.definition.skip(&row.saga, &step)).await?;
        Ok(Response::new(SkipStepResponse { saga: Some(saga) }))
    }

    async fn force_compensate(
        &self,
        request: Request<ForceCompensateRequest>,
    ) -> Result<Response<ForceCompensateResponse>, Status> {
        let cause = call::cause(NAME, "ForceCompensate", &request);
        let ForceCompensateRequest { saga_id, act } = request.into_inner();
        let verb = Verb::check(&saga_id, act, cause)?;
        let saga = self.act(verb, |row| row.definition.force(&row.saga)).await?;
        Ok(Response::new(ForceCompensateResponse { saga: Some(saga) }))
    }

    async fn mark_resolved(
        &self,
        request: Request<MarkResolvedRequest>,
    ) -> Result<Response<MarkResolvedResponse>, Status> {
        let cause = call::cause(NAME, "MarkResolved", &request);
        let MarkResolvedRequest { saga_id, act } = request.into_inner();
        let verb = Verb::check(&saga_id, act, cause)?;
        let saga = self.act(verb, |row| row.definition.resolve(&row.saga)).await?;
        Ok(Response::new(MarkResolvedResponse { saga: Some(saga) }))
    }

    async fn unpark(
        &self,
        request: Request<UnparkRequest>,
    ) -> Result<Response<UnparkResponse>, Status> {
        let cause = call::cause(NAME, "Unpark", &request);
        let UnparkRequest { saga_id, act } = request.into_inner();
        let verb = Verb::check(&saga_id, act, cause)?;
        let saga = self.act(verb, |row| row.definition.unpark(&row.saga)).await?;
        Ok(Response::new(UnparkResponse { saga: Some(saga) }))
    }
}

impl Api {
    async fn read(&self, saga_id: Uuid) -> Result<Row, Error> {
        call::concerns(saga_id);
        let mut conn = self.pool.acquire().await?;
        store::get(&mut conn, saga_id).await?.ok_or(Error::NotFound(saga_id))
    }

    /// Up to the version that is shown beside it.
    async fn history(
        &self,
        saga_id: Uuid,
        version: i64,
    ) -> Result<Vec<proto::orchestrator::v1::SagaChange>, Error> {
        let mut conn = self.pool.acquire().await?;
        let changes = store::changes_after(&mut conn, &[(saga_id, 0)]).await?;
        let shown = changes.iter().filter(|change| change.version <= version);
        Ok(shown.map(wire::change).collect())
    }

    async fn list(
        &self,
        request: &ListSagasRequest,
        filter: &store::Filter,
        page_size: i64,
    ) -> Result<ListSagasResponse, Error> {
        let mut conn = self.pool.acquire().await?;
        // One more than asked for tells whether another page follows.
        let mut rows = store::list(&mut conn, filter, page_size + 1).await?;
        let more = rows.len() as i64 > page_size;
        rows.truncate(usize::try_from(page_size).unwrap_or_default());
        let next_page_token = match rows.last() {
            Some(last) if more => page_token::write(&filter::question(request), last.saga_id)?,
            _ => String::new(),
        };
        Ok(ListSagasResponse { sagas: rows.iter().map(wire::saga).collect(), next_page_token })
    }

    async fn act(
        &self,
        verb: Verb,
        decide: impl FnOnce(&Row) -> Result<Change, Refusal> + Send,
    ) -> Result<View, Error> {
        let saga_id = verb.saga_id;
        call::concerns(saga_id);
        let mut tx = self.pool.begin().await?;
        let mut book = Book::load(&mut tx, &[saga_id].into()).await?;
        let row = book.find(saga_id).ok_or(Error::NotFound(saga_id))?;
        if row.version != verb.expected_version {
            return Err(Error::Stale(saga_id));
        }
        let change = decide(row).map_err(|refusal| Error::Refused(saga_id, refusal))?;
        let commands =
            book.take(saga_id, change, &verb.cause, Some(&verb.actor), &self.patience)?;
        book.save(&mut tx).await?;
        outbox::append(&mut tx, &commands).await?;
        let entry = Entry::local(Kind::Verb, &verb.cause, Outcome::Applied, &commands);
        trail::note(&mut tx, &[entry]).await?;
        tx.commit().await?;
        self.doorbell.ring();
        book.find(saga_id).map(wire::saga).ok_or(Error::NotFound(saga_id))
    }
}
