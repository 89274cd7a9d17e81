//! What every page begins with, and how amounts and times are written.

use chassis::clock;
use proto::{Timestamp, google::r#type::Money};

use crate::{texts::Texts, visitor::Visitor};

/// The frame of a page.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) t: &'static Texts,
    pub(crate) token: String,
    /// Which part of the site it is in: shop, orders, operator, or none.
    pub(crate) part: &'static str,
    /// Where its live updates come from, if it has any.
    pub(crate) live: Option<String>,
    /// Whether the operator's view is served.
    pub(crate) operator: bool,
}

impl Frame {
    pub(crate) fn of(visitor: &Visitor, part: &'static str, live: Option<String>) -> Self {
        let (t, token) = (visitor.texts, visitor.token.clone());
        Self { t, token, part, live, operator: visitor.sees_operator }
    }
}

/// `12,345 KRW`, and what is beyond the unit where there is any.
pub(crate) fn amount(money: Option<&Money>) -> String {
    let Some(money) = money else { return String::new() };
    let sign = if money.units < 0 || money.nanos < 0 { "-" } else { "" };
    let cents = money.nanos.unsigned_abs() / 10_000_000;
    let cents = if cents > 0 { format!(".{cents:02}") } else { String::new() };
    format!("{sign}{}{cents} {}", grouped(money.units.unsigned_abs()), money.currency_code)
}

/// `1,234,567`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time as machines and as people read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) machine: String,
    pub(crate) person: String,
}

/// Of today only the time; in UTC, since nobody knows where the visitor is.
pub(crate) fn moment(timestamp: Option<&Timestamp>) -> Moment {
    let time = timestamp
        .and_then(|it| chrono::DateTime::from_timestamp(it.seconds, u32::try_from(it.nanos).ok()?));
    let Some(time) = time else { return Moment::default() };
    let today = time.date_naive() == clock::now().date_naive();
    let form = if today { "%H:%M:%S UTC" } else { "%Y-%m-%d %H:%M UTC" };
    Moment { machine: time.to_rfc3339(), person: time.format(form).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_written_with_its_thousands() {
        let money = |units, nanos| Money { currency_code: "KRW".to_owned(), units, nanos };
        assert_eq!(amount(Some(&money(1_234_567, 0))), "1,234,567 KRW");
        assert_eq!(amount(Some(&money(0, 500_000_000))), "0.50 KRW");
        assert_eq!((amount(None), grouped(999)), (String::new(), "999".to_owned()));
    }

    #[test]
    fn an_old_time_has_its_date() {
        let moment = moment(Some(&Timestamp { seconds: 0, nanos: 0 }));
        assert_eq!(moment.person, "1970-01-01 00:00 UTC");
        assert_eq!(moment.machine, "1970-01-01T00:00:00+00:00");
    }
}
