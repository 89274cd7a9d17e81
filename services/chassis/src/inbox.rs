//! The inbox: handles a polled batch in one transaction (load, decide in order, save, append, note the trail), and parks
//! the key of a message that cannot be handled while all other keys flow on.

mod redriving;
mod rehearsal;

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use prost::Name as _;
use proto::event::Event;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    batch::{Batch, Incoming},
    cause::{Cause, Coordination},
    clock,
    envelope::{Envelope, Headers},
    failure::Failure,
    outbox,
    parked::{self, Parked},
    policy::{Book, Decoded, Handler, Policy, Reaction, Refused},
    spans::{self, Span},
    telemetry::TraceContext,
    trail::{self, Outcome},
};

/// A message as Kafka handed it over.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Kafka's timestamp.
    pub kafka_time: DateTime<Utc>,
    /// Its ordering key; empty when it had none.
    pub key: String,
    /// Its headers, as they came.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Its payload; none for a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// How many messages of a batch ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By outcome; absent is zero.
    pub outcomes: HashMap<Outcome, usize>,
    /// Messages of a type that nobody here reacts to.
    pub unknown: usize,
    /// Events that were appended to the outbox.
    pub emitted: usize,
}

impl Report {
    /// How many messages ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.outcomes.get(&outcome).copied().unwrap_or_default()
    }

    /// How many messages were there to be handled.
    fn handled(&self) -> usize {
        self.outcomes.values().sum::<usize>() + self.unknown
    }

    fn add(&mut self, other: Self) {
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.unknown += other.unknown;
        self.emitted += other.emitted;
    }
}

/// Why a batch was not handled; all of its messages are still to be handled.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The database is away or busy: try the batch again, on a new connection if this one is broken.
    #[error("handle a batch of messages")]
    Database(#[from] sqlx::Error),
}

/// A service's reactions, by the type of event.
pub struct Inbox<B> {
    service: &'static str,
    policies: HashMap<String, Box<dyn Handler<B>>>,
    topics: BTreeSet<&'static str>,
    only: Option<Coordination>,
}

impl<B> std::fmt::Debug for Inbox<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox")
            .field("service", &self.service)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

impl<B: Book> Inbox<B> {
    /// An inbox that reacts to nothing yet; `service` is also the consumer's name in the trail.
    pub fn new(service: &'static str) -> Self {
        Self { service, policies: HashMap::new(), topics: BTreeSet::new(), only: None }
    }

    /// Adds a reaction. One policy per type of event.
    #[must_use]
    pub fn on<P: Policy<B>>(mut self, policy: P) -> Self {
        let replaced = self.policies.insert(P::Event::full_name(), Box::new(policy));
        assert!(replaced.is_none(), "two policies react to {}", P::Event::full_name());
        self.topics.insert(P::Event::TOPIC);
        self
    }

    /// Passes over what does not say that its order is coordinated in this way, as if nobody here reacted to it: it costs no
    /// look into the database.
    #[must_use]
    pub fn only(self, coordination: Coordination) -> Self {
        Self { only: Some(coordination), ..self }
    }

    /// The service, which is the consumer's name in the trail.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// Whether somebody here reacts to events of this type, given by its full name.
    pub fn hears(&self, event_type: &str) -> bool {
        self.policies.contains_key(event_type)
    }

