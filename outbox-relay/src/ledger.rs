//! What has been handed to Kafka and how far it is acknowledged without a gap. Pure: the cursor it offers never lies
//! beyond a row that is not delivered.

use std::{collections::VecDeque, time::Instant};

use crate::cursor::{Cursor, Snapshot, Within};

/// The rows on their way, in the order they were sent, with the ends of their windows.
#[derive(Debug)]
pub struct Ledger {
    cursor: Cursor,
    /// The window that the front of the entries belongs to, and the one that the next row will.
    front: Option<Snapshot>,
    back: Option<Snapshot>,
    entries: VecDeque<Entry>,
    /// The ordinal of the first entry.
    first: usize,
    in_flight: usize,
    unrecorded: usize,
}

#[derive(Debug)]
enum Entry {
    Begin(Snapshot),
    Row { seq: i64, weight: usize, sent_at: Instant, delivered: bool },
    End,
}

/// What one look at the acknowledgements has brought.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// How many rows the cursor has passed.
    pub rows: u64,
    /// Whether the cursor differs from before.
    pub moved: bool,
}

impl Ledger {
    /// Starts with nothing on its way.
    pub fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            front: None,
            back: None,
            entries: VecDeque::new(),
            first: 0,
            in_flight: 0,
            unrecorded: 0,
        }
    }

    /// The position up to which everything is delivered.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Bytes sent and not yet passed by the cursor.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Bytes sent since the cursor was last recorded: what a crash now would send twice.
    pub fn unrecorded(&self) -> usize {
        self.unrecorded
    }

    /// When the row that the cursor waits for was sent.
    pub fn oldest(&self) -> Option<Instant> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Row { sent_at, .. } => Some(*sent_at),
            Entry::Begin(_) | Entry::End => None,
        })
    }

    /// The following rows belong to the window that ends with this snapshot.
    pub fn window(&mut self, target: &Snapshot) {
        if self.back.as_ref() != Some(target) {
            self.back = Some(target.clone());
            self.entries.push_back(Entry::Begin(target.clone()));
        }
    }

    /// Notes a row that is handed to Kafka and returns the ordinal that its delivery will name.
    pub fn sent(&mut self, seq: i64, weight: usize, sent_at: Instant) -> usize {
        self.in_flight += weight;
        self.unrecorded += weight;
        self.entries.push_back(Entry::Row { seq, weight, sent_at, delivered: false });
        self.first + self.entries.len() - 1
    }

    /// Takes back the last row, which Kafka's client had no room for.
    pub fn unsend(&mut self) {
        if let Some(Entry::Row { weight, .. }) = self.entries.pop_back() {
            self.in_flight -= weight;
            self.unrecorded -= weight;
        }
    }

    /// All rows of the window have been sent.
    pub fn end(&mut self) {
        self.back = None;
        self.entries.push_back(Entry::End);
    }

    /// Kafka has acknowledged the row.
    pub fn delivered(&mut self, ordinal: usize) {
        let entry = ordinal.checked_sub(self.first).and_then(|index| self.entries.get_mut(index));
        if let Some(Entry::Row { delivered, .. }) = entry {
            *delivered = true;
        }
    }

    /// The sequence number behind an ordinal.
    pub fn seq(&self, ordinal: usize) -> Option<i64> {
        match self.entries.get(ordinal.checked_sub(self.first)?)? {
            Entry::Row { seq, .. } => Some(*seq),
            Entry::Begin(_) | Entry::End => None,
        }
    }

    /// Moves the cursor over everything that is delivered without a gap.
    pub fn advance(&mut self) -> Advance {
        let mut advance = Advance::default();
        loop {
            match self.entries.front() {
                None | Some(Entry::Row { delivered: false, .. }) => return advance,
                Some(_) => {}
            }
            match self.entries.pop_front() {
                Some(Entry::Row { seq, weight, .. }) => {
                    self.in_flight -= weight;
                    advance.rows += 1;
                    advance.moved |= self.pass(seq);
                }
                Some(Entry::Begin(target)) => self.front = Some(target),
                Some(Entry::End) => advance.moved |= self.finish(),
                None => return advance,
            }
            self.first += 1;
        }
    }

    /// The cursor as it is now has been recorded.
    pub fn recorded(&mut self) {
        self.unrecorded = self.in_flight;
    }

    fn pass(&mut self, seq: i64) -> bool {
        match (&mut self.cursor.within, &self.front) {
            (Some(within), Some(target)) if within.target == *target => within.sent_seq = seq,
            (within, Some(target)) => {
                *within = Some(Within { target: target.clone(), sent_seq: seq })
            }
            (_, None) => return false,
        }
        true
    }

    fn finish(&mut self) -> bool {
        let Some(target) = self.front.take() else { return false };
        self.cursor = Cursor { acked: target, within: None };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.to_owned().into()
    }

    fn ledger() -> Ledger {
        Ledger::new(Cursor { acked: snapshot("10:10:"), within: None })
    }

    fn within(target: &str, sent_seq: i64) -> Cursor {
        Cursor {
            acked: snapshot("10:10:"),
            within: Some(Within { target: snapshot(target), sent_seq }),
        }
    }

    #[test]
    fn the_cursor_never_passes_a_row_that_is_not_delivered() {
        let (mut ledger, now) = (ledger(), Instant::now());
        ledger.window(&snapshot("20:20:"));
        let ordinals = [7, 8, 9].map(|seq| ledger.sent(seq, 100, now));
        ledger.end();
        ledger.delivered(ordinals[2]);
        ledger.delivered(ordinals[0]);
        assert_eq!(ledger.advance(), Advance { rows: 1, moved: true });
        assert_eq!(*ledger.cursor(), within("20:20:", 7));
        assert_eq!((ledger.in_flight(), ledger.unrecorded()), (200, 300));
        ledger.delivered(ordinals[1]);
        assert_eq!(ledger.advance(), Advance { rows: 2, moved: true });
        assert_eq!(*ledger.cursor(), Cursor { acked: snapshot("20:20:"), within: None });
        ledger.recorded();
        assert_eq!((ledger.in_flight(), ledger.unrecorded()), (0, 0));
    }

    #[test]
    fn a_window_that_is_resumed_keeps_its_position_until_the_next_row() {
        let mut ledger = Ledger::new(within("20:20:", 7));
        ledger.window(&snapshot("20:20:"));
        assert!(!ledger.advance().moved);
        assert_eq!(*ledger.cursor(), within("20:20:", 7));
        let ordinal = ledger.sent(8, 1, Instant::now());
        ledger.delivered(ordinal);
        assert!(ledger.advance().moved);
        assert_eq!(*ledger.cursor(), within("20:20:", 8));
    }

    #[test]
    fn an_empty_window_moves_the_cursor_to_its_end() {
        let mut ledger = ledger();
        ledger.window(&snapshot("30:30:"));
        ledger.end();
        assert_eq!(ledger.advance(), Advance { rows: 0, moved: true });
        assert_eq!(ledger.cursor().acked, snapshot("30:30:"));
    }

    #[test]
    fn a_row_that_found_no_room_leaves_no_trace() {
        let mut ledger = ledger();
        ledger.window(&snapshot("30:30:"));
        let ordinal = ledger.sent(1, 5, Instant::now());
        ledger.unsend();
        assert_eq!((ledger.in_flight(), ledger.oldest()), (0, None));
        assert_eq!(ledger.sent(1, 5, Instant::now()), ordinal);
        assert_eq!(ledger.seq(ordinal), Some(1));
    }
}
