//! Sagas and their histories in Postgres: functions on a connection, set-based. A row is locked before it is decided on,
//! and every write says which version it has seen.

use std::collections::BTreeSet;

use chassis::{policy::SaveError, wire};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

use crate::{
    definition::Definition,
    definitions,
    row::{Due, Recorded, Row, Sendings},
    saga::{Saga, Standing, Step},
};

/// Locks and reads sagas, in the one order in which everybody locks them; and names those whose definition is unknown here.
pub async fn lock(
    conn: &mut PgConnection,
    saga_ids: &[Uuid],
) -> sqlx::Result<(Vec<Row>, Vec<Uuid>)> {
    let rows =
        sqlx::query("select * from sagas where saga_id = any($1) order by saga_id for update")
            .bind(saga_ids)
            .fetch_all(conn)
            .await?;
    let (mut known, mut foreign) = (Vec::new(), Vec::new());
    for row in &rows {
        match definition(row)? {
            Some(_) => known.push(read(row)?),
            None => foreign.push(row.try_get("saga_id")?),
        }
    }
    Ok((known, foreign))
}

/// Reads one saga; none if there is no such.
pub async fn get(conn: &mut PgConnection, saga_id: Uuid) -> sqlx::Result<Option<Row>> {
    let row = sqlx::query("select * from sagas where saga_id = $1")
        .bind(saga_id)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Locks sagas that are to send again, that nobody else works on, and whose definition is known here. By the database's
/// clock, which all replicas share.
pub async fn lock_due(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "select saga_id
         from sagas
         where due_at <= now()
           and (definition, definition_version) in (select * from unnest($2::text[], $3::integer[]))
         order by due_at
         limit $1
         for update skip locked",
    )
    .bind(limit)
    .bind(definitions::ALL.map(|definition| definition.name))
    .bind(definitions::ALL.map(|definition| definition.version))
    .fetch_all(conn)
    .await
}

/// Which sagas a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<String>,
    /// Not ended.
    pub unfinished: bool,
    /// Parked.
    pub parked: bool,
    /// Begun at or before.
    pub begun_before: Option<DateTime<Utc>>,
    /// This one.
    pub saga_id: Option<Uuid>,
    /// After this saga in the list.
    pub after: Option<Uuid>,
}

