//! `settle events`: one line per event, as they pass.

use std::io::{self, Write as _};
use std::process::ExitCode;

use chrono::{DateTime, Local};
use clap::Args;

use crate::error::{Error, Result};
use crate::feed::{self, Event, Feed, From};
use crate::progress::Progress;
use crate::signals::Stop;

/// What to show, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct Filter {
    /// Begin with the oldest event that Kafka keeps.
    #[arg(long)]
    from_beginning: bool,
    /// Only events of this order.
    #[arg(long, value_name = "ORDER_ID")]
    order: Option<String>,
    /// Only this topic; may be repeated.
    #[arg(long)]
    topic: Vec<String>,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

/// Prints events until Ctrl-C.
pub(crate) async fn run(kafka: &str, filter: Filter, progress: &Progress) -> Result<ExitCode> {
    let mut stop = Stop::listen()?;
    let from = if filter.from_beginning { From::Beginning } else { From::Now };
    let topics = if filter.topic.is_empty() { feed::all_topics() } else { filter.topic };
    let mut feed = Feed::open(kafka, from, topics).await?;
    progress.note(format!("Reading the events at {kafka}; Ctrl-C ends it."));
    loop {
        let event = tokio::select! {
            event = feed.next() => event?,
            _ = stop.asked() => return Ok(ExitCode::SUCCESS),
        };
        if filter.order.is_some() && event.order != filter.order {
            continue;
        }
        let text = if filter.json { json(&event)? } else { line(&event) };
        match writeln!(io::stdout(), "{text}") {
            // `settle events | head` has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            written => written.map_err(Error::io("print an event"))?,
        }
    }
}

/// Time, type, order, cause, payload.
pub(crate) fn line(event: &Event) -> String {
    let time = DateTime::parse_from_rfc3339(&event.time).map_or_else(
        |_| event.time.clone(),
        |time| time.with_timezone(&Local).format("%H:%M:%S%.3f").to_string(),
    );
    let order = event.order.as_deref().unwrap_or("-");
    let cause = event.cause_type.as_deref().or(event.cause.as_deref()).unwrap_or("-");
    let payload =
        if event.payload.is_null() { "(tombstone)".to_owned() } else { event.payload.to_string() };
    format!("{time}  {:<21} {order:<36}  <- {cause:<20}  {payload}", event.short_type())
}

fn json(event: &Event) -> Result<String> {
    serde_json::to_string(event).map_err(|error| Error::io("print an event")(error.into()))
}
