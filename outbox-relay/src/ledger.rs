//! What has been handed to Kafka and how far it is acknowledged without a gap. Pure: no cursor it offers ever lies beyond
//! a row that is neither delivered nor set aside.

use std::{collections::VecDeque, time::Instant};

use crate::{
    cursor::{Cursor, Followers, Lane, Snapshot, Within},
    shards::Shards,
};

/// The rows on their way, in the order they were sent, with the ends of their windows.
#[derive(Debug)]
pub struct Ledger {
    lanes: Vec<Standing>,
    /// The windows that the next rows belong to.
    open: Vec<(Shards, Snapshot)>,
    entries: VecDeque<Entry>,
    /// The ordinal of the first entry.
    first: usize,
    in_flight: usize,
    unrecorded: usize,
    set_aside: Vec<i64>,
}

/// A lane, the window that its next entry belongs to, and whether it has moved since it was recorded.
#[derive(Debug)]
struct Standing {
    lane: Lane,
    window: Option<Snapshot>,
    moved: bool,
    followers: Followers,
}

#[derive(Debug)]
enum Entry {
    Begin(Shards, Snapshot),
    Row { shards: Shards, seq: i64, weight: usize, sent_at: Instant, state: State },
    End(Shards),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sent,
    Delivered,
    SetAside,
}

/// What one look at the acknowledgements has brought.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// How many rows the cursors have passed.
    pub rows: u64,
    /// Whether a cursor differs from before.
    pub moved: bool,
}

impl Ledger {
    /// Starts with nothing on its way.
    pub fn new(lanes: &[Lane]) -> Self {
        let standing = |lane: &Lane| Standing {
            lane: lane.clone(),
            window: None,
            moved: false,
            followers: Followers::New,
        };
        Self {
            lanes: lanes.iter().map(standing).collect(),
            open: Vec::new(),
            entries: VecDeque::new(),
            first: 0,
            in_flight: 0,
            unrecorded: 0,
            set_aside: Vec::new(),
        }
    }

    /// The positions up to which everything is delivered or set aside.
    pub fn lanes(&self) -> Vec<Lane> {
        self.lanes.iter().map(|standing| standing.lane.clone()).collect()
    }

    /// Those positions that have moved since they were recorded.
    pub fn moved(&self) -> impl Iterator<Item = (&Lane, Followers)> {
        let moved = self.lanes.iter().filter(|standing| standing.moved);
        moved.map(|standing| (&standing.lane, standing.followers))
    }

    /// The rows among those that the positions have passed which were set aside, and have to be kept elsewhere when the
    /// positions are recorded.
    pub fn set_aside(&self) -> &[i64] {
        &self.set_aside
    }

    /// Bytes sent and not yet passed by a cursor.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Bytes sent since the cursors were last recorded: what a crash now would send twice.
    pub fn unrecorded(&self) -> usize {
        self.unrecorded
    }