/// A page of the sagas whose definition is known here, newest first: ids are UUIDv7, so by id downwards.
pub async fn list(conn: &mut PgConnection, filter: &Filter, limit: i64) -> sqlx::Result<Vec<Row>> {
    let rows = sqlx::query(
        "select *
         from sagas
         where ($1::text is null or state = $1)
           and (not $2 or not finished)
           and (not $3 or parked_reason is not null)
           and ($4::timestamptz is null or created_at <= $4)
           and ($5::uuid is null or saga_id = $5)
           and ($6::uuid is null or saga_id < $6)
           and (definition, definition_version) in (select * from unnest($8::text[], $9::integer[]))
         order by saga_id desc
         limit $7",
    )
    .bind(&filter.state)
    .bind(filter.unfinished)
    .bind(filter.parked)
    .bind(filter.begun_before)
    .bind(filter.saga_id)
    .bind(filter.after)
    .bind(limit)
    .bind(definitions::ALL.map(|definition| definition.name))
    .bind(definitions::ALL.map(|definition| definition.version))
    // Planned for these values: the unused conditions fold away.
    .persistent(false)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// Writes sagas that begin. [`SaveError::Conflict`] if one has begun meanwhile: it is never begun again.
pub async fn insert(conn: &mut PgConnection, new: &[&Row]) -> Result<(), SaveError> {
    if new.is_empty() {
        return Ok(());
    }
    let columns = Columns::of(new.iter().copied());
    let written = sqlx::query(
        "insert into sagas (saga_id, state, finished, facts, cancel_reason, parked_reason, steps, version, updated_at,
                            finished_at, due_at, definition, definition_version, data, created_at)
         select saga_id, state, finished, array(select jsonb_array_elements_text(facts)), cancel_reason, parked_reason,
                steps, version, updated_at, finished_at, clock_timestamp() + due_in * interval '1 second', definition,
                definition_version, data, created_at
         from unnest($1::uuid[], $2::text[], $3::boolean[], $4::jsonb[], $5::text[], $6::text[], $7::jsonb[],
                     $8::bigint[], $9::timestamptz[], $10::timestamptz[], $11::float8[], $12::text[], $13::integer[],
                     $14::jsonb[], $15::timestamptz[])
             as begun (saga_id, state, finished, facts, cancel_reason, parked_reason, steps, version, updated_at,
                       finished_at, due_in, definition, definition_version, data, created_at)
         on conflict do nothing",
    );
    let written = columns
        .bind(written)
        .bind(new.iter().map(|row| row.definition.name).collect::<Vec<_>>())
        .bind(new.iter().map(|row| row.definition.version).collect::<Vec<_>>())
        .bind(new.iter().map(|row| Json(&row.data)).collect::<Vec<_>>())
        .bind(new.iter().map(|row| row.created_at).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    SaveError::unless_all_written(new.len(), &written)
}

/// Writes sagas over the versions that were loaded.
pub async fn update(conn: &mut PgConnection, changed: &[(&Row, i64)]) -> Result<(), SaveError> {
    if changed.is_empty() {
        return Ok(());
    }
    let columns = Columns::of(changed.iter().map(|(row, _)| *row));
    let written = sqlx::query(
        "update sagas
         set state = next.state,
             finished = next.finished,
             facts = array(select jsonb_array_elements_text(next.facts)),
             cancel_reason = next.cancel_reason,
             parked_reason = next.parked_reason,
             steps = next.steps,
             version = next.version,
             updated_at = next.updated_at,
             finished_at = next.finished_at,
             due_at = case when next.keeps_due then sagas.due_at
                           else clock_timestamp() + next.due_in * interval '1 second' end
         from unnest($1::uuid[], $2::text[], $3::boolean[], $4::jsonb[], $5::text[], $6::text[], $7::jsonb[],
                     $8::bigint[], $9::timestamptz[], $10::timestamptz[], $11::float8[], $12::boolean[], $13::bigint[])
             as next (saga_id, state, finished, facts, cancel_reason, parked_reason, steps, version, updated_at,
                      finished_at, due_in, keeps_due, loaded)
         where sagas.saga_id = next.saga_id and sagas.version = next.loaded",
    );
    let written = columns
        .bind(written)
        .bind(changed.iter().map(|(row, _)| row.due == Due::AsBefore).collect::<Vec<_>>())
        .bind(changed.iter().map(|(_, loaded)| *loaded).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    SaveError::unless_all_written(changed.len(), &written)
}

/// Adds to histories.
pub async fn insert_changes(conn: &mut PgConnection, changes: &[Recorded]) -> sqlx::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into saga_changes (saga_id, version, state, parked, cause, cause_id, commands, actor, reason, trace_id,
                                   created_at)
         select saga_id, version, state, parked, cause, cause_id, array(select jsonb_array_elements_text(commands)),
                actor, reason, trace_id, created_at
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::boolean[], $5::text[], $6::uuid[], $7::jsonb[],
                     $8::text[], $9::text[], $10::text[], $11::timestamptz[])
             as change (saga_id, version, state, parked, cause, cause_id, commands, actor, reason, trace_id, created_at)",
    )
    .bind(changes.iter().map(|it| it.saga_id).collect::<Vec<_>>())
    .bind(changes.iter().map(|it| it.version).collect::<Vec<_>>())
    .bind(changes.iter().map(|it| it.state.as_str()).collect::<Vec<_>>())
    .bind(changes.iter().map(|it| it.parked).collect::<Vec<_>>())
    .bind(changes.iter().map(|it| it.cause.as_str()).collect::<Vec<_>>())
    .bind(changes.iter().map(|it| it.cause_id).collect::<Vec<_>>())
    .bind(changes.iter().map(|it| Json(&it.commands)).collect::<Vec<_>>())
    .bind(changes.iter().map(|it| it.actor.as_deref()).collect::<Vec<_>>())
    .bind(changes.iter().map(|it| it.reason.as_deref()).collect::<Vec<_>>())
    .bind(changes.iter().map(|it| it.trace_id.as_deref()).collect::<Vec<_>>())
    .bind(changes.iter().map(|it| it.created_at).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// The changes of each saga after a version of its own, by saga and version.
pub async fn changes_after(
    conn: &mut PgConnection,
    after: &[(Uuid, i64)],
) -> sqlx::Result<Vec<Recorded>> {
    let (saga_ids, versions): (Vec<Uuid>, Vec<i64>) = after.iter().copied().unzip();
    let rows = sqlx::query(
        "select change.*
         from unnest($1::uuid[], $2::bigint[]) as watched (saga_id, version)
         join saga_changes as change
           on change.saga_id = watched.saga_id
          and change.version > watched.version
         order by change.saga_id, change.version",
    )
    .bind(saga_ids)
    .bind(versions)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read_change).collect()
}

/// How many sagas are parked, counted up to 100,000.
pub const PARKED: &str = "
    select count(*)
    from (select from sagas where parked_reason is not null and not finished limit 100000) parked";

/// A step as its row holds it.
#[derive(Serialize, Deserialize)]
struct Kept {
    command: String,
    /// None while it is not answered.
    answer: Option<String>,
    #[serde(default)]
    skipped: bool,
    attempts: i32,
    #[serde(default)]
    forgiven: i32,
    first_at: proto::Timestamp,
}

/// What changes in a row, column by column.
#[derive(Default)]
struct Columns<'a> {
    saga_ids: Vec<Uuid>,
    states: Vec<&'static str>,
    finished: Vec<bool>,
    facts: Vec<Json<&'a BTreeSet<&'static str>>>,
    cancel_reasons: Vec<Option<&'static str>>,
    parked_reasons: Vec<Option<&'a str>>,
    steps: Vec<Json<Vec<Kept>>>,
    versions: Vec<i64>,
    updated_at: Vec<DateTime<Utc>>,
    finished_at: Vec<Option<DateTime<Utc>>>,
    due_in: Vec<Option<f64>>,
}

