//! Where a saga stands, and what becomes of it: (saga, event or verb) -> (saga', commands). Pure, and knows nothing of what
//! the saga is about: what happens is recorded first, and then the definition's rules are weighed until none holds.

use std::collections::BTreeSet;

use crate::definition::{Definition, Does, Rule, Undo};

/// Where a saga stands. The names are those of its definition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Saga {
    /// The state.
    pub state: &'static str,
    /// Every command that was sent, in the order of the first sending.
    pub steps: Vec<Step>,
    /// What has become known.
    pub facts: BTreeSet<&'static str>,
    /// Why the aim was given up, where it was.
    pub because: Option<&'static str>,
    /// Why nothing is sent again until a person acts. Answers and facts still count.
    pub parked: Option<String>,
}

/// A command that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// Which.
    pub command: &'static str,
    /// What came of it.
    pub standing: Standing,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is not answered. It may have been carried out all the same.
    Sent,
    /// This event answered it.
    Answered(&'static str),
    /// A person said that it need not be answered.
    Skipped,
}

/// What became of a saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The saga as it is to be.
    pub saga: Saga,
    /// The commands to send with it.
    pub sends: Vec<&'static str>,
}

/// Why a verb is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No command waits for an answer.
    #[error("no command waits for an answer")]
    NothingWaits,
    /// No command of that name waits for an answer.
    #[error("no command of that name waits for an answer")]
    NotWaiting,
    /// The saga could go on without the participant's own word.
    #[error(
        "only a command that undoes may be skipped, and only once the aim is given up; \
         to end the saga otherwise, force its compensation"
    )]
    NotSkippable,
    /// It has given its aim up already, has reached it, or the goods have left.
    #[error("it is too late to give the saga's aim up")]
    TooLate,
    /// It is not parked.
    #[error("the saga is not parked")]
    NotParked,
}

impl Definition {
    /// A saga that begins.
    pub fn begin(&self) -> Change {
        let saga = Saga {
            state: self.begins,
            steps: Vec::new(),
            facts: BTreeSet::new(),
            because: None,
            parked: None,
        };
        let mut change = Change { saga, sends: Vec::new() };
        self.enter(&mut change, self.begins, None);
        self.go_on(&mut change);
        change
    }

    /// What becomes of a saga that hears of an event; `answered` is the command of this saga that caused it, if one did.
    /// None where nothing does: it was heard before, or does not matter.
    pub fn hear(&self, saga: &Saga, event: &str, answered: Option<&'static str>) -> Option<Change> {
        if self.is_finished(saga) {
            return None;
        }
        let mut next = saga.clone();
        if let (Some(command), Some(answer)) = (answered, self.answer(event)) {
            let waits =
                |step: &&mut Step| step.command == command && step.standing == Standing::Sent;
            if let Some(step) = next.steps.iter_mut().find(waits) {
                step.standing = Standing::Answered(answer);
            }
        }
        next.facts.extend(self.fact(event));
        if next == *saga {
            return None;
        }
        Some(self.weighed(next))
    }

    /// Gives the aim up because a person says so, as the rules for that fact have it.
    pub fn force(&self, saga: &Saga) -> Result<Change, Refusal> {
        let mut next = saga.clone();
        next.facts.insert(self.forced_by);
        let change = self.weighed(next);
        if change.saga.state == saga.state { Err(Refusal::TooLate) } else { Ok(change) }
    }

    /// Goes on without the answer to a command that undoes.
    pub fn skip(&self, saga: &Saga, command: &str) -> Result<Change, Refusal> {
        let awaited = self.awaited(saga);
        if !awaited.contains(&command) {
            return Err(Refusal::NotWaiting);
        }
        if !matches!(self.does(saga), Does::Undo(_)) {
            return Err(Refusal::NotSkippable);
        }
        let mut next = saga.clone();
        for step in next.steps.iter_mut().filter(|step| step.command == command) {
            step.standing = Standing::Skipped;
        }
        Ok(self.weighed(next))
    }

    /// Sends commands again whose answers the saga needs, of this name or all of them; one that was answered in a way that
    /// leads nowhere is asked anew.
    pub fn retry(&self, saga: &Saga, command: Option<&str>) -> Result<Change, Refusal> {
        let awaited = self.awaited(saga).into_iter();
        let sends: Vec<_> =
            awaited.filter(|awaited| command.is_none_or(|command| command == *awaited)).collect();
        if sends.is_empty() {
            return Err(command.map_or(Refusal::NothingWaits, |_| Refusal::NotWaiting));
        }
        let mut next = saga.clone();
        for step in next.steps.iter_mut().filter(|step| sends.contains(&step.command)) {
            step.standing = Standing::Sent;
        }
        Ok(Change { saga: next, sends })
    }

    /// Lets a parked saga go on: everything it waits for is sent again.
    pub fn unpark(&self, saga: &Saga) -> Result<Change, Refusal> {
        if saga.parked.is_none() {
            return Err(Refusal::NotParked);
        }
        let mut change = self.retry(saga, None)?;
        change.saga.parked = None;
        Ok(change)
    }

    /// Ends a parked saga.
    pub fn resolve(&self, saga: &Saga) -> Result<Change, Refusal> {
        if saga.parked.is_none() {
            return Err(Refusal::NotParked);
        }
        let saga = Saga { state: self.resolved, parked: None, ..saga.clone() };
        Ok(Change { saga, sends: Vec::new() })
    }

