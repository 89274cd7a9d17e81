//! One row of the outbox, borrowed from the answer it came in. Nothing is copied or decoded beyond what Kafka needs;
//! the payload is never looked into.

use std::{borrow::Cow, fmt};

use chrono::{DateTime, Utc};
use rdkafka::message::{Header, OwnedHeaders};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use sqlx::{
    Row, ValueRef,
    postgres::{PgRow, PgValueRef, types::Oid},
};

use crate::{Error, verdict::Reason};

/// What a record weighs beside its own bytes: the client's bookkeeping, so that tiny rows are bounded too.
const OVERHEAD: usize = 256;

/// The type jsonb, in every Postgres.
const JSONB: Oid = Oid(3802);

/// A row as every statement of [`crate::window`] returns it.
#[derive(Debug)]
pub struct Event<'a> {
    /// Its place among all rows of the outbox.
    pub seq: i64,
    /// The topic it goes to.
    pub topic: &'a str,
    /// The key that orders it.
    pub key: &'a str,
    /// None is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// When it was written, by the database's clock.
    pub created_at: DateTime<Utc>,
    headers: &'a [u8],
}

impl<'a> Event<'a> {
    /// Reads the columns by their positions; the statements fix the types.
    ///
    /// # Errors
    /// When a column is missing or of another type.
    pub fn read(row: &'a PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            seq: row.try_get_unchecked(0)?,
            topic: row.try_get_unchecked(1)?,
            key: row.try_get_unchecked(2)?,
            headers: bytes(row.try_get_raw(3)?)?.unwrap_or_default(),
            payload: bytes(row.try_get_raw(4)?)?,
            created_at: row.try_get_unchecked(5)?,
        })
    }

    /// How many bytes of memory it takes until it is delivered.
    pub fn weight(&self) -> usize {
        OVERHEAD + self.key.len() + self.headers.len() + self.payload.map_or(0, <[u8]>::len)
    }

    /// That Kafka's client does not take it.
    pub fn refused(&self, reason: Reason) -> Error {
        let (seq, topic, key) = (self.seq, self.topic.to_owned(), self.key.to_owned());
        Error::Refused { seq, topic, key, reason }
    }

    /// The row's headers as Kafka's, without an intermediate map.
    ///
    /// # Errors
    /// When the column does not hold an object, which the table forbids.
    pub fn headers(&self) -> Result<OwnedHeaders, sqlx::Error> {
        parse(self.headers).map_err(|error| sqlx::Error::Decode(error.into()))
    }
}

/// What bytes or a text hold, without a detour. jsonb travels as one byte of version and the text.
fn bytes(value: PgValueRef<'_>) -> Result<Option<&[u8]>, sqlx::Error> {
    if value.is_null() {
        return Ok(None);
    }
    let versioned = value.type_info().oid() == Some(JSONB);
    let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
    Ok(Some(if versioned { bytes.get(1..).unwrap_or_default() } else { bytes }))
}

fn parse(json: &[u8]) -> Result<OwnedHeaders, serde_json::Error> {
    match str::from_utf8(json).ok().and_then(plain) {
        Some(headers) => Ok(headers),
        None => serde_json::Deserializer::from_slice(json).deserialize_map(HeaderVisitor),
    }
}

/// What nearly all headers are: strings without an escape. Postgres has seen to it that the text is
/// JSON; None is anything else, for the parser that knows all of it.
fn plain(json: &str) -> Option<OwnedHeaders> {
    if json.contains('\\') {
        return None;
    }
    let mut headers = OwnedHeaders::new_with_capacity(16);
    let mut rest = json.trim_ascii_start().strip_prefix('{')?;
    loop {
        let (key, after) = string(rest)?;
        let (value, after) = string(after.trim_ascii_start().strip_prefix(':')?)?;
        headers = headers.insert(Header { key, value: Some(value) });
        rest = match after.trim_ascii() {
            "}" => return Some(headers),
            more => more.strip_prefix(',')?,
        };
    }
}

/// The string at the beginning, and what follows it.
fn string(json: &str) -> Option<(&str, &str)> {
    json.trim_ascii_start().strip_prefix('"')?.split_once('"')
}

struct HeaderVisitor;

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = OwnedHeaders;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of headers")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<OwnedHeaders, M::Error> {
        let mut headers = OwnedHeaders::new_with_capacity(16);
        while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            let value = text(value.get()).map_err(serde::de::Error::custom)?;
            headers = headers.insert(Header { key: &name, value: value.as_deref() });
        }
        Ok(headers)
    }
}

/// A string is its text, null a header without a value, anything else its JSON.
fn text(json: &str) -> Result<Option<Cow<'_, str>>, serde_json::Error> {
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Some(plain.into())),
        Some(_) => Ok(Some(serde_json::from_str::<String>(json)?.into())),
        None if json == "null" => Ok(None),
        None => Ok(Some(json.into())),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;

    fn pairs(headers: &OwnedHeaders) -> Vec<(&str, Option<&[u8]>)> {
        headers.iter().map(|header| (header.key, header.value)).collect()
    }

    #[test]
    fn headers_are_copied_verbatim() {
        let headers = parse(
            br#"{"ce_id": "42", "a\u00e9\"": "say \"h\u00e9\" \\ \n", "none": null, "n": 1.50}"#,
        )
        .unwrap();
        let expected: [(&str, Option<&[u8]>); 4] = [
            ("ce_id", Some(b"42")),
            ("aé\"", Some("say \"hé\" \\ \n".as_bytes())),
            ("none", None),
            ("n", Some(b"1.50")),
        ];
        assert_eq!(pairs(&headers), expected);
    }

    #[test]
    fn plain_headers_are_what_the_whole_parser_makes_of_them() {
        let whole =
            |json: &str| serde_json::Deserializer::from_str(json).deserialize_map(HeaderVisitor);
        for json in [
            r#"{"a": "1"}"#,
            r#"{"z":"2","a":"{}"}"#,
            "\n{ \"a\"\t: \"\" ,\r\n\"a\" : \", : }\" , \"\": \"h\u{e9} \u{1f514}\" }\n",
        ] {
            assert_eq!(pairs(&plain(json).unwrap()), pairs(&whole(json).unwrap()), "{json}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_whole_parser() {
        for json in [
            "{}",
            "[]",
            "",
            "{",
            r#"{"a": null}"#,
            r#"{"a": 1}"#,
            r#"{"a": {"b": "c"}}"#,
            r#"{"a": "\n"}"#,
        ] {
            assert!(plain(json).is_none(), "{json}");
        }
    }

    #[test]
    fn no_headers_are_no_headers() {
        assert_eq!(parse(b"{}").unwrap().count(), 0);
        assert!(parse(b"[]").is_err());
    }
}
