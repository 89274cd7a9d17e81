//! How much may be on its way at once. After a failure a single row is tried alone, so that a row which fails again
//! and again does not drag copies of its followers along; every success doubles the room.

/// The room between Postgres and Kafka, in bytes.
#[derive(Debug, Clone)]
pub struct Budget {
    limit: usize,
    most: usize,
}

impl Budget {
    /// All the room there is.
    pub fn new(most: usize) -> Self {
        Self { limit: most, most }
    }

    /// Whether another row may go. One always may, whatever its size.
    pub fn admits(&self, in_flight: usize, unrecorded: usize) -> bool {
        in_flight == 0 || (in_flight < self.limit && unrecorded < self.most)
    }

    /// Whether so much is unrecorded that the cursor should be written now rather than on time.
    pub fn presses(&self, unrecorded: usize) -> bool {
        unrecorded >= self.most / 2
    }

    /// Something was delivered.
    pub fn grow(&mut self) {
        self.limit = self.limit.saturating_mul(2).min(self.most);
    }

    /// A delivery failed: one row at a time until one succeeds.
    pub fn shrink(&mut self) {
        self.limit = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_rows_go_alone_until_they_arrive() {
        let mut budget = Budget::new(4);
        assert!(budget.admits(3, 3));
        assert!(!budget.admits(4, 4));
        budget.shrink();
        assert!(budget.admits(0, 9));
        assert!(!budget.admits(1, 1));
        budget.grow();
        budget.grow();
        budget.grow();
        assert!(budget.admits(3, 3) && !budget.admits(4, 4));
    }
}