    /// Why a saga is left to a person whose commands were sent so often without an answer, if it is: only what undoes is
    /// ever given up.
    pub fn gives_up(&self, saga: &Saga, attempts: i32, at_most: i32) -> Option<String> {
        (self.is_undoing(saga) && attempts >= at_most).then(|| {
            let awaited = self.awaited(saga).join(", ");
            format!("no answer to {awaited} after {attempts} attempts")
        })
    }

    /// Leaves a saga to a person.
    pub fn park(&self, saga: &Saga, why: &str) -> Change {
        Change { saga: Saga { parked: Some(why.to_owned()), ..saga.clone() }, sends: Vec::new() }
    }

    /// Whether nothing can follow.
    pub fn is_finished(&self, saga: &Saga) -> bool {
        self.does(saga) == Does::End
    }

    /// Whether what the saga does now is to undo what it did.
    pub fn is_undoing(&self, saga: &Saga) -> bool {
        matches!(self.does(saga), Does::Undo(_))
    }

    /// The commands without whose answers the saga does not go on.
    pub fn awaited(&self, saga: &Saga) -> Vec<&'static str> {
        match self.does(saga) {
            Does::Send(command) => vec![command],
            Does::Undo(_) => self
                .to_undo(saga)
                .filter(|undo| !is_undone(saga, undo))
                .map(|undo| undo.by)
                .collect(),
            Does::Wait | Does::End => Vec::new(),
        }
    }

    fn does(&self, saga: &Saga) -> Does {
        self.state(saga.state).map_or(Does::End, |state| state.does)
    }

    fn weighed(&self, saga: Saga) -> Change {
        let mut change = Change { saga, sends: Vec::new() };
        self.go_on(&mut change);
        change
    }

    /// From state to state while some rule holds. No path is longer than there are states, so a definition that leads in
    /// a circle stops.
    fn go_on(&self, change: &mut Change) {
        for _ in self.states {
            match self.next(&change.saga) {
                Some((to, because)) => self.enter(change, to, because),
                None => break,
            }
        }
        if let Some(why) = self.leads_nowhere(&change.saga) {
            change.saga.parked = Some(why);
        }
    }

    fn next(&self, saga: &Saga) -> Option<(&'static str, Option<&'static str>)> {
        let state = self.state(saga.state)?;
        match state.does {
            Does::End => None,
            Does::Undo(then) => {
                self.to_undo(saga).all(|undo| is_undone(saga, undo)).then_some((then, None))
            }
            Does::Send(_) | Does::Wait => {
                let answer = match state.does {
                    Does::Send(command) => answer_to(saga, command),
                    _ => None,
                };
                let mut rules = self.always.iter().chain(state.rules);
                rules.find(|rule| holds(rule, answer, saga)).map(|rule| (rule.to, rule.because))
            }
        }
    }

    fn enter(&self, change: &mut Change, to: &'static str, because: Option<&'static str>) {
        let saga = &mut change.saga;
        saga.state = to;
        saga.parked = None;
        saga.because = because.or(saga.because);
        let commands = match self.does(saga) {
            Does::Send(command) => vec![command],
            Does::Undo(_) => self.to_undo(saga).map(|undo| undo.by).collect(),
            Does::Wait => {
                saga.because = None;
                Vec::new()
            }
            Does::End => Vec::new(),
        };
        for command in commands {
            if saga.steps.iter().all(|step| step.command != command) {
                saga.steps.push(Step { command, standing: Standing::Sent });
                change.sends.push(command);
            }
        }
    }

    /// What undoes the commands that were ever sent: one that was not answered may have been carried out.
    fn to_undo(&self, saga: &Saga) -> impl Iterator<Item = &'static Undo> {
        let sent = |command| saga.steps.iter().any(|step| step.command == command);
        self.undoes.iter().filter(move |undo| sent(undo.command))
    }

    /// An answer that no rule knows: only a person can say what it means.
    fn leads_nowhere(&self, saga: &Saga) -> Option<String> {
        let stuck = self.awaited(saga).into_iter().find_map(|command| {
            answer_to(saga, command).map(|answer| format!("{command} was answered by {answer}"))
        });
        stuck.filter(|_| !self.is_finished(saga))
    }
}

fn holds(rule: &Rule, answer: Option<&'static str>, saga: &Saga) -> bool {
    (rule.answer.is_none() || rule.answer == answer)
        && rule.when.iter().all(|fact| saga.facts.contains(fact))
        && !rule.unless.iter().any(|fact| saga.facts.contains(fact))
}

fn answer_to(saga: &Saga, command: &str) -> Option<&'static str> {
    saga.steps.iter().find(|step| step.command == command).and_then(|step| match step.standing {
        Standing::Answered(answer) => Some(answer),
        Standing::Sent | Standing::Skipped => None,
    })
}

fn is_undone(saga: &Saga, undo: &Undo) -> bool {
    saga.steps.iter().any(|step| {
        step.command == undo.by
            && match step.standing {
                Standing::Answered(answer) => undo.done.contains(&answer),
                Standing::Skipped => true,
                Standing::Sent => false,
            }
    })
}