    /// When the row that the cursors wait for was sent.
    pub fn oldest(&self) -> Option<Instant> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Row { sent_at, .. } => Some(*sent_at),
            Entry::Begin(..) | Entry::End(_) => None,
        })
    }

    /// Whether exactly one row is on its way, so that a refusal can mean no other.
    pub fn has_one_on_its_way(&self) -> bool {
        self.on_their_way().take(2).count() == 1
    }

    /// Whether any row is on its way.
    pub fn has_some_on_their_way(&self) -> bool {
        self.on_their_way().next().is_some()
    }

    fn on_their_way(&self) -> impl Iterator<Item = &Entry> {
        let sent = |entry: &&Entry| matches!(entry, Entry::Row { state: State::Sent, .. });
        self.entries.iter().filter(sent)
    }

    /// The following rows of these shards belong to the window that ends with this snapshot.
    pub fn window(&mut self, shards: Shards, target: &Snapshot) {
        if self.open.iter().any(|open| open.0 == shards && open.1 == *target) {
            return;
        }
        self.open.retain(|open| open.0 != shards);
        self.open.push((shards, target.clone()));
        self.entries.push_back(Entry::Begin(shards, target.clone()));
    }

    /// Notes a row that is handed to Kafka and returns the ordinal that its delivery will name.
    pub fn sent(&mut self, shards: Shards, seq: i64, weight: usize, sent_at: Instant) -> usize {
        self.row(shards, seq, weight, sent_at, State::Sent)
    }

    /// Notes a row that is not sent, but kept elsewhere once the cursor passes it.
    pub fn aside(&mut self, shards: Shards, seq: i64, weight: usize, noted_at: Instant) {
        self.row(shards, seq, weight, noted_at, State::SetAside);
    }

    fn row(
        &mut self,
        shards: Shards,
        seq: i64,
        weight: usize,
        sent_at: Instant,
        state: State,
    ) -> usize {
        self.in_flight += weight;
        self.unrecorded += weight;
        self.entries.push_back(Entry::Row { shards, seq, weight, sent_at, state });
        self.first + self.entries.len() - 1
    }

    /// Takes back the last row, which was not sent after all.
    pub fn unsend(&mut self) {
        if let Some(Entry::Row { weight, .. }) = self.entries.pop_back() {
            self.in_flight -= weight;
            self.unrecorded -= weight;
        }
    }

    /// All rows of the window have been sent.
    pub fn end(&mut self, shards: Shards) {
        self.open.retain(|open| open.0 != shards);
        self.entries.push_back(Entry::End(shards));
    }

    /// Kafka has acknowledged the row.
    pub fn delivered(&mut self, ordinal: usize) {
        let entry = ordinal.checked_sub(self.first).and_then(|index| self.entries.get_mut(index));
        if let Some(Entry::Row { state, .. }) = entry {
            *state = State::Delivered;
        }
    }

    /// The sequence number behind an ordinal.
    pub fn seq(&self, ordinal: usize) -> Option<i64> {
        match self.entries.get(ordinal.checked_sub(self.first)?)? {
            Entry::Row { seq, .. } => Some(*seq),
            Entry::Begin(..) | Entry::End(_) => None,
        }
    }

    /// Moves the cursors over everything that is delivered without a gap.
    pub fn advance(&mut self) -> Advance {
        let mut advance = Advance::default();
        loop {
            match self.entries.front() {
                None | Some(Entry::Row { state: State::Sent, .. }) => return advance,
                Some(_) => {}
            }
            match self.entries.pop_front() {
                Some(Entry::Row { shards, seq, weight, state, .. }) => {
                    self.in_flight -= weight;
                    advance.rows += 1;
                    advance.moved |= self.standing(shards).pass(seq);
                    if state == State::SetAside {
                        self.set_aside.push(seq);
                    }
                }
                Some(Entry::Begin(shards, target)) => self.standing(shards).window = Some(target),
                Some(Entry::End(shards)) => advance.moved |= self.standing(shards).finish(),
                None => return advance,
            }
            self.first += 1;
        }
    }

    /// The positions as they are now have been recorded.
    pub fn recorded(&mut self) {
        self.unrecorded = self.in_flight;
        self.set_aside.clear();
        for standing in self.lanes.iter_mut().filter(|standing| standing.moved) {
            standing.moved = false;
            standing.followers = Followers::Told;
        }
    }

    /// The standing of these shards: of one lane, or of several that the reader has brought to the same position.
    fn standing(&mut self, shards: Shards) -> &mut Standing {
        let index = match self.lanes.iter().position(|it| it.lane.shards == shards) {
            Some(index) => index,
            None => self.merge(shards),
        };
        &mut self.lanes[index]
    }

    fn merge(&mut self, shards: Shards) -> usize {
        let within = |it: &Standing| it.lane.shards.is_within(shards);
        let (merged, rest): (Vec<_>, Vec<_>) = self.lanes.drain(..).partition(within);
        debug_assert!(
            merged.windows(2).all(|pair| pair[0].lane.cursor == pair[1].lane.cursor),
            "lanes at different positions cannot be one: {merged:?}"
        );
        self.lanes = rest;
        let moved = merged.iter().any(|it| it.moved);
        self.lanes.extend(merged.into_iter().next().map(|first| Standing {
            lane: Lane { shards, cursor: first.lane.cursor },
            window: None,
            moved,
            followers: Followers::New,
        }));
        self.lanes.len() - 1
    }
}

impl Standing {
    fn pass(&mut self, seq: i64) -> bool {
        let Some(target) = &self.window else { return false };
        match &mut self.lane.cursor.within {
            Some(within) if within.target == *target => within.sent_seq = seq,
            within => *within = Some(Within { target: target.clone(), sent_seq: seq }),
        }
        self.moved = true;
        true
    }

