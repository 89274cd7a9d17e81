//! A saga as its row holds it, and how a change moves it on.

use std::{collections::BTreeMap, time::Duration};

use chassis::{cause::Cause, outbox::Outgoing, policy::Refused};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    definition::{Definition, Sending},
    patience::Patience,
    saga::{Change, Saga},
};

/// A saga.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its id.
    pub saga_id: Uuid,
    /// What it does.
    pub definition: &'static Definition,
    /// Where it stands.
    pub saga: Saga,
    /// How often, and since when, each of its commands was sent.
    pub sendings: BTreeMap<&'static str, Sendings>,
    /// What it was begun with.
    pub data: serde_json::Value,
    /// Moves with every change.
    pub version: i64,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// When it sends again, as it was loaded or decided since.
    pub due_at: Option<DateTime<Utc>>,
    /// When it is to send again.
    pub due: Due,
}

/// How often a command was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sendings {
    /// How often.
    pub attempts: i32,
    /// How many of them count no more, since a person has let the saga go on.
    pub forgiven: i32,
    /// When for the first time.
    pub first_at: DateTime<Utc>,
}

/// When a saga sends again what is not answered, counted by the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// When it was to anyway.
    AsBefore,
    /// Not at all.
    Never,
    /// So long from now.
    In(Duration),
}

/// One change of a saga, for its history.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The saga.
    pub saga_id: Uuid,
    /// Its version after the change.
    pub version: i64,
    /// Its state after the change.
    pub state: String,
    /// Whether it was parked after the change.
    pub parked: bool,
    /// The short name of the event, timer or verb.
    pub cause: String,
    /// Its id.
    pub cause_id: Uuid,
    /// The commands sent with it.
    pub commands: Vec<String>,
    /// Who acted.
    pub actor: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The trace it belongs to.
    pub trace_id: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Who acts, and why.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Who.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl Row {
    /// A saga that begins, with its first commands.
    pub fn begin(
        definition: &'static Definition,
        saga_id: Uuid,
        data: serde_json::Value,
        cause: &Cause,
        patience: &Patience,
    ) -> Result<(Self, Recorded, Vec<Outgoing>), Refused> {
        let change = definition.begin();
        let mut row = Self {
            saga_id,
            definition,
            saga: change.saga.clone(),
            sendings: BTreeMap::new(),
            data,
            version: 0,
            created_at: cause.now,
            updated_at: cause.now,
            finished_at: None,
            due_at: None,
            due: Due::Never,
        };
        let (recorded, commands) = row.take(change, cause, None, patience)?;
        Ok((row, recorded, commands))
    }

    /// Moves it on: what is to be kept of it in the history, and the commands to send.
    pub fn take(
        &mut self,
        change: Change,
        cause: &Cause,
        actor: Option<&Actor>,
        patience: &Patience,
    ) -> Result<(Recorded, Vec<Outgoing>), Refused> {
        let commands = self.write(&change.sends, change.saga.because, cause)?;
        let was = std::mem::replace(&mut self.saga, change.saga);
        self.version += 1;
        self.updated_at = cause.now;
        if was.parked.is_some() && self.saga.parked.is_none() {
            // As much patience as at first.
            let sendings = self.sendings.values_mut();
            sendings.for_each(|sendings| sendings.forgiven = sendings.attempts);
        }
        self.count(&change.sends, cause);
        if self.definition.is_finished(&self.saga) {
            self.finished_at = Some(cause.now);
        }
        let waits = self.saga.parked.is_none() && !self.definition.awaited(&self.saga).is_empty();
        if !waits {
            self.wait(Due::Never, cause);
        } else if was.parked.is_some() || was.state != self.saga.state || !change.sends.is_empty() {
            self.wait(Due::In(patience.after(self.attempts())), cause);
        }
        let went_wrong = self.saga.parked.clone().filter(|_| was.parked.is_none());
        let recorded = Recorded {
            saga_id: self.saga_id,
            version: self.version,
            state: self.saga.state.to_owned(),
            parked: self.saga.parked.is_some(),
            cause: cause.name.clone(),
            cause_id: cause.id,
            commands: change.sends.iter().copied().map(str::to_owned).collect(),
            actor: actor.map(|actor| actor.name.clone()),
            reason: actor.map(|actor| actor.reason.clone()).or(went_wrong),
            trace_id: cause.trace.trace_id(),
            created_at: cause.now,
        };
        Ok((recorded, commands))
    }

    /// Sends what is not answered once more. Not a change of the saga: the history does not grow with every attempt.
    pub fn resend(&mut self, cause: &Cause, patience: &Patience) -> Result<Vec<Outgoing>, Refused> {
        let awaited = self.definition.awaited(&self.saga);
        let commands = self.write(&awaited, self.saga.because, cause)?;
        self.count(&awaited, cause);
        self.wait(Due::In(patience.after(self.attempts())), cause);
        Ok(commands)
    }

    /// How often what is waited for was sent, since a person last let the saga go on.
    pub fn attempts(&self) -> i32 {
        let awaited = self.definition.awaited(&self.saga).into_iter();
        let sendings = awaited.filter_map(|command| self.sendings.get(command));
        sendings.map(|sendings| sendings.attempts - sendings.forgiven).min().unwrap_or_default()
    }

    fn write(
        &self,
        commands: &[&'static str],
        because: Option<&'static str>,
        cause: &Cause,
    ) -> Result<Vec<Outgoing>, Refused> {
        let sending = |command: &&'static str| Sending {
            command,
            command_id: self.definition.command_id(self.saga_id, command),
            saga_id: self.saga_id,
            data: &self.data,
            because,
            cause,
        };
        commands.iter().map(|command| (self.definition.write)(&sending(command))).collect()
    }

    fn count(&mut self, commands: &[&'static str], cause: &Cause) {
        for &command in commands {
            let first = Sendings { attempts: 0, forgiven: 0, first_at: cause.now };
            self.sendings.entry(command).or_insert(first).attempts += 1;
        }
    }

    /// What is shown until the row is loaded again is by our own clock.
    fn wait(&mut self, due: Due, cause: &Cause) {
        self.due = due;
        self.due_at = match due {
            Due::In(wait) => Some(cause.now + wait),
            Due::AsBefore | Due::Never => None,
        };
    }
}
