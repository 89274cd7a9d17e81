//! `settle trace`: the causal tree of an order, from the trails of all services.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use causality::{Causality, Emission, Handling, Hop};
use chrono::{DateTime, Local, Utc};
use clap::Args;
use futures::future::join_all;
use proto::operations::v1::{
    GetTrailRequest, TrailEntry, operations_service_client::OperationsServiceClient,
};
use tokio::time::timeout;
use tonic::Status;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::health;
use crate::jaeger;
use crate::ports::Ports;
use crate::process::Part;
use crate::service::{self, SERVICES};

/// As long as one service may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Which order, and how to show it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Question {
    /// The order.
    order_id: Uuid,
    /// One JSON document instead of a tree.
    #[arg(long)]
    json: bool,
    /// Show links into the Jaeger whose pages are at this address [default: the one at --jaeger-port, if it answers].
    #[arg(long, value_name = "URL", env = "SETTLE_JAEGER_URL")]
    jaeger_url: Option<String>,
}

/// Asks every service, and prints the tree. Fails when nobody answers or nobody knows the order; services that do not answer
/// while others do are named in what is printed.
pub(crate) async fn run(ports: &Ports, question: Question) -> Result<ExitCode> {
    let causality = ask(ports, &question).await?;
    if causality.roots.is_empty() {
        return Err(unknown(&causality));
    }
    let text = if question.json {
        serde_json::to_string_pretty(&causality)
            .map_err(|error| Error::io("print the trace")(error.into()))?
    } else {
        tree(&causality)
    };
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        // `settle trace | head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written.map(|()| ExitCode::SUCCESS).map_err(Error::io("print the trace")),
    }
}

