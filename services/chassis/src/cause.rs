//! What made a transaction happen, and the events that follow from it: every event says which event, call or timer
//! caused it, so that a service recognises the consequences of its own decisions.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use proto::event::Event;
use uuid::Uuid;

use crate::{
    envelope::{self, Envelope},
    outbox::Outgoing,
    spans,
    telemetry::TraceContext,
};

/// A causal path never grows beyond this; the oldest step goes first.
pub const LONGEST_PATH: usize = 16;

/// How the services come to agree about an order; pinned on the order and told with every event of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordination {
    /// The services react to each other's events.
    Choreography,
    /// The orchestrator drives the services by commands.
    Orchestration,
}

impl Coordination {
    /// Its name in headers, settings and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Choreography => "choreography",
            Self::Orchestration => "orchestration",
        }
    }

    /// Whether commands alone decide about an order of which this is said, or nothing: the reactions of the services to each
    /// other's events pass over it.
    pub fn is_commanded(pinned: Option<Self>) -> bool {
        pinned == Some(Self::Orchestration)
    }
}

impl FromStr for Coordination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "choreography" => Ok(Self::Choreography),
            "orchestration" => Ok(Self::Orchestration),
            _ => Err(format!("{text:?} is neither choreography nor orchestration")),
        }
    }
}

/// One step of a causal path: who did what, and its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The service.
    pub service: String,
    /// The short name of the event, call or timer.
    pub name: String,
    /// The id of the event, call or timer.
    pub id: Uuid,
}

/// The chain of causes behind an event, oldest first, at most [`LONGEST_PATH`] steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CausalPath(Vec<Step>);

impl CausalPath {
    /// Whether the event, call or timer of this id is among the causes.
    pub fn contains(&self, id: Uuid) -> bool {
        self.0.iter().any(|step| step.id == id)
    }

    /// The id of the first step of this kind.
    pub fn id_of(&self, service: &str, name: &str) -> Option<Uuid> {
        let step = self.0.iter().find(|step| step.service == service && step.name == name);
        step.map(|step| step.id)
    }

    /// The path with one step more.
    pub fn then(&self, service: &str, name: &str, id: Uuid) -> Self {
        let forgotten = (self.0.len() + 1).saturating_sub(LONGEST_PATH);
        let mut steps = self.0[forgotten..].to_vec();
        // A foreign source may be a whole URI, and so may a type; what follows from its event must still be readable.
        let [service, name] = [service, name].map(|text| text.replace(['/', ','], "-"));
        steps.push(Step { service, name, id });
        Self(steps)
    }
}

impl fmt::Display for CausalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}/{}/{}", step.service, step.name, step.id)?;
        }
        Ok(())
    }
}

impl FromStr for CausalPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let steps = text
            .split(',')
            .filter(|step| !step.is_empty())
            .map(parse_step)
            .collect::<Result<Vec<_>, _>>()?;
        if steps.len() > LONGEST_PATH {
            return Err(format!(
                "a causal path of {} steps is longer than {LONGEST_PATH}",
                steps.len()
            ));
        }
        Ok(Self(steps))
    }
}

fn parse_step(text: &str) -> Result<Step, String> {
    let mut parts = text.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next().map(Uuid::parse_str)) {
        (Some(service), Some(name), Some(Ok(id))) => {
            Ok(Step { service: service.to_owned(), name: name.to_owned(), id })
        }
        _ => Err(format!("{text:?} is not service/name/uuid")),
    }
}

/// What made a transaction happen: a message, a call, a timer or an operator's act.
#[derive(Clone, Debug)]
pub struct Cause {
    /// This service, the source of the events that follow.
    pub service: &'static str,
    /// The short name of the event, call or timer.
    pub name: String,
    /// The id of the event, call or timer: the causation id of what follows.
    pub id: Uuid,
    /// What caused it in turn: for an answer, the command.
    pub causation_id: Option<Uuid>,
    /// The order it belongs to.
    pub correlation_id: Option<Uuid>,
    /// The causes behind it, itself included.
    pub path: CausalPath,
    /// How the order is coordinated, where that is known.
    pub coordination: Option<Coordination>,
    /// The trace it belongs to.
    pub trace: TraceContext,
    /// When it is being handled: the time of what follows.
    pub now: DateTime<Utc>,
}

