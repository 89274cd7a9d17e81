//! `parked show`: one row, with everything that it carries.

use super::{Payload, Row, Which};
use crate::{
    cli::ParkedShow,
    verbs::{
        error::{Error, refuse},
        terminal::{count, printable, say, say_json, time},
    },
};

/// Shows one row.
///
/// # Errors
/// A row that is not parked, or Postgres'.
pub async fn show(flags: &ParkedShow) -> Result<(), Error> {
    let (source, mut connection) = flags.databases.the_one().await?;
    let which = match (flags.row.seq, &flags.row.key) {
        (Some(seq), _) => Which::Seq(seq),
        (None, key) => Which::FirstOf(key.as_deref().unwrap_or_default()),
    };
    let Some(row) = Row::find(&mut connection, which).await? else {
        return refuse(format!(
            "{}: {} is not parked: see `parked list`",
            source.name,
            which.name()
        ));
    };
    if flags.json {
        say_json(&row.json(&source.name));
    } else {
        row.show();
    }
    Ok(())
}

impl Which<'_> {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Seq(seq) => format!("row {seq}"),
            Self::FirstOf(key) => format!("key {key:?}"),
        }
    }
}

impl Row {
    fn show(&self) {
        let line = |name: &str, value: String| say(format!("{name:<10} {}", printable(&value)));
        line("seq", self.seq.to_string());
        line("key", self.key.clone());
        line("topic", self.topic.clone());
        line("event id", self.event_id.to_string());
        line("shard", self.shard.to_string());
        line("created", time(self.created_at));
        line("parked", time(self.parked_at));
        line("reason", self.reason.clone());
        line("behind", format!("{} of its key", count(self.behind, "later row")));
        if let Some(wish) = &self.wish {
            line("wish", wish.clone());
        }
        for (name, value) in self.headers.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            line("header", format!("{name}: {value}"));
        }
        let payload = match self.payload() {
            Payload::Text(text) => text,
            Payload::Base64(text) => format!("(base64) {text}"),
            Payload::Tombstone => "(none: a tombstone)".to_owned(),
            Payload::Unreadable => "(this role may not read payloads)".to_owned(),
        };
        let lines = payload.lines().map(|line| line.split('\t').map(printable).collect::<Vec<_>>());
        say(format!("\n{}", lines.map(|line| line.join("\t")).collect::<Vec<_>>().join("\n")));
    }
}
