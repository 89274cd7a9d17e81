//! How long an answer is waited for before its command is sent again.

use std::time::Duration;

use rand::Rng as _;

/// How long an answer is waited for: twice as long each time, up to a limit, and never by all sagas at the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// After the first sending.
    pub first: Duration,
    /// At most.
    pub longest: Duration,
    /// What undoes is sent this often before the saga is parked.
    pub attempts: i32,
}

impl Patience {
    /// How long to wait after so many sendings, give or take a quarter.
    pub fn after(&self, attempts: i32) -> Duration {
        let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or_default();
        let doubled = self.first.saturating_mul(2u32.saturating_pow(doublings));
        doubled.min(self.longest).mul_f64(rand::rng().random_range(0.75..1.25))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_doubles_up_to_its_limit() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
        let patience = Patience { first, longest, attempts: 20 };
        for (attempts, expected) in
            [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (i32::MAX, 60)]
        {
            let expected = Duration::from_secs(expected);
            let waited = patience.after(attempts);
            let quarter = expected / 4;
            assert!(waited >= expected - quarter && waited <= expected + quarter, "{attempts}");
        }
    }
}
