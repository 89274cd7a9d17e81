//! What caused what, as a picture: the services' trails merged into a tree, each hop with how long it waited, travelled and
//! was handled, drawn on the time of the call that began it.

use std::collections::BTreeSet;

use askama::Template;
use causality::{Causality, Emission, Handling, Hop};
use chassis::telemetry::TraceContext;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use proto::{
    orchestrator::v1::{Saga, StepState},
    orders::v1::{Coordination, Order},
};
use uuid::Uuid;

use crate::{hall::Hall, service::Service, texts::Texts};

/// The width of the picture of one hop.
const WIDTH: f64 = 1000.0;

/// The picture.
#[derive(Debug, Template)]
#[template(path = "chain.html")]
pub(crate) struct Chain {
    t: &'static Texts,
    roots: Vec<Step>,
    /// Services that could not be asked.
    missing: Vec<&'static str>,
    /// Into Jaeger.
    links: Vec<String>,
    saga: Option<Driven>,
}

impl askama::filters::HtmlSafe for Chain {}

/// Somebody handled something.
#[derive(Debug, Template)]
#[template(path = "step.html")]
struct Step {
    t: &'static Texts,
    service: String,
    /// What began it, where nothing before did.
    began: Option<String>,
    meaning: &'static str,
    outcome: String,
    at: String,
    deliveries: i32,
    hop: Option<Picture>,
    events: Vec<Event>,
}

impl askama::filters::HtmlSafe for Step {}

#[derive(Debug)]
struct Event {
    name: String,
    meaning: &'static str,
    seen: bool,
    /// How often; the first time is shown.
    sent: usize,
    steps: Vec<Step>,
}

/// A hop on the time axis of its root.
#[derive(Debug)]
struct Picture {
    bars: Vec<Bar>,
    words: String,
}

#[derive(Debug)]
struct Bar {
    kind: &'static str,
    x: i64,
    width: i64,
}

/// The saga that drives an order.
#[derive(Debug)]
struct Driven {
    state: String,
    parked: bool,
    steps: Vec<SagaStep>,
}

#[derive(Debug)]
struct SagaStep {
    class: &'static str,
    name: String,
    meaning: &'static str,
    answer: String,
    attempts: i32,
}

/// Asks every service for its trail, and the orchestrator for its saga where it drives the order.
pub(crate) async fn gather(hall: &Hall, order: &Order, t: &'static Texts) -> Chain {
    let order_id = Uuid::try_parse(&order.order_id).unwrap_or_default();
    let is_driven = order.coordination() == Coordination::Orchestration;
    let (answers, saga) = tokio::join!(
        join_all(Service::ALL.map(|service| hall.shop.trail(service, order_id))),
        async {
            match is_driven {
                true => hall.shop.saga(&TraceContext::random(), order_id).await.ok(),
                false => None,
            }
        }
    );
    let answers = Service::ALL.into_iter().zip(answers).map(|(service, answer)| {
        let answer = answer.map_err(|status| status.message().to_owned());
        (service.name().to_owned(), answer)
    });
    let causality = Causality::gathered(order.order_id.clone(), answers);
    picture(causality, saga, hall.jaeger_url.as_deref(), t)
}

fn picture(
    causality: Causality,
    saga: Option<Saga>,
    jaeger_url: Option<&str>,
    t: &'static Texts,
) -> Chain {
    // Without an address there is nothing to link to.
    let links = jaeger_url.iter().flat_map(|jaeger| {
        causality.trace_ids.iter().map(move |id| format!("{jaeger}/trace/{id}"))
    });
    let missing: BTreeSet<&str> = causality.not_asked.keys().map(String::as_str).collect();
    Chain {
        t,
        links: links.collect(),
        roots: causality.roots.iter().map(|root| step(root, &Axis::of(root), true, t)).collect(),
        missing: Service::ALL
            .map(Service::name)
            .into_iter()
            .filter(|it| missing.contains(it))
            .collect(),
        saga: saga.map(|saga| driven(saga, t)),
    }
}

/// The time from what began it to the last that followed.
struct Axis {
    begun: Option<DateTime<Utc>>,
    millis: f64,
}

impl Axis {
    fn of(root: &Handling) -> Self {
        let begun = root.created_at;
        let span = begun.zip(last(root)).map(|(begun, last)| millis(begun, last));
        Self { begun, millis: span.unwrap_or_default().max(1.0) }
    }

    fn after(&self, time: Option<DateTime<Utc>>) -> f64 {
        self.begun.zip(time).map_or(0.0, |(begun, time)| millis(begun, time).max(0.0))
    }

    fn place(&self, at: f64) -> i64 {
        (at / self.millis * WIDTH).clamp(0.0, WIDTH).round() as i64
    }
}

fn last(handling: &Handling) -> Option<DateTime<Utc>> {
    let below = handling.emitted.iter().flat_map(|event| &event.handled_by).filter_map(last);
    below.chain(handling.handled_at).max()
}

fn millis(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).num_microseconds().unwrap_or_default() as f64 / 1000.0
}