async fn ask(ports: &Ports, question: &Question) -> Result<Causality> {
    let order_id = question.order_id.to_string();
    let asked = &order_id;
    let answers = join_all(SERVICES.map(|part| async move {
        let answer = timeout(LIMIT, trail(ports, part, asked)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")));
        (part.name().to_owned(), answer)
    }))
    .await;
    let mut causality = Causality::gathered(order_id.clone(), answers.into_iter());
    if let Some(jaeger) = jaeger_url(ports, question).await {
        let jaeger = jaeger.trim_end_matches('/');
        causality.links =
            causality.trace_ids.iter().map(|id| format!("{jaeger}/trace/{id}")).collect();
    }
    Ok(causality)
}

/// The Jaeger that was named, or the one that runs where `settle up --jaeger` starts it.
async fn jaeger_url(ports: &Ports, question: &Question) -> Option<String> {
    if question.jaeger_url.is_some() {
        return question.jaeger_url.clone();
    }
    let asked = timeout(LIMIT, jaeger::answers_questions(ports)).await;
    asked.unwrap_or(false).then(|| jaeger::url(ports))
}

async fn trail(ports: &Ports, part: Part, order_id: &str) -> Result<Vec<TrailEntry>, String> {
    let url = service::grpc_url(ports, part);
    let channel = health::channel(&url).map_err(|error| error.to_string())?;
    let request = GetTrailRequest { order_id: order_id.to_owned() };
    let answer = OperationsServiceClient::new(channel).get_trail(request).await;
    answer
        .map(|answer| answer.into_inner().entries)
        .map_err(|status: Status| format!("{url}: {}", status.message()))
}

fn unknown(causality: &Causality) -> Error {
    let missing = missing(causality);
    Error::Unfit(if causality.asked.is_empty() {
        format!("no service could be asked; is the shop running? `make up` starts it\n{missing}")
    } else {
        format!(
            "no service that was asked has handled anything of order {}; trails are kept 30 days\n{missing}",
            causality.order_id
        )
    })
}

/// A line for each service that could not be asked.
fn missing(causality: &Causality) -> String {
    let line = |(service, why): (&String, &String)| format!("not asked: {service}, {why}\n");
    causality.not_asked.iter().map(line).collect()
}

/// The tree as a person reads it.
fn tree(causality: &Causality) -> String {
    let mut text = format!("order {}\n", causality.order_id);
    for link in &causality.links {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{link}");
    }
    let begun = causality.roots.iter().filter_map(|root| root.created_at).min();
    for root in &causality.roots {
        text.push('\n');
        let _ = writeln!(text, "{}", beginning(root, begun));
        emissions(&mut text, "", &root.emitted, begun);
    }
    let missing = missing(causality);
    if !missing.is_empty() {
        let _ = write!(text, "\n{missing}What these did is missing above.\n");
    }
    text
}

type Begun = Option<DateTime<Utc>>;

fn emissions(text: &mut String, indent: &str, emitted: &[Emission], begun: Begun) {
    for (index, emission) in emitted.iter().enumerate() {
        let (branch, below) = branches(index + 1 == emitted.len());
        let times = Some(emission.sent).filter(|sent| *sent > 1);
        let times = times.map(|sent| format!(", sent {sent} times")).unwrap_or_default();
        let unseen = if emission.seen { "" } else { "  emitted, not seen" };
        let _ = writeln!(text, "{indent}{branch}{}{times}{unseen}", short(&emission.r#type));
        let indent = format!("{indent}{below}");
        for (index, handling) in emission.handled_by.iter().enumerate() {
            let (branch, below) = branches(index + 1 == emission.handled_by.len());
            let _ = writeln!(text, "{indent}{branch}{}", handled(handling, begun));
            emissions(text, &format!("{indent}{below}"), &handling.emitted, begun);
        }
    }
}

const fn branches(last: bool) -> (&'static str, &'static str) {
    if last { ("└─ ", "   ") } else { ("├─ ", "│  ") }
}

/// What began it, where and when.
fn beginning(root: &Handling, begun: Begun) -> String {
    let time = root.created_at.map(|time| time.with_timezone(&Local));
    let time = time.map(|time| time.format("%Y-%m-%d %H:%M:%S%.3f ").to_string());
    let (time, kind, name) = (time.unwrap_or_default(), &root.kind, short(&root.r#type));
    format!("{time}{kind} {name}: {}", handled(root, begun))
}

/// Who handled it, what came of it, when, and what it waited for.
fn handled(handling: &Handling, begun: Begun) -> String {
    let mut text = format!("{} {}", handling.service, handling.outcome);
    if let (Some(begun), Some(handled)) = (begun, handling.handled_at) {
        let millis = (handled - begun).num_microseconds().unwrap_or_default() as f64 / 1000.0;
        // Writing to a String cannot fail.
        let _ = write!(text, " at +{millis:.1} ms");
    }
    if let Some(hop) = &handling.hop {
        let _ = write!(text, " ({})", waits(hop));
    }
    if handling.deliveries > 1 {
        let _ = write!(text, ", delivered {} times", handling.deliveries);
    }
    text
}

fn waits(hop: &Hop) -> String {
    let part = |name: &str, millis: Option<f64>| Some(format!("{name} {:.1}", millis?));
    let parts = [
        part("waited", hop.waited_ms),
        part("on the way", hop.on_the_way_ms),
        part("handling", hop.handling_ms),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `OrderPlaced` for `shop.orders.v1.OrderPlaced`.
fn short(r#type: &str) -> &str {
    r#type.rsplit('.').next().unwrap_or(r#type)
}

#[cfg(test)]
mod tests {
    use causality::merge;
    use proto::Timestamp;
    use proto::operations::v1::{EmittedEvent, TrailKind, TrailOutcome};

    use super::*;

    fn entry(kind: TrailKind, id: &str, millis: i32, emitted: &[&str]) -> TrailEntry {
        let at = |millis: i32| Some(Timestamp { seconds: 0, nanos: millis * 1_000_000 });
        let emitted = emitted.iter().map(|id| EmittedEvent {
            event_id: (*id).to_owned(),
            r#type: format!("shop.v1.{id}"),
            ..Default::default()
        });
        TrailEntry {
            kind: kind.into(),
            event_id: id.to_owned(),
            r#type: format!("shop.v1.{id}"),
            outcome: TrailOutcome::Applied.into(),
            create_time: at(millis),
            kafka_time: at(millis + 2),
            receive_time: at(millis + 3),
            handle_time: at(millis + 5),
            emitted: emitted.collect(),
            deliveries: 1,
            ..Default::default()
        }
    }

    #[test]
    fn a_tree_shows_who_handled_what_and_names_what_is_missing() {
        let twice =
            TrailEntry { deliveries: 2, ..entry(TrailKind::Message, "Placed", 12, &["Started"]) };
        let mut causality = Causality::of("o-1".to_owned());
        causality.links.push("http://jaeger/trace/t".to_owned());
        causality.not_asked.insert("orders".to_owned(), "refused".to_owned());
        causality.roots = merge(vec![
            ("orders".to_owned(), vec![entry(TrailKind::Call, "Place", 10, &["Placed", "Lost"])]),
            ("products".to_owned(), vec![entry(TrailKind::Message, "Placed", 11, &["Lost"])]),
            ("delivery".to_owned(), vec![twice]),
        ]);
        let text = tree(&causality);
        let (head, rest) = text.split_once("call ").unwrap();
        assert!(head.starts_with("order o-1\nhttp://jaeger/trace/t\n\n"), "{head}");
        assert_eq!(
            rest,
            "Place: orders applied at +5.0 ms
├─ Placed
│  ├─ products applied at +6.0 ms (waited 2.0, on the way 1.0, handling 2.0)
│  └─ delivery applied at +7.0 ms (waited 2.0, on the way 1.0, handling 2.0), delivered 2 times
│     └─ Started  emitted, not seen
└─ Lost, sent 2 times  emitted, not seen

not asked: orders, refused
What these did is missing above.
"
        );
    }
}
