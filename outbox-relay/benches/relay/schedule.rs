//! When each event should be committed: a thousand commits a second, whatever becomes of the ones before. Every latency
//! counts from here, so that a system which stalls does not hide how long the next events waited for it.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// Commits are a millisecond apart.
const TICK: Duration = Duration::from_millis(1);
const TICKS_PER_SECOND: u64 = 1000;

/// The plan of one load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    start: Instant,
    events_per_tick: u64,
    warm_up_ticks: u64,
    ticks: u64,
}

impl Schedule {
    /// Of so many events a second, beginning at `start`.
    pub(crate) fn new(start: Instant, rate: u64, warm_up: Duration, measured: Duration) -> Self {
        let ticks = |time: Duration| time.as_secs() * TICKS_PER_SECOND;
        Self {
            start,
            events_per_tick: rate / TICKS_PER_SECOND,
            warm_up_ticks: ticks(warm_up),
            ticks: ticks(warm_up) + ticks(measured),
        }
    }

    /// When a commit is due.
    pub(crate) fn due(&self, tick: u64) -> Instant {
        self.start + TICK * u32::try_from(tick).unwrap_or(u32::MAX)
    }

    /// When the measured part begins.
    pub(crate) fn measured_from(&self) -> Instant {
        self.due(self.warm_up_ticks)
    }

    /// All commits, in order.
    pub(crate) fn ticks(&self) -> Range<u64> {
        0..self.ticks
    }

    /// The events of one commit.
    pub(crate) fn events(&self, tick: u64) -> Range<u64> {
        tick * self.events_per_tick..(tick + 1) * self.events_per_tick
    }

    /// Whether this commit counts.
    pub(crate) fn counts(&self, tick: u64) -> bool {
        (self.warm_up_ticks..self.ticks).contains(&tick)
    }

    /// The commit that an event belongs to, if it is of this load.
    pub(crate) fn tick_of(&self, event: u64) -> Option<u64> {
        let tick = event / self.events_per_tick;
        (tick < self.ticks).then_some(tick)
    }

    /// How many events there are.
    pub(crate) fn all(&self) -> u64 {
        self.ticks * self.events_per_tick
    }
}
