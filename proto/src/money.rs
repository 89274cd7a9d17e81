//! Money: one checked type. It is never negative, its currency is three capital letters, and arithmetic that would
//! overflow or mix currencies is an error.

use crate::google::r#type::Money as Wire;

const NANOS_PER_UNIT: i128 = 1_000_000_000;

/// An amount of money in one currency, exact to a billionth of its unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Money {
    currency: String,
    units: i64,
    nanos: i32,
}

/// Why an amount is not acceptable, or a sum cannot be formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The currency is not an ISO 4217 code.
    #[error("the currency must be three capital letters such as KRW")]
    Currency,
    /// The amount is below zero.
    #[error("the amount must not be negative")]
    Negative,
    /// The nanos are a whole unit or more.
    #[error("nanos must be between 0 and 999,999,999")]
    Nanos,
    /// Two currencies met.
    #[error("the amounts are in different currencies")]
    Mixed,
    /// The result does not fit.
    #[error("the amount is too large")]
    Overflow,
}

impl Money {
    /// A checked amount. Errors: what is wrong with it.
    pub fn new(currency: impl Into<String>, units: i64, nanos: i32) -> Result<Self, MoneyError> {
        let currency = currency.into();
        if currency.len() != 3 || !currency.bytes().all(|letter| letter.is_ascii_uppercase()) {
            return Err(MoneyError::Currency);
        }
        if units < 0 || nanos < 0 {
            return Err(MoneyError::Negative);
        }
        if i128::from(nanos) >= NANOS_PER_UNIT {
            return Err(MoneyError::Nanos);
        }
        Ok(Self { currency, units, nanos })
    }

    /// The ISO 4217 code.
    pub fn currency(&self) -> &str {
        &self.currency
    }

    /// The whole units.
    pub fn units(&self) -> i64 {
        self.units
    }

    /// The billionths beyond the whole units.
    pub fn nanos(&self) -> i32 {
        self.nanos
    }

    /// The sum. Errors: different currencies, or too large.
    pub fn plus(&self, other: &Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Mixed);
        }
        self.with(self.total_nanos() + other.total_nanos())
    }

    /// The price of `quantity` pieces. Errors: too large.
    pub fn times(&self, quantity: u32) -> Result<Self, MoneyError> {
        self.with(self.total_nanos() * i128::from(quantity))
    }

    fn total_nanos(&self) -> i128 {
        i128::from(self.units) * NANOS_PER_UNIT + i128::from(self.nanos)
    }

    fn with(&self, total_nanos: i128) -> Result<Self, MoneyError> {
        let units =
            i64::try_from(total_nanos / NANOS_PER_UNIT).map_err(|_| MoneyError::Overflow)?;
        let nanos =
            i32::try_from(total_nanos % NANOS_PER_UNIT).map_err(|_| MoneyError::Overflow)?;
        Self::new(self.currency.clone(), units, nanos)
    }
}

impl TryFrom<Wire> for Money {
    type Error = MoneyError;

    fn try_from(wire: Wire) -> Result<Self, MoneyError> {
        Self::new(wire.currency_code, wire.units, wire.nanos)
    }
}

impl From<Money> for Wire {
    fn from(money: Money) -> Self {
        Self { currency_code: money.currency, units: money.units, nanos: money.nanos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn krw(units: i64) -> Money {
        Money::new("KRW", units, 0).unwrap()
    }

    #[test]
    fn a_price_times_a_quantity_is_exact() {
        let dime = Money::new("USD", 0, 100_000_000).unwrap();
        assert_eq!(dime.times(25), Money::new("USD", 2, 500_000_000));
    }

    #[test]
    fn amounts_of_different_currencies_do_not_add() {
        assert_eq!(krw(1).plus(&Money::new("USD", 1, 0).unwrap()), Err(MoneyError::Mixed));
    }

    #[test]
    fn an_amount_beyond_the_wire_is_refused() {
        assert_eq!(krw(i64::MAX).times(2), Err(MoneyError::Overflow));
        assert_eq!(krw(i64::MAX).plus(&krw(1)), Err(MoneyError::Overflow));
    }

    #[test]
    fn bad_amounts_are_told_apart() {
        assert_eq!(Money::new("won", 1, 0), Err(MoneyError::Currency));
        assert_eq!(Money::new("KRW", -1, 0), Err(MoneyError::Negative));
        assert_eq!(Money::new("KRW", 1, 1_000_000_000), Err(MoneyError::Nanos));
    }
}
