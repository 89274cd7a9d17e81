//! The sagas that a batch of messages touches, held in memory between load and save.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use chassis::{
    cause::Cause,
    outbox::Outgoing,
    policy::{self, Reaction, Refused, SaveError},
    trail::Outcome,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    definition::Definition,
    patience::Patience,
    row::{Actor, Recorded, Row},
    saga::Change,
    store,
};

/// The rows of a batch.
#[derive(Debug, Default)]
pub struct Book {
    rows: BTreeMap<Uuid, Row>,
    /// The versions that were loaded; absent means that there was no row.
    loaded: BTreeMap<Uuid, i64>,
    /// Sagas whose definition this program does not have: another version of it has begun them.
    foreign: BTreeSet<Uuid>,
    resent: BTreeSet<Uuid>,
    history: Vec<Recorded>,
}

impl policy::Book for Book {
    type Wants = BTreeSet<Uuid>;

    async fn load(conn: &mut PgConnection, wants: &Self::Wants) -> sqlx::Result<Self> {
        let saga_ids: Vec<Uuid> = wants.iter().copied().collect();
        let (rows, foreign) = store::lock(conn, &saga_ids).await?;
        Ok(Self {
            foreign: foreign.into_iter().collect(),
            loaded: rows.iter().map(|row| (row.saga_id, row.version)).collect(),
            rows: rows.into_iter().map(|row| (row.saga_id, row)).collect(),
            ..Self::default()
        })
    }

    async fn save(&self, conn: &mut PgConnection) -> Result<(), SaveError> {
        let (known, new): (Vec<_>, Vec<_>) =
            self.rows.values().partition(|row| self.loaded.contains_key(&row.saga_id));
        let changed: Vec<_> = known
            .into_iter()
            .filter_map(|row| Some((row, *self.loaded.get(&row.saga_id)?)))
            .filter(|(row, loaded)| row.version != *loaded || self.resent.contains(&row.saga_id))
            .collect();
        store::insert(conn, &new).await?;
        store::update(conn, &changed).await?;
        store::insert_changes(conn, &self.history).await?;
        Ok(())
    }
}

impl Book {
    /// A saga as it stands in memory, if there is one.
    pub fn find(&self, saga_id: Uuid) -> Option<&Row> {
        self.rows.get(&saga_id)
    }

    fn refuse_foreign(&self, saga_id: Uuid) -> Result<(), Refused> {
        if self.foreign.contains(&saga_id) {
            return Err(Refused::because(
                "the saga's definition is of another version of the orchestrator: run that one, then retry",
            ));
        }
        Ok(())
    }

    /// Begins a saga, unless it has begun.
    pub fn begin(
        &mut self,
        definition: &'static Definition,
        saga_id: Uuid,
        data: serde_json::Value,
        cause: &Cause,
        patience: &Patience,
    ) -> Result<Reaction, Refused> {
        self.refuse_foreign(saga_id)?;
        let Entry::Vacant(entry) = self.rows.entry(saga_id) else {
            return Ok(Reaction::nothing(Outcome::Duplicate));
        };
        let (row, recorded, commands) = Row::begin(definition, saga_id, data, cause, patience)?;
        entry.insert(row);
        self.history.push(recorded);
        Ok(Reaction::applied(commands))
    }

    /// Lets a saga weigh an event.
    pub fn hear(
        &mut self,
        saga_id: Uuid,
        event: &str,
        cause: &Cause,
        patience: &Patience,
    ) -> Result<Reaction, Refused> {
        self.refuse_foreign(saga_id)?;
        let Some(row) = self.rows.get_mut(&saga_id) else {
            return Ok(Reaction::nothing(Outcome::Ignored));
        };
        let was_parked = row.saga.parked.is_some();
        let answered = cause.causation_id.and_then(|id| row.definition.command_of(saga_id, id));
        let Some(change) = row.definition.hear(&row.saga, event, answered) else {
            let known = answered.is_some() || row.definition.fact(event).is_some();
            let repeated = known && !row.definition.is_finished(&row.saga);
            let outcome = if repeated { Outcome::Duplicate } else { Outcome::Ignored };
            return Ok(Reaction::nothing(outcome));
        };
        let (recorded, commands) = row.take(change, cause, None, patience)?;
        if let Some(why) = row.saga.parked.as_deref().filter(|_| !was_parked) {
            tracing::error!(%saga_id, state = row.saga.state, why, "a saga is parked");
        }
        self.history.push(recorded);
        Ok(Reaction::applied(commands))
    }

    /// Moves a saga on as a timer or a person has decided.
    pub fn take(
        &mut self,
        saga_id: Uuid,
        change: Change,
        cause: &Cause,
        actor: Option<&Actor>,
        patience: &Patience,
    ) -> Result<Vec<Outgoing>, Refused> {
        let Some(row) = self.rows.get_mut(&saga_id) else { return Ok(Vec::new()) };
        let (recorded, commands) = row.take(change, cause, actor, patience)?;
        self.history.push(recorded);
        Ok(commands)
    }

    /// Sends again what a saga waits for.
    pub fn resend(
        &mut self,
        saga_id: Uuid,
        cause: &Cause,
        patience: &Patience,
    ) -> Result<Vec<Outgoing>, Refused> {
        let Some(row) = self.rows.get_mut(&saga_id) else { return Ok(Vec::new()) };
        self.resent.insert(saga_id);
        row.resend(cause, patience)
    }
}