type Statement<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

impl<'a> Columns<'a> {
    fn of(rows: impl Iterator<Item = &'a Row>) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.saga_ids.push(row.saga_id);
            columns.states.push(row.saga.state);
            columns.finished.push(row.finished_at.is_some());
            columns.facts.push(Json(&row.saga.facts));
            columns.cancel_reasons.push(row.saga.because);
            columns.parked_reasons.push(row.saga.parked.as_deref());
            columns.steps.push(Json(row.saga.steps.iter().map(|step| keep(row, step)).collect()));
            columns.versions.push(row.version);
            columns.updated_at.push(row.updated_at);
            columns.finished_at.push(row.finished_at);
            columns.due_in.push(match row.due {
                Due::In(wait) => Some(wait.as_secs_f64()),
                Due::AsBefore | Due::Never => None,
            });
        }
        columns
    }

    fn bind<'q>(self, statement: Statement<'q>) -> Statement<'q>
    where
        'a: 'q,
    {
        statement
            .bind(self.saga_ids)
            .bind(self.states)
            .bind(self.finished)
            .bind(self.facts)
            .bind(self.cancel_reasons)
            .bind(self.parked_reasons)
            .bind(self.steps)
            .bind(self.versions)
            .bind(self.updated_at)
            .bind(self.finished_at)
            .bind(self.due_in)
    }
}

fn keep(row: &Row, step: &Step) -> Kept {
    let sendings = row.sendings.get(step.command);
    Kept {
        command: step.command.to_owned(),
        answer: match step.standing {
            Standing::Answered(answer) => Some(answer.to_owned()),
            Standing::Sent | Standing::Skipped => None,
        },
        skipped: step.standing == Standing::Skipped,
        attempts: sendings.map_or(0, |sendings| sendings.attempts),
        forgiven: sendings.map_or(0, |sendings| sendings.forgiven),
        first_at: wire::timestamp(sendings.map_or(row.created_at, |sendings| sendings.first_at)),
    }
}

fn read(row: &PgRow) -> sqlx::Result<Row> {
    let definition = definition(row)?
        .ok_or_else(|| corrupt("a definition of another version of the orchestrator"))?;
    let Json(kept): Json<Vec<Kept>> = row.try_get("steps")?;
    let Json(data) = row.try_get("data")?;
    let because: Option<&str> = row.try_get("cancel_reason")?;
    let facts: Vec<String> = row.try_get("facts")?;
    let state =
        definition.state(row.try_get("state")?).ok_or_else(|| corrupt("an unknown state"))?;
    let saga = Saga {
        state: state.name,
        steps: kept.iter().map(|kept| read_step(definition, kept)).collect::<Result<_, _>>()?,
        facts: facts.iter().filter_map(|fact| definition.fact(fact)).collect(),
        because: because.and_then(|because| definition.reason(because)),
        parked: row.try_get("parked_reason")?,
    };
    let sendings = kept.iter().filter_map(|kept| {
        let first_at = wire::time(&kept.first_at)?;
        Some((
            definition.command(&kept.command)?,
            Sendings { attempts: kept.attempts, forgiven: kept.forgiven, first_at },
        ))
    });
    Ok(Row {
        saga_id: row.try_get("saga_id")?,
        definition,
        sendings: sendings.collect(),
        saga,
        data,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        finished_at: row.try_get("finished_at")?,
        due_at: row.try_get("due_at")?,
        due: Due::AsBefore,
    })
}

fn definition(row: &PgRow) -> sqlx::Result<Option<&'static Definition>> {
    Ok(definitions::find(row.try_get("definition")?, row.try_get("definition_version")?))
}

fn read_step(definition: &Definition, kept: &Kept) -> sqlx::Result<Step> {
    let command = definition.command(&kept.command).ok_or_else(|| corrupt("an unknown command"))?;
    let standing = match kept.answer.as_deref() {
        _ if kept.skipped => Standing::Skipped,
        None => Standing::Sent,
        Some(answer) => Standing::Answered(
            definition.answer(answer).ok_or_else(|| corrupt("an unknown answer"))?,
        ),
    };
    Ok(Step { command, standing })
}

fn read_change(row: &PgRow) -> sqlx::Result<Recorded> {
    Ok(Recorded {
        saga_id: row.try_get("saga_id")?,
        version: row.try_get("version")?,
        state: row.try_get("state")?,
        parked: row.try_get("parked")?,
        cause: row.try_get("cause")?,
        cause_id: row.try_get("cause_id")?,
        commands: row.try_get("commands")?,
        actor: row.try_get("actor")?,
        reason: row.try_get("reason")?,
        trace_id: row.try_get("trace_id")?,
        created_at: row.try_get("created_at")?,
    })
}

fn corrupt(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("a saga names {what}").into())
}
