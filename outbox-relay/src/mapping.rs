//! An outbox table that is not ours: which of its columns make an event. Without a word it is the table that Debezium's
//! outbox event router expects, and an event becomes what that router makes of it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    identifier::{HeaderName, Identifier, Relation},
    table::Table,
};

/// `[source.table]` of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mapping {
    /// The table.
    pub name: Relation,
    /// `bigint` of a sequence that no session hoards numbers of.
    pub seq: Identifier,
    /// `xid8`, by default `pg_current_xact_id()`.
    pub xid: Identifier,
    /// What the row is found by; a UUID, or something that one is made of.
    pub event_id: Identifier,
    /// Where the event goes.
    pub topic: TopicPattern,
    /// What the order is kept by. No key is the empty key.
    pub key: Identifier,
    /// `jsonb`, `json`, `text` or `bytea`.
    pub payload: Identifier,
    /// `timestamptz` or `timestamp`: measures how long an event waited, and nothing else.
    pub created_at: Identifier,
    /// Headers that are the text of a column.
    pub headers: BTreeMap<HeaderName, Identifier>,
    /// `jsonb` or `json`: an object, each member a header; `headers` has the last word.
    pub merge_headers: Option<Identifier>,
    /// `text`, Java properties as Debezium's extensions write them: `traceparent` in it becomes a header.
    pub tracing: Option<Identifier>,
    /// What becomes of rows that Kafka has acknowledged.
    pub remove: Remove,
}

/// What becomes of acknowledged rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Remove {
    /// They are left to whoever owns the table.
    #[default]
    Keep,
    /// They are deleted, some time after.
    Delete,
}

impl Default for Mapping {
    fn default() -> Self {
        let column = Identifier::known;
        Self {
            name: Relation::known("public", "outboxevent"),
            seq: column("seq"),
            xid: column("xid"),
            event_id: column("id"),
            topic: TopicPattern(vec![
                Part::Text("outbox.event.".to_owned()),
                Part::Column(column("aggregatetype")),
            ]),
            key: column("aggregateid"),
            payload: column("payload"),
            created_at: column("created_at"),
            headers: BTreeMap::from([(HeaderName::known("id"), column("id"))]),
            merge_headers: None,
            tracing: None,
            remove: Remove::default(),
        }
    }
}

impl Mapping {
    /// The expressions that the relay's statements are made of.
    pub fn table(self) -> Table {
        let row = Row { mapping: &self, name: "source" };
        Table {
            name: format!("{} as source", self.name.quoted()),
            seq: row.column(&self.seq),
            sequence: self.sequence(),
            xid: row.column(&self.xid),
            shard: format!("(get_byte(decode(md5({}), 'hex'), 0) & 63)", row.key()),
            event_id: row.event_id(),
            topic: row.topic(),
            key: row.key(),
            headers: row.headers(),
            payload: row.column(&self.payload),
            payload_bytes: row.payload_bytes(),
            created_at: row.created_at(),
            mapping: Some(self),
        }
    }

    /// How far `seq` has run: by its sequence if the relay may look at it, else by the last row that is visible.
    fn sequence(&self) -> String {
        let (table, seq) = (self.name.quoted(), &self.seq);
        format!(
            "(select coalesce(
                         case when has_sequence_privilege(sequence, 'select')
                              then pg_sequence_last_value(sequence::regclass) end,
                         (select {column} from {table} order by {column} desc limit 1),
                         0)
              from pg_get_serial_sequence('{table}', '{name}') as sequence)",
            column = seq.quoted(),
            name = seq.as_str(),
        )
    }

    /// Every column that an event is made of, and what for.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&'static str, &Identifier)> {
        let routes = self.topic.columns().map(|column| ("topic", column));
        let headers = self.headers.values().map(|column| ("headers", column));
        [
            ("seq", &self.seq),
            ("xid", &self.xid),
            ("event_id", &self.event_id),
            ("key", &self.key),
            ("payload", &self.payload),
            ("created_at", &self.created_at),
        ]
        .into_iter()
        .chain(routes)
        .chain(headers)
        .chain(self.merge_headers.iter().map(|column| ("merge_headers", column)))
        .chain(self.tracing.iter().map(|column| ("tracing", column)))
    }
}

/// One row of the table under the name that a statement gives it: `source` in the relay's, `new` in a trigger's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) mapping: &'a Mapping,
    pub(crate) name: &'static str,
}

