//! Names of tables, columns and headers as a person writes them in a file. They go into statements, so nothing but a
//! name is taken, and it is quoted: `lower(id)` or `x"; drop` is refused, `order` and `Id` mean just that.

use std::fmt;

use serde::Deserialize;

/// Postgres cuts longer names off, and a name that was cut off is another one.
const LONGEST: usize = 63;

/// The name of a column, exactly as the catalogue has it, capitals included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Identifier(String);

impl Identifier {
    /// A name that is known to be one.
    pub(crate) fn known(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// As a statement takes it.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }

    /// The bare name. It holds neither quotes, backslashes nor dollars, so that it may stand in a literal too.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Identifier {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let fits = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-');
        if name.is_empty() || name.len() > LONGEST || !name.chars().all(fits) {
            return Err(format!(
                "{name:?} is not a name: write it as Postgres lists it, without quotes, at most {LONGEST} bytes of letters, \
                 digits, _ and -; an expression needs a generated column"
            ));
        }
        Ok(Self(name))
    }
}

/// A table: `schema.table`, or `table` for one in the schema public.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Relation {
    schema: Identifier,
    table: Identifier,
}

impl Relation {
    /// A table that is known to be called so.
    pub(crate) fn known(schema: &'static str, table: &'static str) -> Self {
        Self { schema: Identifier::known(schema), table: Identifier::known(table) }
    }

    /// As a statement takes it.
    pub fn quoted(&self) -> String {
        format!("{}.{}", self.schema.quoted(), self.table.quoted())
    }

    /// Without its schema.
    pub fn table(&self) -> &Identifier {
        &self.table
    }

    /// Its schema.
    pub fn schema(&self) -> &Identifier {
        &self.schema
    }
}

impl TryFrom<String> for Relation {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let (schema, table) = name.split_once('.').unwrap_or(("public", &name));
        Ok(Self { schema: schema.to_owned().try_into()?, table: table.to_owned().try_into()? })
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.schema.0, self.table.0)
    }
}

/// The name of a Kafka header.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderName(String);

impl HeaderName {
    /// A name that is known to be one.
    pub(crate) fn known(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// As a statement takes it.
    pub fn literal(&self) -> String {
        format!("'{}'", self.0)
    }
}

impl TryFrom<String> for HeaderName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let fits =
            |letter: char| !letter.is_control() && !matches!(letter, '\'' | '"' | '\\' | '$');
        if name.is_empty() || !name.chars().all(fits) {
            return Err(format!(
                "{name:?} is not a header's name: leave out quotes, backslashes, $ and control characters"
            ));
        }
        Ok(Self(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_whatever_it_means_to_postgres() {
        let name = |text: &str| Identifier::try_from(text.to_owned());
        assert_eq!(name("order").unwrap().quoted(), r#""order""#);
        assert_eq!(name("AggregateId").unwrap().quoted(), r#""AggregateId""#);
        assert_eq!(name("größe").unwrap().quoted(), r#""größe""#);
        for refused in [
            "",
            "lower(id)",
            "a b",
            "a\"b",
            "a'b",
            "id; drop table x",
            "a.b",
            "a\\b",
            "a\0",
            "a$$b",
        ] {
            assert!(name(refused).is_err(), "{refused:?}");
        }
        assert!(name(&"x".repeat(64)).is_err());
    }

    #[test]
    fn a_table_without_a_schema_is_in_public() {
        let relation = |text: &str| Relation::try_from(text.to_owned());
        assert_eq!(relation("outboxevent").unwrap().quoted(), r#""public"."outboxevent""#);
        assert_eq!(relation("shop.Events").unwrap().quoted(), r#""shop"."Events""#);
        for refused in ["a.b.c", ".", "a.", "public.outbox\" where true; --"] {
            assert!(relation(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_header_may_be_called_anything_that_needs_no_escape() {
        let header = |text: &str| HeaderName::try_from(text.to_owned());
        assert_eq!(header("x-event type").unwrap().literal(), "'x-event type'");
        for refused in ["", "a'b", "a\\", "a\nb", "a$$b"] {
            assert!(header(refused).is_err(), "{refused:?}");
        }
    }
}
