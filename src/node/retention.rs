//! How far back the journal is kept, and for whom: never less than the store and the sinks still need, and beyond that as long
//! and as much as is configured. Where room is short, only what is needed stays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::Tuning;
use crate::journal::{JournalError, JournalReader};
use crate::model::ids::Lsn;
use crate::model::record_head::RecordHead;
use crate::model::time::Timestamp;

/// Somebody who still has to read the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// In words, such as `sink decisions`.
    pub by: String,
    /// The first record that is needed.
    pub from: Lsn,
}

impl Need {
    /// For one who is through with everything up to `done`.
    pub fn after(by: impl Into<String>, done: Lsn) -> Self {
        Need { by: by.into(), from: Lsn(done.0.saturating_add(1)) }
    }
}

/// Whether the disk has room for what nobody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Enough,
    Short,
}

/// Who keeps what nobody needs.
const RETENTION: &str = "retention";

/// Who has all of the journal kept for a while.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    /// A backup is being made.
    pub backup: Arc<AtomicBool>,
    /// The node is being verified, which gives way where room is short.
    pub verification: Arc<AtomicBool>,
    /// The journal is being rewritten.
    rewriting: Arc<AtomicBool>,
    /// Locked while it is decided what goes, or who begins.
    deciding: Arc<Mutex<()>>,
}

impl Holds {
    /// Nobody begins to hold it until the guard is dropped.
    pub fn decide(&self) -> MutexGuard<'_, ()> {
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it kept for a verification from what was decided last; false if it is kept for one already.
    pub fn verify(&self) -> bool {
        let _decided = self.decide();
        !self.rewriting.load(Ordering::SeqCst) && !self.verification.swap(true, Ordering::SeqCst)
    }

    /// Whether the journal may be rewritten now: then nobody begins to verify it.
    pub fn begin_rewriting(&self) -> bool {
        let _decided = self.decide();
        let is_read = self.verification.load(Ordering::SeqCst) || self.backup.load(Ordering::SeqCst);
        self.rewriting.store(!is_read, Ordering::SeqCst);
        !is_read
    }

    /// It is rewritten.
    pub fn end_rewriting(&self) {
        self.rewriting.store(false, Ordering::SeqCst);
    }

    /// What that comes to for a journal that begins with `first`.
    pub fn needs(&self, first: Lsn, room: Room) -> impl Iterator<Item = Need> {
        let verification = self.verification.load(Ordering::SeqCst) && room == Room::Enough;
        let all = [("a backup", self.backup.load(Ordering::SeqCst)), ("a verification", verification)];
        all.into_iter().filter(|(_, is_held)| *is_held).map(move |(by, _)| Need { by: by.to_owned(), from: first })
    }
}

/// What is kept, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Everything before this may go.
    pub from: Lsn,
    /// Who keeps it from going further.
    pub held_by: String,
    /// When the first record that is there was made.
    pub since: Option<Timestamp>,
}

/// Everything, until it was looked at.
impl Default for Kept {
    fn default() -> Self {
        Kept { from: Lsn::FIRST, held_by: RETENTION.to_owned(), since: None }
    }
}

/// One segment.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Lsn,
    /// When its first record was made; none while it has none.
    at: Option<Timestamp>,
    bytes: u64,
}

/// The configured retention.
#[derive(Debug)]
pub struct Retention {
    age: Duration,
    bytes: Option<u64>,
    /// When the first record of each segment was made.
    times: BTreeMap<Lsn, Timestamp>,
}

impl Retention {
    pub fn new(tuning: &Tuning) -> Self {
        Retention { age: tuning.journal.retention, bytes: tuning.journal.retention_bytes, times: BTreeMap::new() }
    }

    /// What of the journal is to be kept now.
    ///
    /// # Errors
    /// When the beginning of a segment cannot be read.
    pub fn look(
        &mut self,
        journal: &JournalReader,
        needs: &[Need],
        now: Timestamp,
        room: Room,
    ) -> Result<Kept, JournalError> {
        let mut spans = Vec::new();
        for (first, bytes) in journal.spans() {
            spans.push(Span { first, at: self.made_at(journal, first)?, bytes });
        }
        if let Some(oldest) = spans.first() {
            self.times = self.times.split_off(&oldest.first);
        }
        Ok(self.kept(&spans, needs, now, room))
    }

    /// When the first record at `first` or behind that was made.
    fn made_at(&mut self, journal: &JournalReader, first: Lsn) -> Result<Option<Timestamp>, JournalError> {
        if let Some(known) = self.times.get(&first) {
            return Ok(Some(*known));
        }
        let blocks = match journal.read_from(first) {
            // It went meanwhile.
            Err(JournalError::Trimmed { .. }) => return Ok(None),
            blocks => blocks?,
        };
        for block in blocks {
            let block = block?;
            if let Some(head) = block.records().find_map(|(_, bytes)| RecordHead::of(bytes).ok()) {
                self.times.insert(first, head.now);
                return Ok(Some(head.now));
            }
        }
        Ok(None)
    }