/// An event could not be written as JSON; a defect, since events are made from checked values.
#[derive(Debug, thiserror::Error)]
#[error("write {event} as JSON")]
pub struct EncodeError {
    event: &'static str,
    #[source]
    source: serde_json::Error,
}

impl Cause {
    /// A message as the cause of what its handling emits.
    pub fn message(service: &'static str, envelope: &Envelope, now: DateTime<Utc>) -> Self {
        let name = envelope.short_type().to_owned();
        Self {
            service,
            id: envelope.event_id,
            causation_id: envelope.causation_id,
            correlation_id: envelope.correlation_id,
            path: envelope.path.then(&envelope.source, &name, envelope.event_id),
            name,
            coordination: envelope.coordination,
            trace: envelope.trace.clone(),
            now,
        }
    }

    /// A call, timer or operator's act of this service as the cause.
    pub fn local(
        service: &'static str,
        name: &str,
        id: Uuid,
        trace: TraceContext,
        now: DateTime<Utc>,
    ) -> Self {
        let path = CausalPath::default().then(service, name, id);
        Self {
            service,
            name: name.to_owned(),
            id,
            causation_id: None,
            correlation_id: None,
            path,
            coordination: None,
            trace,
            now,
        }
    }

    /// The same cause, for the order it turned out to belong to.
    #[must_use]
    pub fn of_order(mut self, order_id: Uuid, coordination: Coordination) -> Self {
        self.correlation_id = Some(order_id);
        self.coordination = Some(coordination);
        self
    }

    /// The id of the answer to this command: the same however often the command comes.
    pub fn answer_id(&self) -> Uuid {
        Uuid::new_v5(&self.id, b"answer")
    }

    /// The event that answers this command.
    pub fn answer<E: Event>(&self, event: &E) -> Result<Outgoing, EncodeError> {
        self.emit_as(self.answer_id(), event)
    }

    /// An event that follows, under a new id.
    pub fn emit<E: Event>(&self, event: &E) -> Result<Outgoing, EncodeError> {
        self.emit_as(Uuid::now_v7(), event)
    }

    /// An event that follows, under an id that was chosen before, such as one kept in a row.
    pub fn emit_as<E: Event>(&self, event_id: Uuid, event: &E) -> Result<Outgoing, EncodeError> {
        let event_type = E::full_name();
        let created = spans::create(E::TOPIC, &event_type, event_id, self);
        let trace = created.trace(&self.trace);
        let payload =
            serde_json::to_vec(event).map_err(|source| EncodeError { event: E::NAME, source })?;
        let headers = envelope::headers(self, &event_type, event_id, event.key(), &trace);
        Ok(Outgoing {
            event_id,
            event_type,
            topic: E::TOPIC,
            key: event.key().to_owned(),
            headers,
            payload,
            created,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_its_header() {
        let path = CausalPath::default().then("orders", "PlaceOrder", Uuid::now_v7());
        let path = path.then("orders", "OrderPlaced", Uuid::now_v7());
        assert_eq!(path.to_string().parse(), Ok(path));
        assert_eq!(String::new().parse(), Ok(CausalPath::default()));
    }

    #[test]
    fn a_path_survives_whatever_sources_and_types_are_called() {
        let id = Uuid::now_v7();
        let path = CausalPath::default().then("https://example.org/a,b", "v1/changed,twice", id);
        assert_eq!(path.to_string().parse(), Ok(path));
    }

    #[test]
    fn a_path_forgets_its_oldest_step_when_it_is_full() {
        let first = Uuid::now_v7();
        let mut path = CausalPath::default().then("orders", "PlaceOrder", first);
        for _ in 1..LONGEST_PATH {
            path = path.then("orders", "Next", Uuid::now_v7());
        }
        assert!(path.contains(first) && path.id_of("orders", "PlaceOrder") == Some(first));
        assert_eq!(path.id_of("products", "PlaceOrder"), None);
        let last = Uuid::now_v7();
        path = path.then("orders", "Last", last);
        assert!(!path.contains(first) && path.contains(last));
        assert_eq!(path.0.len(), LONGEST_PATH);
    }

    #[test]
    fn a_path_that_is_too_long_or_malformed_is_refused() {
        let id = Uuid::now_v7();
        let long = vec![format!("a/b/{id}"); LONGEST_PATH + 1].join(",");
        assert!(long.parse::<CausalPath>().is_err());
        assert!("a/b/c".parse::<CausalPath>().is_err());
        assert!("a".parse::<CausalPath>().is_err());
    }
}
