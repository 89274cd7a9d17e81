//! What caused what: the trails of all services merged into the tree of an order, without a tracing backend.

mod answers;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use proto::{
    Timestamp,
    operations::v1::{EmittedEvent, TrailEntry, TrailKind},
};
use serde::Serialize;

/// All that happened for an order, so far as it could be asked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Causality {
    /// The order.
    pub order_id: String,
    /// The services that answered.
    pub asked: Vec<String>,
    /// Those that did not, and why: what they handled is not seen.
    pub not_asked: BTreeMap<String, String>,
    /// The traces it left.
    pub trace_ids: BTreeSet<String>,
    /// Where Jaeger shows them, if it is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// Calls, timers and verbs, and messages nobody is known to have emitted, by their time.
    pub roots: Vec<Handling>,
}

/// One service has handled something.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Handling {
    /// Which.
    pub service: String,
    /// `message`, `call`, `timer` or `verb`.
    pub kind: String,
    /// The event's type, or the method.
    pub r#type: String,
    /// The event's id, or the one of what was done.
    pub event_id: String,
    /// What caused it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub causation_id: String,
    /// Who sent it.
    pub source: String,
    /// What came of it.
    pub outcome: String,
    /// How often it came.
    pub deliveries: i32,
    /// When it came about.
    pub created_at: Option<DateTime<Utc>>,
    /// When the service was done with it.
    pub handled_at: Option<DateTime<Utc>>,
    /// What it waited for on its way, if it came by Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hop: Option<Hop>,
    /// The trace it belongs to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    /// What was emitted with it.
    pub emitted: Vec<Emission>,
}

/// How a message came from its service to another.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// From its creation until the relay sent it, which is Kafka's time of it; milliseconds.
    pub waited_ms: Option<f64>,
    /// From then until the service began the attempt that succeeded; milliseconds.
    pub on_the_way_ms: Option<f64>,
    /// From then until its transaction was done; milliseconds.
    pub handling_ms: Option<f64>,
}

/// An event, and whoever has handled it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Emission {
    /// Its id.
    pub event_id: String,
    /// Its type.
    pub r#type: String,
    /// Its topic.
    pub topic: String,
    /// Its key.
    pub key: String,
    /// How often it is known to have been sent; this is the first time.
    pub sent: usize,
    /// Whether anybody that was asked has handled it; some events concern nobody.
    pub seen: bool,
    /// Who has.
    pub handled_by: Vec<Handling>,
}

impl Causality {
    /// Of an order that nobody was asked about yet.
    pub fn of(order_id: String) -> Self {
        Self {
            order_id,
            asked: Vec::new(),
            not_asked: BTreeMap::new(),
            trace_ids: BTreeSet::new(),
            links: Vec::new(),
            roots: Vec::new(),
        }
    }
}

/// Merges what the services answered: every message is hung below the first emission of its event.
pub fn merge(answers: Vec<(String, Vec<TrailEntry>)>) -> Vec<Handling> {
    let mut entries: Vec<(String, TrailEntry)> = answers
        .into_iter()
        .flat_map(|(service, entries)| {
            entries.into_iter().map(move |entry| (service.clone(), entry))
        })
        .collect();
    entries
        .sort_by_cached_key(|(service, entry)| (time(entry.handle_time.as_ref()), service.clone()));
    let mut unhung = Unhung { sent: keep_first(&mut entries), messages: HashMap::new() };
    let mut roots = Vec::new();
    for (service, entry) in entries {
        if entry.kind() == TrailKind::Message && unhung.sent.contains_key(&entry.event_id) {
            unhung.messages.entry(entry.event_id.clone()).or_default().push((service, entry));
        } else {
            roots.push((service, entry));
        }
    }
    handlings(roots, &mut unhung)
}

/// Leaves each event to the first that emitted it, and counts how often it was: a command is sent again until it is answered.
fn keep_first(entries: &mut [(String, TrailEntry)]) -> HashMap<String, usize> {
    let mut sent = HashMap::new();
    for (_, entry) in entries {
        entry.emitted.retain(|event| {
            let times = sent.entry(event.event_id.clone()).or_insert(0);
            *times += 1;
            *times == 1
        });
    }
    sent
}

