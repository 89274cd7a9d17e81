//! A saga as data: its states, the command each of them sends, what leads from one to the next, and what undoes a command.
//! A definition never changes once sagas run by it: a better one is another version beside it.

use chassis::{cause::Cause, outbox::Outgoing, policy::Refused};
use uuid::Uuid;

/// What all sagas of one kind and version do.
#[derive(Debug)]
pub struct Definition {
    /// The kind, such as `order`.
    pub name: &'static str,
    /// Pinned on every saga when it begins.
    pub version: i32,
    /// The state it begins in.
    pub begins: &'static str,
    /// Every state.
    pub states: &'static [State],
    /// Weighed in every state that is neither an end nor undoes, before the state's own rules.
    pub always: &'static [Rule],
    /// The commands that have to be undone, once sent, when the saga's aim is given up.
    pub undoes: &'static [Undo],
    /// Events and verbs that count in every state, whoever caused them: recorded, and never forgotten.
    pub facts: &'static [&'static str],
    /// The verb, which is a fact too, by which a person gives the aim up.
    pub forced_by: &'static str,
    /// Where a person ends a saga whose compensation got stuck.
    pub resolved: &'static str,
    /// Writes a command.
    pub write: fn(&Sending<'_>) -> Result<Outgoing, Refused>,
}

/// One state.
#[derive(Debug)]
pub struct State {
    /// Its name.
    pub name: &'static str,
    /// What is done in it.
    pub does: Does,
    /// What leads out of it; the first that holds.
    pub rules: &'static [Rule],
}

/// What is done in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// Sends this command, unless it was sent before, and waits for its answer.
    Send(&'static str),
    /// Waits for facts; the saga is on its way to its aim.
    Wait,
    /// Sends, side by side, what undoes every command that was ever sent; then goes to this state.
    Undo(&'static str),
    /// Nothing can follow.
    End,
}

/// Leads to another state where all of its conditions hold.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The state's command was answered by this event.
    pub answer: Option<&'static str>,
    /// These facts are known.
    pub when: &'static [&'static str],
    /// None of these is.
    pub unless: &'static [&'static str],
    /// The next state.
    pub to: &'static str,
    /// Why the aim is given up, where it is.
    pub because: Option<&'static str>,
}

/// A command, and the one that undoes it.
#[derive(Debug)]
pub struct Undo {
    /// What is undone.
    pub command: &'static str,
    /// What undoes it.
    pub by: &'static str,
    /// The events that say that it is undone.
    pub done: &'static [&'static str],
}

/// A command to be written.
#[derive(Debug)]
pub struct Sending<'a> {
    /// Which.
    pub command: &'static str,
    /// The id that every attempt has.
    pub command_id: Uuid,
    /// The saga.
    pub saga_id: Uuid,
    /// What the saga was begun with.
    pub data: &'a serde_json::Value,
    /// Why the aim was given up, where it was.
    pub because: Option<&'static str>,
    /// What makes it be sent now.
    pub cause: &'a Cause,
}

impl Rule {
    /// Where the command is answered so.
    pub const fn on(answer: &'static str, to: &'static str) -> Self {
        Self { answer: Some(answer), when: &[], unless: &[], to, because: None }
    }

    /// Where this fact is known.
    pub const fn once(fact: &'static [&'static str], to: &'static str) -> Self {
        Self { answer: None, when: fact, unless: &[], to, because: None }
    }

    /// And this fact is known.
    #[must_use]
    pub const fn and(self, when: &'static [&'static str]) -> Self {
        Self { when, ..self }
    }

    /// And this fact is not known.
    #[must_use]
    pub const fn unless(self, unless: &'static [&'static str]) -> Self {
        Self { unless, ..self }
    }

    /// Which gives the aim up for this reason.
    #[must_use]
    pub const fn because(self, reason: &'static str) -> Self {
        Self { because: Some(reason), ..self }
    }
}

impl Definition {
    /// The state of this name.
    pub fn state(&self, name: &str) -> Option<&'static State> {
        self.states.iter().find(|state| state.name == name)
    }

    /// The fact of this name.
    pub fn fact(&self, name: &str) -> Option<&'static str> {
        self.facts.iter().copied().find(|fact| *fact == name)
    }

    /// The command of this name.
    pub fn command(&self, name: &str) -> Option<&'static str> {
        self.commands().find(|command| *command == name)
    }

    /// The answer of this name, of any command.
    pub fn answer(&self, name: &str) -> Option<&'static str> {
        let rules = self.rules().filter_map(|rule| rule.answer);
        let undone = self.undoes.iter().flat_map(|undo| undo.done.iter().copied());
        rules.chain(undone).chain(self.facts.iter().copied()).find(|answer| *answer == name)
    }

    /// The reason of this name for giving the aim up.
    pub fn reason(&self, name: &str) -> Option<&'static str> {
        self.rules().filter_map(|rule| rule.because).find(|reason| *reason == name)
    }

    /// Every command once.
    pub fn commands(&self) -> impl Iterator<Item = &'static str> {
        let sent = self.states.iter().filter_map(|state| match state.does {
            Does::Send(command) => Some(command),
            Does::Wait | Does::Undo(_) | Does::End => None,
        });
        let undo = |command: &&str| self.undoes.iter().any(|undo| undo.by == *command);
        sent.filter(move |command| !undo(command)).chain(self.undoes.iter().map(|undo| undo.by))
    }

    fn rules(&self) -> impl Iterator<Item = &'static Rule> {
        self.states.iter().flat_map(|state| state.rules).chain(self.always)
    }

    /// The id of a command of a saga: the same for every attempt, so that a participant recognises a repetition.
    pub fn command_id(&self, saga_id: Uuid, command: &str) -> Uuid {
        let undone = self.undoes.iter().find(|undo| undo.by == command);
        let (step, direction) = undone.map_or((command, "do"), |undo| (undo.command, "undo"));
        Uuid::new_v5(&saga_id, format!("{step}/{direction}").as_bytes())
    }

    /// The command of a saga that has this id.
    pub fn command_of(&self, saga_id: Uuid, command_id: Uuid) -> Option<&'static str> {
        self.commands().find(|command| self.command_id(saga_id, command) == command_id)
    }
}
