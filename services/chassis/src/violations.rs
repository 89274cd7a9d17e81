//! Checks of a request: all violations are collected before the caller is told, so that nobody has to fix them one call at
//! a time.

use std::ops::RangeInclusive;

use proto::{google::r#type::Money as WireMoney, money::Money};
use tonic::Status;
use tonic_types::FieldViolation;
use uuid::Uuid;

use crate::status;

/// The violations found so far.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Notes one.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(FieldViolation::new(field, description));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// INVALID_ARGUMENT with every violation, if there is one.
    pub fn finish(self) -> Result<(), Status> {
        if self.0.is_empty() { Ok(()) } else { Err(status::invalid(self.0)) }
    }

    /// A text of so many characters; control characters are not allowed.
    pub fn text(&mut self, field: &str, value: &str, length: RangeInclusive<usize>) {
        let count = value.chars().count();
        if !length.contains(&count) {
            self.add(
                field,
                format!("must have {} to {} characters, has {count}", length.start(), length.end()),
            );
        } else if value.chars().any(char::is_control) {
            self.add(field, "must not have control characters");
        }
    }

    /// A UUID.
    pub fn uuid(&mut self, field: &str, value: &str) -> Option<Uuid> {
        let parsed = Uuid::try_parse(value).ok();
        if parsed.is_none() {
            self.add(field, "must be a UUID such as 0198c0de-7a3f-7000-8000-000000000001");
        }
        parsed
    }

    /// So many UUIDs; those that are none are left out.
    pub fn uuids(
        &mut self,
        field: &str,
        values: &[String],
        count: RangeInclusive<usize>,
    ) -> Vec<Uuid> {
        if !count.contains(&values.len()) {
            let (least, most) = count.into_inner();
            self.add(field, format!("must be {least} to {most}, are {}", values.len()));
            return Vec::new();
        }
        let numbered = values.iter().enumerate();
        numbered
            .filter_map(|(index, value)| self.uuid(&format!("{field}[{index}]"), value))
            .collect()
    }

    /// A request_id: absent, or 1 to 64 visible ASCII characters.
    pub fn request_id(&mut self, value: &str) {
        if value.len() > 64 || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.add("request_id", "must be 1 to 64 visible ASCII characters");
        }
    }

    /// A product_id: `[a-z0-9-]{1,63}`.
    pub fn product_id(&mut self, field: &str, value: &str) {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=63).contains(&value.len()) || !value.bytes().all(fits) {
            self.add(field, "must be 1 to 63 of a-z, 0-9 and -");
        }
    }

    /// A number of pieces, 1 to 1,000,000.
    pub fn quantity(&mut self, field: &str, value: i32) -> Option<u32> {
        let quantity =
            u32::try_from(value).ok().filter(|quantity| (1..=1_000_000).contains(quantity));
        if quantity.is_none() {
            self.add(field, "must be 1 to 1,000,000");
        }
        quantity
    }

    /// An amount of money, not negative.
    pub fn money(&mut self, field: &str, value: Option<WireMoney>) -> Option<Money> {
        let Some(value) = value else {
            self.add(field, "is required");
            return None;
        };
        Money::try_from(value).map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// A page size: 50 when 0, never more than 1,000.
    pub fn page_size(&mut self, value: i32) -> i64 {
        match value {
            0 => 50,
            size if size < 0 => {
                self.add("page_size", "must not be negative");
                0
            }
            size => i64::from(size.min(1000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    #[test]
    fn every_violation_is_named_at_once() {
        let mut violations = Violations::default();
        violations.text("name", "", 1..=3);
        violations.text("address", "a\nb", 1..=3);
        assert_eq!(violations.uuid("order_id", "7"), None);
        violations.request_id("with space");
        violations.product_id("product_id", "TV");
        assert_eq!(violations.quantity("quantity", 0), None);
        assert_eq!(violations.page_size(-1), 0);
        assert_eq!(violations.money("price", None), None);
        let status = violations.finish().unwrap_err();
        let named: Vec<_> = status
            .get_details_bad_request()
            .unwrap()
            .field_violations
            .into_iter()
            .map(|it| it.field)
            .collect();
        let all = [
            "name",
            "address",
            "order_id",
            "request_id",
            "product_id",
            "quantity",
            "page_size",
            "price",
        ];
        assert_eq!(named, all);
    }

    #[test]
    fn every_id_of_a_list_that_is_none_is_named() {
        let good = Uuid::now_v7();
        let mut violations = Violations::default();
        let values = [good.to_string(), "7".to_owned(), good.to_string(), String::new()];
        assert_eq!(violations.uuids("order_ids", &values, 1..=4), [good, good]);
        assert!(violations.uuids("too_many", &values, 1..=3).is_empty());
        assert!(violations.uuids("too_few", &[], 1..=3).is_empty());
        let status = violations.finish().unwrap_err();
        let named = status.get_details_bad_request().unwrap().field_violations;
        let named: Vec<_> = named.into_iter().map(|it| it.field).collect();
        assert_eq!(named, ["order_ids[1]", "order_ids[3]", "too_many", "too_few"]);
    }

    #[test]
    fn good_values_pass() {
        let mut violations = Violations::default();
        violations.text("name", "홍길동", 1..=3);
        violations.request_id("");
        violations.product_id("product_id", "tv-55");
        assert_eq!(violations.quantity("quantity", 1_000_000), Some(1_000_000));
        assert_eq!(violations.page_size(0), 50);
        assert_eq!(violations.page_size(5000), 1000);
        assert!(violations.finish().is_ok());
    }
}