    /// The topics to subscribe to.
    pub fn topics(&self) -> impl Iterator<Item = &'static str> {
        self.topics.iter().copied()
    }

    /// Records how long each message that somebody here reacts to was on its way. Once per delivery.
    pub(crate) fn handed_over(&self, records: &[Record]) {
        if !spans::is_on() {
            return;
        }
        for record in records {
            if self.concerns(Headers(&record.headers)) {
                spans::transit(record, self.service);
            }
        }
    }

    /// Handles a batch: all of it is committed when this returns Ok, and nothing of what is not is lost when it does not.
    /// Poison parks. Cancelling the future rolls back.
    pub async fn handle(
        &self,
        conn: &mut PgConnection,
        records: &[Record],
    ) -> Result<Report, InboxError> {
        match self.attempt_until_decided(conn, records, None).await? {
            Ok(report) => Ok(report),
            Err(_) if records.len() > 1 => self.handle_one_by_one(conn, records).await,
            Err(reason) => self.park(conn, &records[0], &reason).await,
        }
    }

    async fn handle_one_by_one(
        &self,
        conn: &mut PgConnection,
        records: &[Record],
    ) -> Result<Report, InboxError> {
        let mut total = Report::default();
        for record in records {
            total.add(Box::pin(self.handle(conn, std::slice::from_ref(record))).await?);
        }
        Ok(total)
    }

    async fn park(
        &self,
        conn: &mut PgConnection,
        record: &Record,
        reason: &Refused,
    ) -> Result<Report, InboxError> {
        let mut tx = conn.begin().await?;
        let incoming = self.receive(record, clock::now());
        let mut report = Report::default();
        if let Some(mut incoming) = incoming {
            let mut span = incoming.begin(self.service);
            span.in_scope(|| {
                tracing::warn!(key = record.key, topic = record.topic, offset = record.offset, %reason, "parked a message");
            });
            span.came_to(Outcome::Parked);
            span.failed(reason);
            parked::add(&mut tx, self.service, &[(record, reason.to_string())]).await?;
            trail::note(
                &mut tx,
                incoming.entry(self.service, &Reaction::nothing(Outcome::Parked)).as_slice(),
            )
            .await?;
            report.outcomes.insert(Outcome::Parked, 1);
        }
        tx.commit().await?;
        Ok(report)
    }

    /// `Ok(Err(..))`: one of the messages cannot be handled, and nothing was.
    async fn attempt_until_decided(
        &self,
        conn: &mut PgConnection,
        records: &[Record],
        redriven: Option<&Parked>,
    ) -> Result<Result<Report, Refused>, InboxError> {
        loop {
            match self.attempt(conn, records, redriven).await {
                Ok(report) => return Ok(Ok(report)),
                Err(Failure::Again) => tokio::task::yield_now().await,
                Err(Failure::Poisoned(reason)) => return Ok(Err(reason)),
                Err(Failure::Database(error)) => return Err(error.into()),
            }
        }
    }

    /// One attempt at the whole batch. Each message has a span of its own in it.
    async fn attempt(
        &self,
        conn: &mut PgConnection,
        records: &[Record],
        redriven: Option<&Parked>,
    ) -> Result<Report, Failure> {
        let now = clock::now();
        let mut incoming: Vec<_> =
            records.iter().filter_map(|record| self.receive(record, now)).collect();
        if incoming.is_empty() && redriven.is_none() {
            return Ok(Report { unknown: records.len(), ..Report::default() });
        }
        let mut spans: Vec<Span> =
            incoming.iter_mut().map(|message| message.begin(self.service)).collect();
        let mut transaction =
            spans::transaction(self.service, incoming.iter().map(|message| &message.trace));
        let mut batch = Batch::default();
        let ended = self.transact(conn, &incoming, &mut spans, &mut batch, redriven, now).await;
        if let Err(failure) = &ended {
            let created = batch.events.iter_mut().map(|event| &mut event.created);
            let spans = spans.iter_mut().chain([&mut transaction]).chain(created);
            spans.for_each(|span| span.failed(failure));
        }
        ended?;
        let unknown = records.len() - incoming.len();
        Ok(Report { outcomes: batch.outcomes, unknown, emitted: batch.events.len() })
    }

    /// One transaction over the whole batch.
    async fn transact<'a>(
        &self,
        conn: &mut PgConnection,
        incoming: &[Incoming<'a, B>],
        spans: &mut [Span],
        batch: &mut Batch<'a>,
        redriven: Option<&Parked>,
        now: DateTime<Utc>,
    ) -> Result<(), Failure> {
        let mut tx = conn.begin().await?;
        let mut held_back = match redriven {
            Some(parked) if !parked::take(&mut tx, parked).await? => return Ok(()),
            Some(_) => HashSet::new(),
            None => {
                parked::keys(
                    &mut tx,
                    self.service,
                    incoming.iter().map(|message| message.record.key.as_str()),
                )
                .await?
            }
        };
        let mut seen = self.seen(&mut tx, incoming).await?;

        let mut book = self.load(&mut tx, incoming, &seen).await?;
        for (message, span) in incoming.iter().zip(spans) {
            let reaction =
                match self.verdict(message, &mut held_back, &mut seen, redriven.is_some()) {
                    Verdict::Park(reason) if redriven.is_some() => {
                        return Err(Failure::Poisoned(reason));
                    }
                    Verdict::Park(reason) => {
                        span.failed(&reason);
                        batch.parked.push((message.record, reason.to_string()));
                        Reaction::nothing(Outcome::Parked)
                    }
                    Verdict::Duplicate => Reaction::nothing(Outcome::Duplicate),
                    Verdict::Decide(envelope, decoded) => span.in_scope(|| {
                        let cause = Cause::message(self.service, envelope, now);
                        decoded.react(&mut book, &cause).map_err(Failure::Poisoned)
                    })?,
                };
            span.came_to(reaction.outcome);
            batch.add(self.service, message, reaction);
        }

        book.save(&mut tx).await?;
        outbox::append(&mut tx, &batch.events).await?;
        trail::note(&mut tx, &batch.entries).await?;
        parked::add(&mut tx, self.service, &batch.parked).await?;
        tx.commit().await?;
        book.committed();
        Ok(())
    }

    /// What does not say its type concerns us: nobody can know that it does not.
    fn concerns(&self, headers: Headers<'_>) -> bool {
        let coordination = headers.text("ce_coordination");
        headers.text("ce_type").is_none_or(|it| self.policies.contains_key(it))
            && self.only.is_none_or(|only| coordination == Some(only.as_str()))
    }

    /// Reads headers and payload; none for a type that nobody here reacts to.
    fn receive<'a>(
        &'a self,
        record: &'a Record,
        received_at: DateTime<Utc>,
    ) -> Option<Incoming<'a, B>> {
        let headers = Headers(&record.headers);
        if !self.concerns(headers) {
            return None;
        }
        let handler = headers.text("ce_type").and_then(|it| self.policies.get(it));
        let envelope = Envelope::parse(headers).map_err(|error| Refused(error.to_string()));
        let decoded = match (&envelope, handler, &record.payload) {
            (Ok(envelope), Some(handler), Some(payload)) => {
                handler.decode(envelope.content_type, payload)
            }
            (Err(refused), _, _) => Err(refused.clone()),
            _ => Err(Refused::because("there is no payload")),
        };
        let trace = match &envelope {
            Ok(envelope) => envelope.trace.clone(),
            Err(_) => TraceContext::from_headers(headers),
        };
        Some(Incoming { record, received_at, trace, envelope, decoded })
    }

    async fn seen(
        &self,
        tx: &mut PgConnection,
        incoming: &[Incoming<'_, B>],
    ) -> sqlx::Result<HashSet<Uuid>> {
        let envelopes = incoming.iter().filter_map(|message| message.envelope.as_ref().ok());
        trail::seen(tx, self.service, envelopes.map(|envelope| (envelope.event_id, envelope.time)))
            .await
    }

    async fn load(
        &self,
        tx: &mut PgConnection,
        incoming: &[Incoming<'_, B>],
        seen: &HashSet<Uuid>,
    ) -> Result<B, Failure> {
        let mut wants = B::Wants::default();
        for message in incoming {
            if let (Ok(_), Ok(decoded)) = (&message.envelope, &message.decoded)
                && !message.is_done(seen)
            {
                decoded.wants(&mut wants).map_err(Failure::Poisoned)?;
            }
        }
        Ok(B::load(tx, &wants).await?)
    }

    fn verdict<'m>(
        &self,
        message: &'m Incoming<'_, B>,
        held_back: &mut HashSet<String>,
        seen: &mut HashSet<Uuid>,
        redriven: bool,
    ) -> Verdict<'m, B> {
        match (&message.envelope, &message.decoded) {
            _ if message.is_done(seen) => Verdict::Duplicate,
            _ if held_back.contains(&message.record.key) => {
                Verdict::Park(Refused::because("an earlier message of this key is parked"))
            }
            (Ok(envelope), Ok(decoded)) => {
                seen.insert(envelope.event_id);
                Verdict::Decide(envelope, decoded.as_ref())
            }
            (Err(refused), _) | (_, Err(refused)) => {
                if !redriven {
                    held_back.insert(message.record.key.clone());
                }
                Verdict::Park(refused.clone())
            }
        }
    }
}

/// What to do with one message of a batch.
enum Verdict<'m, B: Book> {
    Decide(&'m Envelope, &'m (dyn Decoded<B> + 'm)),
    Duplicate,
    Park(Refused),
}
