//! What to ask for next: pages in the order of the cursor, and each poll a little of what was read before.
//!
//! Numbers are given out before their rows are committed, so a row may appear behind rows with higher numbers. All that is
//! promised is that it appears before a row whose number is higher by `overlap` (or, for times: within `overlap`). So
//! - by number, each page begins `overlap` numbers behind the last one's end, and asks for so many rows more;
//! - by time, where nobody knows how many rows that is, each sweep (from the cursor to the end of what is there) begins
//!   `overlap` behind the cursor, and as much again as the last sweep took: what it read late may have had company.
//!
//! What is read twice is a duplicate by identity. A list of missing numbers would read less, but knows nothing of times,
//! of numbers that are never used, and of those that grow by more than one.

use std::time::{Duration, Instant};

use super::position::Position;
use crate::config::{Growth, PAGE_ROWS_MAX};

/// What to ask for: so many rows after a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub from: Position,
    pub limit: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The last row's place.
    pub last: Option<Position>,
    /// Whether there may be more.
    pub is_full: bool,
}

/// Whether it goes on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    More,
    /// All that was there is read.
    CaughtUp,
    /// More rows than may be asked for have one place, so that nothing tells where to go on.
    Stuck,
}

/// Where a source is in its reading.
#[derive(Debug)]
pub struct Reading {
    growth: Growth,
    limit: u64,
    /// Nothing before this is asked for.
    floor: Position,
    /// The furthest place that was read.
    cursor: Position,
    from: Position,
    /// So many times more is asked for, where the rows of one place fill a page.
    wider: u64,
    sweep_began: Option<Instant>,
}

impl Reading {
    /// Goes on after `cursor`, in pages of `limit` rows.
    pub fn new(growth: Growth, limit: u64, cursor: Position) -> Self {
        let start = Position::start(growth);
        let floor = if start.is_after(&cursor) { cursor } else { start };
        let mut reading = Reading { growth, limit, floor, cursor, from: cursor, wider: 1, sweep_began: None };
        reading.from = reading.behind(cursor, Duration::ZERO);
        reading
    }

    /// The furthest place that was read.
    pub fn cursor(&self) -> Position {
        self.cursor
    }

    /// What to ask for now.
    pub fn ask(&mut self, now: Instant) -> Ask {
        self.sweep_began.get_or_insert(now);
        let overlap = match self.growth {
            Growth::Number { overlap, .. } => overlap,
            Growth::Time { .. } => 0,
        };
        Ask { from: self.from, limit: self.limit.saturating_mul(self.wider).min(PAGE_ROWS_MAX) + overlap }
    }

    /// Takes note of what came.
    pub fn read(&mut self, answer: Answer, now: Instant) -> Next {
        let new_ground = answer.last.filter(|last| last.is_after(&self.cursor));
        self.cursor = new_ground.unwrap_or(self.cursor);
        let last = answer.last.filter(|_| answer.is_full);
        let Some(last) = last else {
            let took = self.sweep_began.take().map_or(Duration::ZERO, |began| now.duration_since(began));
            self.from = self.behind(self.cursor, took);
            self.wider = 1;
            return Next::CaughtUp;
        };
        let overlapping = match (self.growth, new_ground) {
            (Growth::Number { overlap, .. }, Some(_)) => last.back(overlap, Duration::ZERO),
            _ => last,
        };
        // The page may end amid the rows of one place; and one that was cut short may be shorter than the overlap.
        let places = [overlapping, last].map(Position::just_before);
        if let Some(from) = places.into_iter().find(|from| from.is_after(&self.from)) {
            self.from = from;
            self.wider = 1;
            return Next::More;
        }
        if self.limit.saturating_mul(self.wider) >= PAGE_ROWS_MAX {
            return Next::Stuck;
        }
        self.wider *= 2;
        Next::More
    }

