//! Positions in the journal as readers hand them back: after a record, or after a few of its decisions.

use std::cmp::Ordering;
use std::fmt;

use super::problem::Problem;
use crate::model::ids::Lsn;

/// How far a reader is: through with everything up to a record, or with the first few decisions of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub lsn: Lsn,
    /// How many of this record's decisions were read; all of them if it is none.
    pub read: Option<usize>,
}

impl Position {
    /// Reads a position that was handed out; `what` names where it stands in the request.
    pub fn parse(what: &str, text: &str) -> Result<Self, Problem> {
        let (lsn, read) = match text.split_once('.') {
            Some((lsn, read)) => (lsn, read.parse().ok().map(Some)),
            None => (text, Some(None)),
        };
        // Far beyond every position there can be, and the next one can still be counted.
        let lsn = lsn.parse().ok().filter(|lsn| *lsn < u64::MAX / 2).map(Lsn);
        lsn.zip(read).map(|(lsn, read)| Position { lsn, read }).ok_or_else(|| {
            Problem::invalid(format!("{what} is {text:.60?}; it is an LSN or the position of an earlier answer"))
        })
    }

    /// The position, if it is one of the journal whose last committed record is `last`.
    ///
    /// # Errors
    /// When that ends before it: whoever goes on there would miss all that comes until then.
    pub fn within(self, last: Lsn) -> Result<Self, Problem> {
        if self.lsn <= last {
            return Ok(self);
        }
        Err(Problem::invalid(format!("{self} is a position of another journal: this one ends at LSN {last}")))
    }

    /// Through with everything up to `lsn`.
    pub fn through(lsn: Lsn) -> Self {
        Position { lsn, read: None }
    }

    /// Through with everything before `lsn`.
    pub fn before(lsn: Lsn) -> Self {
        Position::through(Lsn(lsn.0.saturating_sub(1)))
    }

    /// After the decision at place `nth` of the `count` that the record at `lsn` holds.
    pub fn after_decision(lsn: Lsn, nth: usize, count: usize) -> Self {
        Position { lsn, read: (nth + 1 < count).then_some(nth + 1) }
    }

    /// The first record that is not read to its end.
    pub fn from(self) -> Lsn {
        if self.read.is_some() { self.lsn } else { self.lsn.next() }
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |position: &Self| (position.lsn, position.read.unwrap_or(usize::MAX));
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.read {
            Some(read) => write!(f, "{}.{read}", self.lsn),
            None => self.lsn.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a reader would miss decisions or see them twice.
    #[test]
    fn positions_are_read_as_they_are_written() {
        for text in ["0", "7", "7.1", "123456789.0"] {
            assert_eq!(Position::parse("after", text).unwrap().to_string(), text);
        }
        for text in ["", "x", "-1", "7.", ".7", "7.x", "1.2.3", "18446744073709551615", "99999999999999999999"] {
            assert!(Position::parse("after", text).is_err(), "{text}");
        }
    }

    /// If this failed, a stream that goes on in the middle of a record would tell its decisions again, or leave some out.
    #[test]
    fn positions_follow_each_other() {
        let order = ["6", "7.0", "7.1", "7.2", "7", "8.1"].map(|text| Position::parse("after", text).unwrap());
        assert!(order.is_sorted());
        for (text, from) in [("6", 7), ("7.0", 7), ("7.1", 7), ("7", 8)] {
            assert_eq!(Position::parse("after", text).unwrap().from(), Lsn(from), "{text}");
        }
        let of_three = [0, 1, 2].map(|nth| Position::after_decision(Lsn(7), nth, 3).to_string());
        assert_eq!(of_three, ["7.1", "7.2", "7"]);
    }
}