impl Row<'_> {
    fn column(&self, column: &Identifier) -> String {
        format!("{}.{}", self.name, column.quoted())
    }

    /// A UUID as it is; of anything else one is made, always the same.
    pub(crate) fn event_id(&self) -> String {
        let id = self.column(&self.mapping.event_id);
        let digits = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";
        format!("case when {id}::text ~ '{digits}' then {id}::text else md5({id}::text) end::uuid")
    }

    pub(crate) fn topic(&self) -> String {
        let parts = self.mapping.topic.0.iter().map(|part| match part {
            Part::Text(text) => format!("'{text}'"),
            Part::Column(column) => format!("coalesce({}::text, '')", self.column(column)),
        });
        parts.collect::<Vec<_>>().join(" || ")
    }

    pub(crate) fn key(&self) -> String {
        format!("coalesce({}::text, '')", self.column(&self.mapping.key))
    }

    pub(crate) fn headers(&self) -> String {
        let pair = |(header, column): (&HeaderName, &Identifier)| {
            format!("{}, {}::text", header.literal(), self.column(column))
        };
        let pairs: Vec<String> = self.mapping.headers.iter().map(pair).collect();
        let mut objects = Vec::new();
        if let Some(column) = &self.mapping.merge_headers {
            objects
                .push(format!("coalesce(nullif({}::jsonb, 'null'), '{{}}')", self.column(column)));
        }
        if let Some(column) = &self.mapping.tracing {
            let traceparent = "(?n)^traceparent=([0-9a-f-]+)";
            objects.push(format!(
                "jsonb_strip_nulls(jsonb_build_object('traceparent', substring({} from '{traceparent}')))",
                self.column(column)
            ));
        }
        if !pairs.is_empty() || objects.is_empty() {
            objects.push(format!("jsonb_build_object({})", pairs.join(", ")));
        }
        objects.join(" || ")
    }

    /// The bytes as they are, or the text: a cast back from the text of bytes gives the bytes again.
    pub(crate) fn payload_bytes(&self) -> String {
        let payload = self.column(&self.mapping.payload);
        format!(
            "case when pg_typeof({payload}) = 'bytea'::regtype then {payload}::text::bytea \
             else convert_to({payload}::text, 'UTF8') end"
        )
    }

    fn created_at(&self) -> String {
        format!(
            "coalesce({}::timestamptz, clock_timestamp())",
            self.column(&self.mapping.created_at)
        )
    }
}

/// A topic with columns in it: `outbox.event.${aggregatetype}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TopicPattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Column(Identifier),
}

impl TopicPattern {
    fn columns(&self) -> impl Iterator<Item = &Identifier> {
        self.0.iter().filter_map(|part| match part {
            Part::Column(column) => Some(column),
            Part::Text(_) => None,
        })
    }
}

impl TryFrom<String> for TopicPattern {
    type Error = String;

    fn try_from(pattern: String) -> Result<Self, String> {
        let fits =
            |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
        let text = |text: &str| {
            if text.chars().all(fits) {
                return Ok(Part::Text(text.to_owned()));
            }
            Err(format!(
                "{pattern:?} is not a topic: write letters, digits, ., _ and -, and columns as ${{column}}"
            ))
        };
        let mut parts = Vec::new();
        let mut rest = pattern.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let (column, after) =
                after.split_once('}').ok_or(format!("{pattern:?} lacks a closing }}"))?;
            if column == "routedByValue" {
                return Err("write the column that routes instead of routedByValue: \
                            outbox.event.${aggregatetype}"
                    .to_owned());
            }
            parts.extend([text(before)?, Part::Column(column.to_owned().try_into()?)]);
            rest = after;
        }
        parts.push(text(rest)?);
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        if parts.is_empty() {
            return Err("a topic is needed, like outbox.event.${aggregatetype}".to_owned());
        }
        Ok(Self(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(pattern: &str) -> Result<String, String> {
        let mapping = Mapping { topic: pattern.to_owned().try_into()?, ..Mapping::default() };
        Ok(mapping.table().topic)
    }

    #[test]
    fn a_topic_may_have_columns_in_it() {
        assert_eq!(
            topic("outbox.event.${aggregatetype}"),
            Ok(Mapping::default().table().topic),
            "the default is Debezium's"
        );
        assert_eq!(topic("orders").unwrap(), "'orders'");
        assert_eq!(
            topic("${a}-${b}.v1").unwrap(),
            r#"coalesce(source."a"::text, '') || '-' || coalesce(source."b"::text, '') || '.v1'"#
        );
    }

    #[test]
    fn a_topic_that_kafka_could_not_have_is_refused() {
        for refused in ["", "a b", "a'b", "${a", "${}", "${lower(a)}", "$a", "x${routedByValue}"] {
            assert!(topic(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn no_headers_at_all_is_an_empty_object() {
        let mapping = Mapping { headers: BTreeMap::new(), ..Mapping::default() };
        assert_eq!(mapping.table().headers, "jsonb_build_object()");
    }
}