struct Unhung {
    /// How often each event was sent.
    sent: HashMap<String, usize>,
    /// The messages that are not hung up yet, by their event; in the order of their handling.
    messages: HashMap<String, Vec<(String, TrailEntry)>>,
}

fn handlings(entries: Vec<(String, TrailEntry)>, unhung: &mut Unhung) -> Vec<Handling> {
    entries.into_iter().map(|(service, entry)| handling(service, entry, unhung)).collect()
}

fn handling(service: String, entry: TrailEntry, unhung: &mut Unhung) -> Handling {
    let created_at = time(entry.create_time.as_ref());
    let handled_at = time(entry.handle_time.as_ref());
    Handling {
        kind: name(entry.kind().as_str_name(), "TRAIL_KIND_"),
        outcome: name(entry.outcome().as_str_name(), "TRAIL_OUTCOME_"),
        hop: (entry.kind() == TrailKind::Message).then(|| hop(&entry)),
        emitted: entry.emitted.into_iter().map(|event| emission(event, unhung)).collect(),
        service,
        r#type: entry.r#type,
        event_id: entry.event_id,
        causation_id: entry.causation_id,
        source: entry.source,
        deliveries: entry.deliveries,
        created_at,
        handled_at,
        trace_id: entry.trace_id,
    }
}

fn hop(entry: &TrailEntry) -> Hop {
    let created = time(entry.create_time.as_ref());
    let kafka = time(entry.kafka_time.as_ref());
    let received = time(entry.receive_time.as_ref());
    let handled = time(entry.handle_time.as_ref());
    Hop {
        topic: entry.topic.clone(),
        partition: entry.partition,
        offset: entry.offset,
        waited_ms: between(created, kafka),
        on_the_way_ms: between(kafka, received),
        handling_ms: between(received, handled),
    }
}

/// Its messages are taken out of `unhung`: nothing can go round in a circle.
fn emission(event: EmittedEvent, unhung: &mut Unhung) -> Emission {
    let handled_by = unhung.messages.remove(&event.event_id).unwrap_or_default();
    Emission {
        sent: unhung.sent.get(&event.event_id).copied().unwrap_or_default(),
        seen: !handled_by.is_empty(),
        handled_by: handlings(handled_by, unhung),
        event_id: event.event_id,
        r#type: event.r#type,
        topic: event.topic,
        key: event.key,
    }
}

/// `own_origin` for `TRAIL_OUTCOME_OWN_ORIGIN`.
fn name(value: &str, prefix: &str) -> String {
    value.trim_start_matches(prefix).to_lowercase()
}

fn time(timestamp: Option<&Timestamp>) -> Option<DateTime<Utc>> {
    let timestamp = timestamp?;
    DateTime::from_timestamp(timestamp.seconds, u32::try_from(timestamp.nanos).ok()?)
}