    fn finish(&mut self) -> bool {
        let Some(target) = self.window.take() else { return false };
        self.lane.cursor = Cursor { acked: target, within: None };
        self.moved = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Shards = Shards::ALL;

    fn snapshot(text: &str) -> Snapshot {
        text.to_owned().into()
    }

    fn at(acked: &str) -> Cursor {
        Cursor { acked: snapshot(acked), within: None }
    }

    fn within(target: &str, sent_seq: i64) -> Cursor {
        Cursor {
            acked: snapshot("10:10:"),
            within: Some(Within { target: snapshot(target), sent_seq }),
        }
    }

    fn ledger(cursor: Cursor) -> Ledger {
        Ledger::new(&[Lane { shards: ALL, cursor }])
    }

    fn cursor(ledger: &Ledger) -> Cursor {
        let [lane] = ledger.lanes().try_into().unwrap();
        lane.cursor
    }

    #[test]
    fn the_cursor_never_passes_a_row_that_is_not_delivered() {
        let (mut ledger, now) = (ledger(at("10:10:")), Instant::now());
        ledger.window(ALL, &snapshot("20:20:"));
        let ordinals = [7, 8, 9].map(|seq| ledger.sent(ALL, seq, 100, now));
        ledger.end(ALL);
        ledger.delivered(ordinals[2]);
        ledger.delivered(ordinals[0]);
        assert_eq!(ledger.advance(), Advance { rows: 1, moved: true });
        assert_eq!(cursor(&ledger), within("20:20:", 7));
        assert_eq!((ledger.in_flight(), ledger.unrecorded()), (200, 300));
        assert!(ledger.has_one_on_its_way());
        ledger.delivered(ordinals[1]);
        assert_eq!(ledger.advance(), Advance { rows: 2, moved: true });
        assert_eq!(cursor(&ledger), at("20:20:"));
        ledger.recorded();
        assert_eq!((ledger.in_flight(), ledger.unrecorded()), (0, 0));
        assert_eq!(ledger.moved().count(), 0);
    }

    #[test]
    fn a_window_that_is_resumed_keeps_its_position_until_the_next_row() {
        let mut ledger = ledger(within("20:20:", 7));
        ledger.window(ALL, &snapshot("20:20:"));
        assert!(!ledger.advance().moved);
        assert_eq!(cursor(&ledger), within("20:20:", 7));
        let ordinal = ledger.sent(ALL, 8, 1, Instant::now());
        ledger.delivered(ordinal);
        assert!(ledger.advance().moved);
        assert_eq!(cursor(&ledger), within("20:20:", 8));
    }

    #[test]
    fn an_empty_window_moves_the_cursor_to_its_end() {
        let mut ledger = ledger(at("10:10:"));
        ledger.window(ALL, &snapshot("30:30:"));
        ledger.end(ALL);
        assert_eq!(ledger.advance(), Advance { rows: 0, moved: true });
        assert_eq!(cursor(&ledger), at("30:30:"));
    }

    #[test]
    fn a_row_that_found_no_room_leaves_no_trace() {
        let mut ledger = ledger(at("10:10:"));
        ledger.window(ALL, &snapshot("30:30:"));
        let ordinal = ledger.sent(ALL, 1, 5, Instant::now());
        ledger.unsend();
        assert_eq!((ledger.in_flight(), ledger.oldest()), (0, None));
        assert_eq!(ledger.sent(ALL, 1, 5, Instant::now()), ordinal);
        assert_eq!(ledger.seq(ordinal), Some(1));
    }

    #[test]
    fn a_row_set_aside_waits_for_those_before_it_and_is_named_when_it_is_passed() {
        let (mut ledger, now) = (ledger(at("10:10:")), Instant::now());
        ledger.window(ALL, &snapshot("20:20:"));
        let before = ledger.sent(ALL, 1, 1, now);
        ledger.aside(ALL, 2, 1, now);
        ledger.advance();
        assert!(ledger.set_aside().is_empty());
        ledger.delivered(before);
        assert_eq!(ledger.advance().rows, 2);
        assert_eq!((cursor(&ledger), ledger.set_aside()), (within("20:20:", 2), [2].as_slice()));
        ledger.recorded();
        assert!(ledger.set_aside().is_empty());
    }

    #[test]
    fn lanes_move_apart_and_become_one_at_the_same_end() {
        let low = Shards::ALL.last(32);
        let high = Shards::ALL.without(low);
        let mut ledger = Ledger::new(&[
            Lane { shards: low, cursor: at("10:10:") },
            Lane { shards: high, cursor: at("15:15:") },
        ]);
        let now = Instant::now();
        for (shards, seq) in [(low, 1), (high, 2)] {
            ledger.window(shards, &snapshot("20:20:"));
            let ordinal = ledger.sent(shards, seq, 1, now);
            ledger.delivered(ordinal);
        }
        ledger.end(low);
        ledger.advance();
        assert_eq!(ledger.lanes()[0], Lane { shards: low, cursor: at("20:20:") });
        assert_eq!(ledger.moved().count(), 2);
        ledger.end(high);
        ledger.window(ALL, &snapshot("30:30:"));
        ledger.end(ALL);
        ledger.advance();
        assert_eq!(ledger.lanes(), [Lane { shards: ALL, cursor: at("30:30:") }]);
        assert_eq!(ledger.moved().next().map(|moved| moved.1), Some(Followers::New));
        ledger.recorded();
        ledger.window(ALL, &snapshot("40:40:"));
        ledger.end(ALL);
        ledger.advance();
        assert_eq!(ledger.moved().next().map(|moved| moved.1), Some(Followers::Told));
    }
}