    fn kept(&self, spans: &[Span], needs: &[Need], now: Timestamp, room: Room) -> Kept {
        let since = spans.first().and_then(|oldest| oldest.at);
        let mut kept = Kept { from: self.wanted(spans, now, room), held_by: RETENTION.to_owned(), since };
        if let Some(need) = needs.iter().filter(|need| need.from < kept.from).min_by_key(|need| need.from) {
            kept.from = need.from;
            kept.held_by.clone_from(&need.by);
        }
        kept
    }

    /// Where that begins which is young and little enough.
    fn wanted(&self, spans: &[Span], now: Timestamp, room: Room) -> Lsn {
        let Some(newest) = spans.last() else { return Lsn::FIRST };
        if room == Room::Short {
            return newest.first;
        }
        // A segment is as old as what follows it.
        let is_over = |span: &&Span| span.at.is_some_and(|at| at.after(self.age) <= now);
        let by_age = spans.iter().rev().find(is_over).map_or(Lsn::FIRST, |span| span.first);
        let bytes_max = self.bytes.unwrap_or(u64::MAX);
        let mut bytes = 0_u64;
        let fits = |span: &&Span| {
            bytes = bytes.saturating_add(span.bytes);
            bytes <= bytes_max
        };
        let by_bytes = spans.iter().rev().take_while(fits).last().map_or(newest.first, |span| span.first);
        by_age.max(by_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::fixtures::tuning;

    fn second(n: i64) -> Timestamp {
        Timestamp::from_nanos(i128::from(n) * 1_000_000_000).unwrap()
    }

    /// Too early a trim takes away what a recovery, a sink or an operator still needs; too late a one fills the disk.
    #[test]
    fn what_is_young_and_little_enough_or_needed_stays() {
        let mut tuning = tuning();
        tuning.journal.retention = Duration::from_secs(100);
        tuning.journal.retention_bytes = Some(25);
        let by_both = Retention::new(&tuning);
        tuning.journal.retention_bytes = None;
        let by_age = Retention::new(&tuning);
        let span = |first, at| Span { first: Lsn(first), at, bytes: 10 };
        let spans = [span(1, Some(second(0))), span(11, Some(second(10))), span(21, Some(second(20))), span(31, None)];
        let (enough, short) = (Room::Enough, Room::Short);
        for (retention, now, room, store, sink, expected) in [
            (&by_age, 99, enough, 40, 40, (1, "retention")),
            (&by_age, 109, enough, 40, 40, (1, "retention")),
            (&by_age, 110, enough, 40, 40, (11, "retention")),
            (&by_age, 500, enough, 40, 40, (21, "retention")),
            (&by_age, 500, enough, 15, 40, (16, "the store")),
            (&by_age, 500, enough, 15, 3, (4, "sink s")),
            (&by_age, 0, short, 40, 40, (31, "retention")),
            (&by_age, 0, short, 40, 12, (13, "sink s")),
            (&by_both, 0, enough, 40, 40, (21, "retention")),
            (&by_both, 0, enough, 40, 0, (1, "sink s")),
        ] {
            let needs = [Need::after("the store", Lsn(store)), Need::after("sink s", Lsn(sink))];
            let kept = retention.kept(&spans, &needs, second(now), room);
            assert_eq!((kept.from.0, &*kept.held_by), expected, "at {now}, {room:?}, store {store}, sink {sink}");
            assert_eq!(kept.since, Some(second(0)));
        }
    }

    /// If this failed, a verification would fill the disk, or a backup lose what it is of.
    #[test]
    fn a_verification_gives_way_where_room_is_short() {
        let holds = Holds::default();
        assert_eq!(holds.needs(Lsn(5), Room::Enough).count(), 0);
        holds.verification.store(true, Ordering::SeqCst);
        let by = |holds: &Holds, room| holds.needs(Lsn(5), room).map(|need| (need.by, need.from.0)).collect::<Vec<_>>();
        let (backup, verification) = (("a backup".to_owned(), 5), ("a verification".to_owned(), 5));
        assert_eq!((by(&holds, Room::Enough), by(&holds, Room::Short)), (vec![verification.clone()], Vec::new()));
        holds.backup.store(true, Ordering::SeqCst);
        assert_eq!(by(&holds, Room::Enough), [backup.clone(), verification]);
        assert_eq!(by(&holds, Room::Short), [backup]);
    }
}
