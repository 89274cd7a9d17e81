//! Which of the 64 shards: a set, one bit each, as the statements take it too.

use std::{fmt, str::FromStr};

/// How many shards every outbox has.
pub const SHARDS: u32 = 64;

/// A set of shards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shards(u64);

impl Shards {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// Every one.
    pub const ALL: Self = Self(u64::MAX);

    /// A single one, by its number.
    pub fn of(shard: i16) -> Self {
        Self(u32::try_from(shard).ok().and_then(|shard| 1_u64.checked_shl(shard)).unwrap_or(0))
    }

    /// As statements return it: `bit_or(1::bigint << shard)`.
    pub fn from_mask(mask: i64) -> Self {
        Self(mask.cast_unsigned())
    }

    /// As statements take it: `($1::bigint >> shard) & 1 = 1`.
    pub fn mask(self) -> i64 {
        self.0.cast_signed()
    }

    /// How many.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of these are in the other set.
    pub fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Those in either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in both.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// These without the others.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The first of them alone.
    #[must_use]
    pub fn first(self) -> Self {
        Self(self.0 & self.0.wrapping_neg())
    }

    /// Their numbers, ascending.
    pub fn numbers(self) -> Vec<i16> {
        (0..64).filter(|shard| self.0 >> shard & 1 == 1).collect()
    }

    /// The last so many of them.
    #[must_use]
    pub fn last(self, count: u32) -> Self {
        let mut rest = self;
        for _ in count..self.len() {
            rest.0 &= rest.0 - 1;
        }
        rest
    }
}

/// As [`Shards::from_mask`].
impl From<i64> for Shards {
    fn from(mask: i64) -> Self {
        Self::from_mask(mask)
    }
}

/// As ranges: `0-20,35`.
impl fmt::Display for Shards {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shard = 0;
        let mut separator = "";
        while let Some(rest) = self.0.checked_shr(shard).filter(|rest| *rest != 0) {
            let first = shard + rest.trailing_zeros();
            let last = first + (self.0 >> first).trailing_ones() - 1;
            write!(formatter, "{separator}{first}")?;
            if last > first {
                write!(formatter, "-{last}")?;
            }
            (shard, separator) = (last + 1, ",");
        }
        Ok(())
    }
}

impl FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.trim().parse::<u32>() {
            Ok(shard) if shard < SHARDS => Ok(shard),
            Ok(shard) => Err(format!("there is no shard {shard}: they are 0 to {}", SHARDS - 1)),
            Err(_) => Err(format!("{text:?} is not a shard: write 0-20,35")),
        };
        let mut shards = Self::NONE;
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("{range:?} ends before it begins"));
            }
            shards.0 |= (first..=last).fold(0, |mask, shard| mask | 1 << shard);
        }
        Ok(shards)
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Shards({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(shards: &[u32]) -> Shards {
        Shards(shards.iter().fold(0, |mask, shard| mask | 1 << shard))
    }

    #[test]
    fn a_set_is_shown_as_ranges() {
        assert_eq!(set(&[0, 1, 2, 5, 62, 63]).to_string(), "0-2,5,62-63");
        assert_eq!(Shards::ALL.to_string(), "0-63");
        assert_eq!(Shards::NONE.to_string(), "");
    }

    #[test]
    fn ranges_are_read_as_they_are_shown() {
        for shards in [set(&[0, 1, 2, 5, 62, 63]), Shards::ALL, set(&[7])] {
            assert_eq!(shards.to_string().parse(), Ok(shards));
        }
        for wrong in ["", "64", "5-3", "1,,2", "-1", "0-64", "a"] {
            assert!(wrong.parse::<Shards>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_ones_are_handed_over() {
        assert_eq!(set(&[1, 2, 40, 63]).last(2), set(&[40, 63]));
        assert_eq!(Shards::ALL.last(64), Shards::ALL);
        assert_eq!(Shards::ALL.last(0), Shards::NONE);
    }

    #[test]
    fn the_first_speaks_for_all() {
        assert_eq!(set(&[5, 7, 63]).first(), set(&[5]));
        assert_eq!(set(&[5, 7, 63]).numbers(), [5, 7, 63]);
        assert_eq!(Shards::NONE.first(), Shards::NONE);
    }

    #[test]
    fn the_mask_survives_the_sign_bit() {
        assert_eq!(Shards::from_mask(set(&[63]).mask()), set(&[63]));
        assert!(set(&[63]).is_within(Shards::ALL));
        assert_eq!(Shards::ALL.without(set(&[63])).len(), 63);
    }
}
