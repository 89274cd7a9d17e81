//! What a load came to: how many of what, and how long it took from the moment each was due.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;

/// An hour, in microseconds: nothing takes longer.
const LONGEST: u64 = 3_600_000_000;

/// What is counted and measured, at one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// How many of what.
    pub counts: BTreeMap<&'static str, u64>,
    /// From the moment an order was due to its acknowledgement, in microseconds.
    pub accept: Histogram<u64>,
    /// From the moment an order was due until it was seen settled, in microseconds.
    pub settle: Histogram<u64>,
}

/// Counts from many sides.
#[derive(Debug)]
pub struct Tally(Mutex<Figures>);

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> anyhow::Result<Self> {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3)?;
        let (accept, settle) = (histogram.clone(), histogram);
        Ok(Self(Mutex::new(Figures { counts: BTreeMap::new(), accept, settle })))
    }

    /// One more of this.
    pub fn count(&self, what: &'static str) {
        *self.lock().counts.entry(what).or_default() += 1;
    }

    /// An order was acknowledged so long after it was due.
    pub fn accepted(&self, after: Duration) {
        self.lock().accept.saturating_record(micros(after));
    }

    /// An order was seen settled so long after it was due.
    pub fn settled(&self, after: Duration) {
        self.lock().settle.saturating_record(micros(after));
    }

    /// All of it, as it is now.
    pub fn figures(&self) -> Figures {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(LONGEST)
}
