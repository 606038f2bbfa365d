//! Rows that were settled: those that are read again, unchanged, need not go to their entities to be found duplicates.
//! What is forgotten here is only asked for there.

use std::collections::{HashSet, VecDeque};

/// So many rows are remembered.
const ROWS_MAX: usize = 200_000;

/// A row's place and content.
pub type RowHash = [u8; 16];

/// The latest rows that were settled.
#[derive(Debug, Default)]
pub struct Seen {
    rows: HashSet<RowHash>,
    order: VecDeque<RowHash>,
}

impl Seen {
    /// Whether the row was settled.
    pub fn has(&self, row: &RowHash) -> bool {
        self.rows.contains(row)
    }

    /// Remembers a settled row, and forgets the oldest for it.
    pub fn add(&mut self, row: RowHash) {
        if !self.rows.insert(row) {
            return;
        }
        self.order.push_back(row);
        if self.order.len() > ROWS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.rows.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a source that runs for long would fill the memory, or ask for rows anew at each poll.
    #[test]
    fn the_latest_rows_are_remembered() {
        let mut seen = Seen::default();
        let row = |n: usize| {
            let mut row = RowHash::default();
            row[..8].copy_from_slice(&n.to_le_bytes());
            row
        };
        for n in 0..ROWS_MAX + 5 {
            seen.add(row(n));
            seen.add(row(n));
        }
        assert!(!seen.has(&row(4)) && seen.has(&row(5)) && seen.has(&row(ROWS_MAX + 4)));
        assert_eq!((seen.rows.len(), seen.order.len()), (ROWS_MAX, ROWS_MAX));
    }
}
