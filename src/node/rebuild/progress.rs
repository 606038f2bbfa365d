//! How far a rebuild has come: for people at the terminal, in the log, and over HTTP.

use std::io::IsTerminal;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::model::ids::PARTITIONS;

/// How often a terminal is told.
const BAR_EVERY: Duration = Duration::from_millis(200);
/// How often the log is told.
const LINE_EVERY: Duration = Duration::from_secs(3);
/// The bar is so many parts long.
const BAR_PARTS: u64 = 1000;

/// What is done with what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Entities are stored, which takes about as long as reading does.
    Stored,
    Compared,
}

/// Counts of what was done. Nothing was begun as long as there are no records.
#[derive(Debug)]
pub struct Progress {
    work: Work,
    started: Instant,
    /// Until something was last read, in milliseconds.
    reading_ms: AtomicU64,
    /// Records of the journal.
    records: AtomicU64,
    /// Of them, those this pass has read.
    passed: AtomicU64,
    /// Read over all passes.
    read: AtomicU64,
    /// Partitions of the pass.
    first: AtomicU16,
    end: AtomicU16,
    /// Entities that are as the new rules say.
    entities: AtomicU64,
    /// Of the pass, and how many it has, about.
    adopted: AtomicU64,
    expected: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Progress::of(Work::Stored)
    }
}

impl Progress {
    pub(super) fn of(work: Work) -> Self {
        let zero = || AtomicU64::new(0);
        Progress {
            work,
            started: Instant::now(),
            reading_ms: zero(),
            records: zero(),
            passed: zero(),
            read: zero(),
            first: AtomicU16::new(0),
            end: AtomicU16::new(PARTITIONS),
            entities: zero(),
            adopted: zero(),
            expected: zero(),
        }
    }

    /// There are so many records to read.
    pub fn begin(&self, records: u64) {
        self.records.store(records, Ordering::Relaxed);
    }

    /// The journal is read for these partitions, or for these alone from now on.
    pub(super) fn begin_pass(&self, partitions: &Range<u16>) {
        if self.first.swap(partitions.start, Ordering::Relaxed) != partitions.start {
            for of_pass in [&self.passed, &self.adopted, &self.expected] {
                of_pass.store(0, Ordering::Relaxed);
            }
        }
        self.end.store(partitions.end, Ordering::Relaxed);
    }

    pub(super) fn read(&self, records: u64) {
        self.passed.fetch_add(records, Ordering::Relaxed);
        self.read.fetch_add(records, Ordering::Relaxed);
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.reading_ms.store(elapsed, Ordering::Relaxed);
    }

    /// So many entities of this pass are to be stored.
    pub(super) fn expect(&self, entities: u64) {
        self.expected.store(entities, Ordering::Relaxed);
    }

    pub(super) fn finish(&self) {
        self.first.store(PARTITIONS, Ordering::Relaxed);
    }

    pub(super) fn adopted(&self, entities: u64) {
        self.entities.fetch_add(entities, Ordering::Relaxed);
        self.adopted.fetch_add(entities, Ordering::Relaxed);
    }

    /// The share that is done, of 1.
    pub fn done(&self) -> f64 {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let (first, end) = (self.first.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        let read = (load(&self.passed) / load(&self.records).max(1.0)).min(1.0);
        let stored = (load(&self.adopted) / load(&self.expected).max(1.0)).min(1.0);
        let pass = if self.work == Work::Stored { f64::midpoint(read, stored) } else { read };
        (f64::from(first) + f64::from(end.saturating_sub(first)) * pass) / f64::from(PARTITIONS)
    }

    fn per_second(&self) -> f64 {
        let reading = Duration::from_millis(self.reading_ms.load(Ordering::Relaxed));
        self.read.load(Ordering::Relaxed) as f64 / reading.as_secs_f64().max(0.001)
    }

    /// About how long it still takes; unknown at first.
    fn left(&self) -> Option<Duration> {
        let done = self.done();
        let left = self.started.elapsed().as_secs_f64() * (1.0 - done) / done;
        (done > 0.0).then(|| Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX))
    }

    /// One line for people; none before it began.
    pub fn line(&self) -> Option<String> {
        let records = self.records.load(Ordering::Relaxed);
        let left = self.left().map_or(String::new(), |left| format!(", about {} left", HumanDuration(left)));
        (records > 0).then(|| {
            format!(
                "the rules changed; states are made anew from {records} records: {:.0} %, {} read at {:.0}/s, {} entities \
                 stored{left}",
                self.done() * 100.0,
                self.read.load(Ordering::Relaxed),
                self.per_second(),
                self.entities.load(Ordering::Relaxed)
            )
        })
    }

    /// The same for programs.
    pub fn document(&self) -> Value {
        json!({
            "records": self.records.load(Ordering::Relaxed),
            "records_read": self.read.load(Ordering::Relaxed),
            "done": self.done(),
            "records_per_second": self.per_second(),
            "seconds_left": self.left().map(|left| left.as_secs()),
            "entities": self.entities.load(Ordering::Relaxed),
        })
    }
}

/// Tells of progress until it is dropped.
pub(super) struct Telling {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Telling {
    /// On a terminal as a bar, else as lines of the log. Where no thread can be had nothing is told.
    pub fn start(progress: &Arc<Progress>) -> Self {
        let progress = progress.clone();
        let (stop, stopped) = bounded(0);
        let is_terminal = std::io::stderr().is_terminal();
        let tell = move || {
            let bar = if is_terminal { ProgressBar::new(BAR_PARTS) } else { ProgressBar::hidden() };
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
                bar.set_style(style);
            }
            let every = if is_terminal { BAR_EVERY } else { LINE_EVERY };
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let Some(line) = progress.line() else { continue };
                if is_terminal {
                    bar.set_position((progress.done() * BAR_PARTS as f64) as u64);
                    bar.set_message(line);
                } else {
                    tracing::info!("{line}");
                }
            }
            bar.finish_and_clear();
        };
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(tell).ok();
        Telling { stop: Some(stop), thread }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It does nothing but tell.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, whoever waits would be told that it is over long before it is, or never.
    #[test]
    fn reading_and_storing_are_half_of_a_pass_each() {
        let progress = Progress::default();
        assert_eq!(progress.line(), None);
        progress.begin(100);
        let steps: [(&dyn Fn(), f64); 6] = [
            (&|| progress.begin_pass(&(0..PARTITIONS)), 0.0),
            (&|| progress.read(100), 0.5),
            (&|| progress.begin_pass(&(0..PARTITIONS / 2)), 0.25),
            (&|| [progress.expect(10), progress.adopted(10)].into_iter().collect(), 0.5),
            (&|| progress.begin_pass(&(PARTITIONS / 2..PARTITIONS)), 0.5),
            (&|| progress.finish(), 1.0),
        ];
        for (n, (step, expected)) in steps.into_iter().enumerate() {
            step();
            assert!((progress.done() - expected).abs() < 1e-9, "{n}: {}", progress.done());
        }
        assert!(progress.line().is_some_and(|line| line.contains("100 %, 100 read")));
        assert_eq!(progress.left(), Some(Duration::ZERO));
    }
}