    fn behind(&self, cursor: Position, took: Duration) -> Position {
        let from = match self.growth {
            Growth::Number { overlap, .. } => cursor.back(overlap, Duration::ZERO),
            Growth::Time { overlap, .. } => cursor.back(0, overlap.saturating_add(took)),
        };
        if self.floor.is_after(&from) { self.floor } else { from }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::{Span, Timestamp};

    /// Answers from a list of places, as a database would.
    fn answer(rows: &[Position], ask: Ask) -> (Vec<Position>, Answer) {
        let mut found: Vec<_> = rows.iter().copied().filter(|row| row.is_after(&ask.from)).collect();
        found.sort_by_key(|row| match row {
            Position::Number(number) => i128::from(*number),
            Position::Time { at, .. } => at.nanos(),
        });
        found.truncate(ask.limit as usize);
        let is_full = found.len() as u64 >= ask.limit;
        (found.clone(), Answer { last: found.last().copied(), is_full })
    }

    fn sweep(reading: &mut Reading, rows: &[Position], now: Instant) -> Vec<Position> {
        let mut all = Vec::new();
        for _ in 0..1_000 {
            let (found, answer) = answer(rows, reading.ask(now));
            all.extend(found);
            match reading.read(answer, now) {
                Next::More => {}
                Next::CaughtUp => return all,
                Next::Stuck => panic!("stuck"),
            }
        }
        panic!("no end");
    }

    fn numbers(range: impl IntoIterator<Item = i64>) -> Vec<Position> {
        range.into_iter().map(Position::Number).collect()
    }

    /// If this failed, a row that is committed after rows with higher numbers would be lost.
    #[test]
    fn late_numbers_within_the_overlap_are_found() {
        let now = Instant::now();
        let mut reading = Reading::new(Growth::Number { start: 0, overlap: 5 }, 10, Position::Number(0));
        let mut rows = numbers((1..=100).filter(|n| ![96, 94, 30].contains(n)));
        let first = sweep(&mut reading, &rows, now);
        assert!(rows.iter().all(|row| first.contains(row)) && reading.cursor() == Position::Number(100));
        assert!(first.len() < rows.len() * 2, "a backlog is read about once: {}", first.len());
        rows.extend(numbers([96, 94, 30]));
        let again = sweep(&mut reading, &rows, now);
        assert_eq!(again, numbers([96, 97, 98, 99, 100]), "those that are later than promised are not looked for");
    }

    /// If this failed, a row that is committed while later pages are read would be lost.
    #[test]
    fn a_late_number_between_two_pages_is_found() {
        let now = Instant::now();
        let mut reading = Reading::new(Growth::Number { start: 0, overlap: 5 }, 10, Position::Number(0));
        let early = numbers((1..=15).filter(|n| *n != 12));
        let (_, page) = answer(&early, reading.ask(now));
        assert!(!page.is_full);
        reading.read(page, now);
        let rows = numbers(1..=60);
        assert!(sweep(&mut reading, &rows, now).contains(&Position::Number(12)));
        // The same amid a sweep: the first page is full, and then the missing number comes.
        let mut reading = Reading::new(Growth::Number { start: 0, overlap: 5 }, 10, Position::Number(0));
        let (found, page) = answer(&numbers((1..=60).filter(|n| *n != 14)), reading.ask(now));
        assert!(page.is_full && found.contains(&Position::Number(16)));
        assert_eq!(reading.read(page, now), Next::More);
        assert!(sweep(&mut reading, &rows, now).contains(&Position::Number(14)));
    }

    fn seconds(at: i64) -> Position {
        let base = Timestamp::parse("2026-11-20T00:00:00Z").unwrap();
        Position::Time { at: base.plus(Span::from_nanos(i128::from(at) * 1_000_000_000).unwrap()).unwrap(), form: None }
    }

    fn by_time(overlap: u64) -> Growth {
        let start = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        Growth::Time { start, overlap: Duration::from_secs(overlap) }
    }

    /// If this failed, rows of one instant that a page's end parts would be lost, or reading would never end.
    #[test]
    fn rows_of_one_instant_are_all_found() {
        let now = Instant::now();
        let growth = by_time(60);
        for alike in [1, 2, 9, 10, 11, 35] {
            let mut reading = Reading::new(growth, 10, Position::start(growth));
            let rows: Vec<_> = (0..5).flat_map(|at| vec![seconds(at); alike]).collect();
            let found = sweep(&mut reading, &rows, now);
            for at in 0..5 {
                let most = found.iter().filter(|row| **row == seconds(at)).count();
                assert!(most >= alike, "{alike} rows at one time, {most} were read");
            }
        }
        let mut reading = Reading::new(growth, PAGE_ROWS_MAX / 2, Position::start(growth));
        let endless = |reading: &mut Reading| {
            let is_full = Answer { last: Some(seconds(1)), is_full: true };
            reading.ask(now);
            reading.read(is_full, now)
        };
        assert_eq!(
            [endless(&mut reading), endless(&mut reading), endless(&mut reading)],
            [Next::More, Next::More, Next::Stuck]
        );
    }

    /// If this failed, a row whose transaction was open while a long backlog was read would be lost.
    #[test]
    fn by_time_the_next_sweep_begins_further_back_after_a_long_one() {
        let now = Instant::now();
        let mut reading = Reading::new(by_time(60), 10, Position::start(by_time(60)));
        reading.ask(now);
        let last = Some(seconds(1000));
        assert_eq!(reading.read(Answer { last, is_full: false }, now + Duration::from_secs(40)), Next::CaughtUp);
        assert_eq!(reading.ask(now).from, seconds(900));
    }

    /// If this failed, a source would read what is before its `start`, or a rewind before it would read nothing.
    #[test]
    fn nothing_before_the_start_is_asked_for() {
        let now = Instant::now();
        let growth = Growth::Number { start: 50, overlap: 10 };
        for (cursor, from) in [(50, 50), (55, 50), (70, 60), (20, 20)] {
            assert_eq!(Reading::new(growth, 10, Position::Number(cursor)).ask(now).from, Position::Number(from));
        }
    }
}
