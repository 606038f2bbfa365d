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

/// Counts of what was done. Nothing was begun as long as there are no records.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
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
}

impl Default for Progress {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Progress {
            started: Instant::now(),
            records: zero(),
            passed: zero(),
            read: zero(),
            first: AtomicU16::new(0),
            end: AtomicU16::new(PARTITIONS),
            entities: zero(),
        }
    }
}

impl Progress {
    /// There are so many records to read.
    pub fn begin(&self, records: u64) {
        self.records.store(records, Ordering::Relaxed);
    }

    /// The journal is read for these partitions, or for these alone from now on.
    pub(super) fn begin_pass(&self, partitions: &Range<u16>) {
        if self.first.swap(partitions.start, Ordering::Relaxed) != partitions.start {
            self.passed.store(0, Ordering::Relaxed);
        }
        self.end.store(partitions.end, Ordering::Relaxed);
    }

    pub(super) fn read(&self, records: u64) {
        self.passed.fetch_add(records, Ordering::Relaxed);
        self.read.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn adopted(&self, entities: u64) {
        self.entities.fetch_add(entities, Ordering::Relaxed);
    }

    /// The share that is done, of 1.
    pub fn done(&self) -> f64 {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let (first, end) = (self.first.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        let pass = (load(&self.passed) / load(&self.records).max(1.0)).min(1.0);
        (f64::from(first) + f64::from(end.saturating_sub(first)) * pass) / f64::from(PARTITIONS)
    }

    fn per_second(&self) -> f64 {
        self.read.load(Ordering::Relaxed) as f64 / self.started.elapsed().as_secs_f64().max(0.001)
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
                "the rules changed; states are made anew from {records} records: {:.0} %, {:.0} records/s{left}",
                self.done() * 100.0,
                self.per_second()
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