/// Never below zero: the clocks are of several machines, and Kafka's counts whole milliseconds.
fn between(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Option<f64> {
    let span: TimeDelta = to? - from?;
    Some(span.num_microseconds().unwrap_or(i64::MAX).max(0) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use proto::operations::v1::TrailOutcome;

    use super::*;

    fn entry(kind: TrailKind, id: &str, second: i64, emitted: &[&str]) -> TrailEntry {
        let at = |offset: i64| Some(Timestamp { seconds: second + offset, nanos: 0 });
        let emitted = emitted.iter().map(|id| EmittedEvent {
            event_id: (*id).to_owned(),
            r#type: format!("shop.{id}"),
            ..Default::default()
        });
        TrailEntry {
            kind: kind.into(),
            event_id: id.to_owned(),
            r#type: format!("shop.{id}"),
            outcome: TrailOutcome::OwnOrigin.into(),
            create_time: at(0),
            kafka_time: at(1),
            receive_time: at(3),
            handle_time: at(6),
            emitted: emitted.collect(),
            deliveries: 1,
            ..Default::default()
        }
    }

    fn answer(service: &str, entries: Vec<TrailEntry>) -> (String, Vec<TrailEntry>) {
        (service.to_owned(), entries)
    }

    /// `service:id[emitted>(handled by)]`, so that a whole tree can be compared; `3x` before what was sent so often.
    fn shape(handlings: &[Handling]) -> String {
        let emitted = |emission: &Emission| {
            let times =
                if emission.sent == 1 { String::new() } else { format!("{}x ", emission.sent) };
            match emission.seen {
                true => format!("{times}{}>({})", emission.event_id, shape(&emission.handled_by)),
                false => format!("{times}{}>", emission.event_id),
            }
        };
        let one = |handling: &Handling| {
            let emitted: Vec<_> = handling.emitted.iter().map(emitted).collect();
            format!("{}:{}[{}]", handling.service, handling.event_id, emitted.join(" "))
        };
        handlings.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_message_hangs_below_the_emission_of_its_event() {
        use TrailKind::{Call, Message};
        let roots = merge(vec![
            answer("delivery", vec![entry(Message, "placed", 12, &["started"])]),
            answer(
                "orders",
                vec![
                    entry(Call, "cancel", 20, &["asked"]),
                    entry(Call, "place", 10, &["placed"]),
                    entry(Message, "reserved", 14, &[]),
                ],
            ),
            answer("products", vec![entry(Message, "placed", 11, &["reserved"])]),
        ]);
        assert_eq!(
            shape(&roots),
            "orders:place[placed>(products:placed[reserved>(orders:reserved[])] delivery:placed[started>])] \
             orders:cancel[asked>]"
        );
    }

    #[test]
    fn a_message_that_nobody_who_was_asked_has_emitted_is_a_root() {
        let roots =
            merge(vec![answer("delivery", vec![entry(TrailKind::Message, "placed", 1, &[])])]);
        assert_eq!(shape(&roots), "delivery:placed[]");
    }

    /// The timer sends the command again until it is answered, and the participant answers each copy.
    #[test]
    fn what_was_sent_again_is_shown_once_with_how_often() {
        use TrailKind::{Call, Message, Timer};
        let orchestrator = vec![
            entry(Message, "placed", 11, &["reserve"]),
            entry(Timer, "late", 13, &["reserve"]),
            entry(Timer, "later", 15, &["reserve", "lost"]),
            entry(Timer, "latest", 17, &["lost"]),
            entry(Message, "reserved", 21, &[]),
        ];
        let products = vec![
            entry(Message, "reserve", 16, &["reserved"]),
            entry(TrailKind::Verb, "retry", 18, &["reserved"]),
        ];
        let roots = merge(vec![
            // Whoever answers first: the first sending is the earliest.
            answer("products", products),
            answer("orchestrator", orchestrator.into_iter().rev().collect()),
            answer("orders", vec![entry(Call, "place", 10, &["placed"])]),
        ]);
        assert_eq!(
            shape(&roots),
            "orders:place[placed>(orchestrator:placed[3x reserve>(products:reserve[2x reserved>\
             (orchestrator:reserved[])])])] orchestrator:late[] orchestrator:later[2x lost>] \
             orchestrator:latest[] products:retry[]"
        );
        let json = serde_json::to_value(&roots).unwrap();
        let reserve = &json[0]["emitted"][0]["handledBy"][0]["emitted"][0];
        assert_eq!((&reserve["sent"], &reserve["seen"]), (&3.into(), &true.into()), "{json:#}");
    }

    #[test]
    fn what_claims_to_be_its_own_cause_is_shown_once() {
        let circle = vec![
            entry(TrailKind::Message, "one", 1, &["two"]),
            entry(TrailKind::Message, "two", 2, &["one"]),
        ];
        // Neither begins anything: nothing is shown rather than something endless.
        assert_eq!(shape(&merge(vec![answer("orders", circle)])), "");
    }

    #[test]
    fn the_waits_of_a_hop_are_told_apart_and_never_negative() {
        let roots = merge(vec![answer("orders", vec![entry(TrailKind::Message, "a", 0, &[])])]);
        let hop = roots[0].hop.as_ref().unwrap();
        assert_eq!(
            (hop.waited_ms, hop.on_the_way_ms, hop.handling_ms),
            (Some(1000.0), Some(2000.0), Some(3000.0))
        );
        assert_eq!(roots[0].outcome, "own_origin");
        let late = Timestamp { seconds: 9, nanos: 0 };
        let early = Timestamp { seconds: 8, nanos: 0 };
        assert_eq!(between(time(Some(&late)), time(Some(&early))), Some(0.0));
        assert_eq!(between(None, time(Some(&early))), None);
    }
}
