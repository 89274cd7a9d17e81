//! A trace as text, one span a line, indented below what it follows from; equal traces are equal texts.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, bail};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::collector::Seen;

/// The whole trace. Errors: it has no root or several, or a span whose parent is missing; more may be on its way.
pub(crate) fn render(spans: &[Seen]) -> anyhow::Result<String> {
    let mut children: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
    for span in spans {
        let known = spans.iter().any(|other| other.span_id == span.parent);
        if !span.parent.is_empty() && !known {
            bail!("{} of {} hangs in the air", span.name, span.service);
        }
        children.entry(&span.parent).or_default().push(span);
    }
    for siblings in children.values_mut() {
        siblings.sort_by_key(|span| order(span));
    }
    let roots = children.remove("").context("no root")?;
    let [root] = roots[..] else { bail!("{} roots", roots.len()) };
    let mut text = String::new();
    write(&mut text, root, spans, &children, 0);
    Ok(text)
}

/// Neighbours by what they are about, then the relay's, then each consumer's in the order of time: a race between
/// consumers does not change the text.
fn order(span: &Seen) -> (&str, &str, u64, &str) {
    let is_consumers = span.name.starts_with("transit ") || span.name.starts_with("process ");
    let consumer = if is_consumers { span.service.as_str() } else { "" };
    (span.attribute("cloudevents.event_type"), consumer, span.started, &span.name)
}

fn write(
    text: &mut String,
    span: &Seen,
    all: &[Seen],
    children: &BTreeMap<&str, Vec<&Seen>>,
    depth: usize,
) {
    let indent = "  ".repeat(depth);
    let _ = writeln!(text, "{indent}{}", line(span, all));
    for child in children.get(span.span_id.as_str()).into_iter().flatten() {
        write(text, child, all, children, depth + 1);
    }
}

fn line(span: &Seen, all: &[Seen]) -> String {
    let mut line = format!("{}: {} {}", span.service, span.name, kind(span.kind));
    for (_, linked) in &span.links {
        match all.iter().find(|other| other.span_id == *linked) {
            Some(other) => _ = write!(line, " -> {}", first_word(&other.name)),
            None => line += " -> another trace",
        }
    }
    // Of the steps after a creation it is the same.
    if span.name.starts_with("create ") {
        let event_type = span.attribute("cloudevents.event_type");
        _ = write!(line, " {}", event_type.rsplit('.').next().unwrap_or_default());
    }
    if ["duplicate", "parked"].contains(&span.attribute("settle.outcome")) {
        _ = write!(line, " {}", span.attribute("settle.outcome"));
    }
    if span.error.is_some() {
        line += " ERROR";
    }
    line
}

fn first_word(name: &str) -> &str {
    name.split(' ').next().unwrap_or_default()
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "?",
        SpanKind::Internal => "INTERNAL",
        SpanKind::Server => "SERVER",
        SpanKind::Client => "CLIENT",
        SpanKind::Producer => "PRODUCER",
        SpanKind::Consumer => "CONSUMER",
    }
}