fn step(handling: &Handling, axis: &Axis, is_root: bool, t: &'static Texts) -> Step {
    let name = short(&handling.r#type);
    Step {
        t,
        service: handling.service.clone(),
        began: is_root.then(|| format!("{} {name}", handling.kind)),
        meaning: if is_root { t.meaning(name) } else { "" },
        outcome: handling.outcome.replace('_', " "),
        at: format!("+{:.0} ms", axis.after(handling.handled_at)),
        deliveries: handling.deliveries,
        hop: handling.hop.as_ref().map(|hop| hop_picture(hop, handling, axis, t)),
        events: handling.emitted.iter().map(|event| event_of(event, axis, t)).collect(),
    }
}

fn event_of(event: &Emission, axis: &Axis, t: &'static Texts) -> Event {
    let name = short(&event.r#type);
    Event {
        meaning: t.meaning(name),
        name: name.to_owned(),
        seen: event.seen,
        sent: event.sent,
        steps: event.handled_by.iter().map(|it| step(it, axis, false, t)).collect(),
    }
}

fn hop_picture(hop: &Hop, handling: &Handling, axis: &Axis, t: &'static Texts) -> Picture {
    let parts = [
        ("waited", t.waited, hop.waited_ms),
        ("transit", t.on_the_way, hop.on_the_way_ms),
        ("handled", t.handling, hop.handling_ms),
    ];
    let mut at = axis.after(handling.created_at);
    let bars = parts.iter().map(|&(kind, _, millis)| {
        let x = axis.place(at);
        at += millis.unwrap_or_default();
        // What took any time at all is to be seen.
        Bar { kind, x, width: (axis.place(at) - x).max(3) }
    });
    let bars = bars.collect();
    let words =
        parts.iter().filter_map(|&(_, word, millis)| Some(format!("{word} {:.1} ms", millis?)));
    Picture { bars, words: words.collect::<Vec<_>>().join(", ") }
}

fn driven(saga: Saga, t: &'static Texts) -> Driven {
    let step = |step: &proto::orchestrator::v1::SagaStep| SagaStep {
        class: match step.state() {
            StepState::Answered => "answered",
            StepState::Skipped => "skipped",
            StepState::Sent | StepState::Unspecified => "sent",
        },
        meaning: t.meaning(&step.name),
        name: step.name.clone(),
        answer: short(&step.answer).to_owned(),
        attempts: step.attempts,
    };
    Driven { steps: saga.steps.iter().map(step).collect(), state: saga.state, parked: saga.parked }
}

/// `OrderPlaced` for `shop.orders.v1.OrderPlaced`.
fn short(r#type: &str) -> &str {
    r#type.rsplit('.').next().unwrap_or(r#type)
}

#[cfg(test)]
mod tests {
    use proto::{
        Timestamp,
        operations::v1::{EmittedEvent, TrailEntry, TrailKind, TrailOutcome},
    };

    use super::*;
    use crate::language::Language;

    const T: &Texts = Texts::of(Language::English);

    fn entry(kind: TrailKind, name: &str, millis: i32, emitted: &[&str]) -> TrailEntry {
        let at = |millis: i32| Some(Timestamp { seconds: 0, nanos: millis * 1_000_000 });
        let emitted = emitted.iter().map(|id| EmittedEvent {
            event_id: (*id).to_owned(),
            r#type: format!("shop.v1.{id}"),
            ..Default::default()
        });
        TrailEntry {
            kind: kind.into(),
            event_id: name.to_owned(),
            r#type: format!("shop.v1.{name}"),
            outcome: TrailOutcome::OwnOrigin.into(),
            create_time: at(millis),
            kafka_time: at(millis + 2),
            receive_time: at(millis + 3),
            handle_time: at(millis + 5),
            emitted: emitted.collect(),
            deliveries: 1,
            trace_id: "ab".to_owned(),
            ..Default::default()
        }
    }

    fn chain(name: &str) -> Chain {
        let answers = [
            ("orders".to_owned(), Ok(vec![entry(TrailKind::Call, name, 0, &["OrderPlaced"])])),
            (
                "products".to_owned(),
                Ok(vec![entry(TrailKind::Message, "OrderPlaced", 5, &["StockReserved"])]),
            ),
            ("delivery".to_owned(), Err("refused".to_owned())),
        ];
        let causality = Causality::gathered("o-1".to_owned(), answers.into_iter());
        picture(causality, None, Some("http://jaeger"), T)
    }

    #[test]
    fn a_hop_is_drawn_where_it_was_on_the_time_of_its_root() {
        let chain = chain("PlaceOrder");
        let hop = &chain.roots[0].events[0].steps[0];
        let bars: Vec<_> = hop
            .hop
            .iter()
            .flat_map(|hop| &hop.bars)
            .map(|bar| (bar.kind, bar.x, bar.width))
            .collect();
        assert_eq!(bars, [("waited", 500, 200), ("transit", 700, 100), ("handled", 800, 200)]);
        assert_eq!((hop.service.as_str(), hop.outcome.as_str()), ("products", "own origin"));
        assert_eq!(chain.missing, ["delivery"]);
    }

    #[test]
    fn the_picture_says_what_is_not_seen_and_links_the_trace() {
        let text = chain("PlaceOrder").render().unwrap();
        assert!(text.contains("emitted, not seen") && text.contains("http://jaeger/trace/ab"));
        assert!(text.contains("delivery") && text.contains("did not answer"), "{text}");
    }

    #[test]
    fn a_hostile_name_is_shown_as_text() {
        let text = chain("<img src=x>").render().unwrap();
        assert!(!text.contains("<img") && text.contains("&#60;img"), "{text}");
    }
}
