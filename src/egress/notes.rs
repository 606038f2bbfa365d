//! When a sink's progress is journaled: after finished deliveries, at most once a second, one note at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::model::ids::Lsn;

/// Progress is journaled at most this often.
pub(super) const NOTED_EVERY: Duration = Duration::from_secs(1);
/// A sink that nothing goes to still notes that it has passed so many records, so that the journal can be trimmed.
const PASSED_UNNOTED_MAX: u64 = 10_000;

/// How far a sink has come, for others to see.
#[derive(Debug)]
pub struct Reached {
    noted: AtomicU64,
    settled: AtomicU64,
}

impl Reached {
    /// It goes on after `lsn`.
    pub fn new(lsn: Lsn) -> Self {
        Reached { noted: lsn.0.into(), settled: lsn.0.into() }
    }

    /// The progress that is durable: after a crash the journal is read from here on.
    pub fn noted(&self) -> Lsn {
        Lsn(self.noted.load(Ordering::Relaxed))
    }

    /// Nothing up to here will ever be delivered again, a crash included.
    pub fn settled(&self) -> Lsn {
        Lsn(self.settled.load(Ordering::Relaxed))
    }

    pub(super) fn note(&self, lsn: Lsn) {
        self.noted.store(lsn.0, Ordering::Relaxed);
    }

    pub(super) fn settle(&self, lsn: Lsn) {
        self.settled.store(lsn.0, Ordering::Relaxed);
    }
}

/// What was noted, and what is on its way.
#[derive(Debug)]
pub(super) struct Notes {
    delivered: Lsn,
    /// Deliveries that were finished when it was last noted.
    finished: u64,
    at: Instant,
    noting: Option<oneshot::Receiver<Lsn>>,
}

impl Notes {
    /// Nothing to note beyond `delivered` yet.
    pub fn new(delivered: Lsn, now: Instant) -> Self {
        Notes { delivered, finished: 0, at: now, noting: None }
    }

    /// Whether there is something that a crash would lose.
    pub fn is_worth_it(&self, delivered: Lsn, finished: u64) -> bool {
        finished > self.finished || delivered.0 >= self.delivered.0.saturating_add(PASSED_UNNOTED_MAX)
    }

    /// Whether every delivery that was finished is noted for good.
    pub fn has_all(&self, finished: u64) -> bool {
        self.noting.is_none() && finished == self.finished
    }

    /// When the next note may be made.
    pub fn due(&self) -> Instant {
        self.at + NOTED_EVERY
    }

    /// Whether a note is to be made now.
    pub fn is_due(&self, delivered: Lsn, finished: u64, now: Instant) -> bool {
        self.noting.is_none() && self.due() <= now && self.is_worth_it(delivered, finished)
    }

    /// A note is on its way.
    pub fn noting(&mut self, delivered: Lsn, finished: u64, now: Instant, durable: oneshot::Receiver<Lsn>) {
        *self = Notes { delivered, finished, at: now, noting: Some(durable) };
    }

    /// What has become durable since the last call.
    pub fn durable(&mut self) -> Option<Lsn> {
        self.noting.as_mut()?.try_recv().ok()?;
        self.noting = None;
        Some(self.delivered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a sink would write the journal full with its own progress, or a crash would repeat for minutes.
    #[test]
    fn progress_is_noted_after_deliveries_once_a_second() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut notes = Notes::new(Lsn(5), begun);
        assert!(!notes.is_due(Lsn(5), 0, at(5000)), "nothing happened");
        assert!(!notes.is_due(Lsn(10_004), 0, at(5000)), "others' records alone are noted now and then");
        assert!(notes.is_due(Lsn(10_005), 0, at(5000)));
        assert!(!notes.is_due(Lsn(6), 1, at(999)) && notes.is_due(Lsn(6), 1, at(1000)));
        let (done, durable) = oneshot::channel();
        notes.noting(Lsn(6), 1, at(1000), durable);
        assert!(!notes.is_due(Lsn(7), 2, at(9000)), "the last one is not durable yet");
        assert_eq!((notes.durable(), notes.has_all(1)), (None, false));
        done.send(Lsn(8)).unwrap();
        assert_eq!(notes.durable(), Some(Lsn(6)));
        assert!(notes.has_all(1) && !notes.has_all(2));
        assert!(!notes.is_due(Lsn(7), 1, at(9000)) && notes.is_due(Lsn(7), 2, at(9000)));
    }
}
