//! Bringing decisions to a sink: reads them from the journal in LSN order, from the sink's progress on, and journals how
//! far it got. Runs on a thread of its own, so that a slow sink holds up nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::cloud_event::write_cloud_event;
use crate::journal::{JournalError, JournalReader};
use crate::metrics::Metrics;
use crate::model::codec::CodecError;
use crate::model::ids::Lsn;
use crate::model::record::{Record, SinkProgress};
use crate::rules::Ruleset;

/// Progress is journaled at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// A sink that nothing goes to still notes that it has passed so many records, so that the journal can be trimmed.
const PASSED_UNNOTED_MAX: u64 = 10_000;
/// So many bytes of decisions are delivered at once.
const DELIVERY_BYTES_MAX: usize = 1024 * 1024;
/// Pauses after failed deliveries.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Where decisions go. What `deliver` returns has reached the sink for good.
pub trait Sink: Send {
    /// Delivers lines of JSON, `count` decisions in all. Returns the sink's length afterwards, for those that have one.
    ///
    /// # Errors
    /// Nothing of it counts as delivered then; it will be delivered again.
    fn deliver(&mut self, lines: &[u8], count: u64) -> std::io::Result<u64>;
}

/// Whether sinks go on waiting for decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkPhase {
    Running,
    /// What is committed is still delivered, then they end.
    Finishing,
}

/// Journals a sink's progress; answers when it is durable.
pub type NoteProgress = Box<dyn Fn(SinkProgress) -> oneshot::Receiver<Lsn> + Send>;

/// What a dispatcher needs.
pub struct Dispatcher {
    pub name: String,
    pub server: String,
    pub sink: Box<dyn Sink>,
    pub progress: SinkProgress,
    pub journal: JournalReader,
    pub ruleset: Arc<Ruleset>,
    pub metrics: Arc<Metrics>,
    pub committed: watch::Receiver<Lsn>,
    pub phase: watch::Receiver<SinkPhase>,
    pub note: NoteProgress,
    /// The progress that is durable, for the journal's trimming.
    pub noted: Arc<AtomicU64>,
    pub runtime: Handle,
}

/// Why a dispatcher cannot go on: the journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    #[error("the journal cannot be read")]
    Journal(#[from] JournalError),
    #[error("the record at LSN {lsn} cannot be read; the journal is damaged or of another version")]
    Record { lsn: Lsn, source: CodecError },
}

/// Decisions gathered for one delivery.
#[derive(Default)]
struct Gathered {
    lines: Vec<u8>,
    count: u64,
    /// The last record looked at.
    last: Lsn,
}

impl Dispatcher {
    /// Delivers decisions until the node ends. Returns how far it got.
    pub fn run(mut self) -> Result<SinkProgress, DispatchError> {
        let lag = self.metrics.sink_lag.with_label_values(&[&self.name]);
        let mut blocks = self.journal.read_decisions_from(self.progress.delivered.next())?;
        let mut noted = self.progress.clone();
        let mut delivered_since = false;
        let mut noted_at = Instant::now();
        let mut noting: Option<oneshot::Receiver<Lsn>> = None;
        loop {
            let finishing = *self.phase.borrow() == SinkPhase::Finishing;
            let committed = *self.committed.borrow_and_update();
            let mut gathered = Gathered::default();
            while gathered.lines.len() < DELIVERY_BYTES_MAX {
                let Some(block) = blocks.next() else { break };
                self.gather(&block?, &mut gathered)?;
            }
            if gathered.count > 0 {
                self.progress.offset = self.deliver(&gathered);
                delivered_since = true;
            }
            let at_end = gathered.lines.len() < DELIVERY_BYTES_MAX;
            let passed = if at_end { committed } else { gathered.last };
            self.progress.delivered = self.progress.delivered.max(gathered.last).max(passed);
            lag.set(i64::try_from(committed.0.saturating_sub(self.progress.delivered.0)).unwrap_or(i64::MAX));

            if noting.as_mut().is_some_and(|noting| noting.try_recv().is_ok()) {
                noting = None;
                self.noted.store(noted.delivered.0, Ordering::Relaxed);
            }
            let worth_noting = delivered_since || self.progress.delivered.0 - noted.delivered.0 >= PASSED_UNNOTED_MAX;
            if worth_noting && noting.is_none() && noted_at.elapsed() >= PROGRESS_EVERY {
                noting = Some((self.note)(self.progress.clone()));
                noted = self.progress.clone();
                delivered_since = false;
                noted_at = Instant::now();
            }
            if !at_end {
                continue;
            }
            if finishing {
                if worth_noting {
                    // A last note that the writer no longer takes only means that a little is delivered again.
                    let _ = self.runtime.block_on((self.note)(self.progress.clone()));
                }
                return Ok(self.progress);
            }
            let due = worth_noting.then(|| PROGRESS_EVERY.saturating_sub(noted_at.elapsed()));
            self.wait(due);
        }
    }

    /// Waits for something to do: a commit, the end, or a note that is due.
    fn wait(&mut self, due: Option<Duration>) {
        let Dispatcher { committed, phase, runtime, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = committed.changed() => {}
                _ = phase.changed() => {}
                () = tokio::time::sleep(due.unwrap_or(RETRY_MAX)) => {}
            }
        });
    }

    fn gather(&self, block: &crate::journal::Block, gathered: &mut Gathered) -> Result<(), DispatchError> {
        for (lsn, bytes) in block.decisions() {
            if lsn <= self.progress.delivered {
                continue;
            }
            let record = Record::decode(bytes).map_err(|source| DispatchError::Record { lsn, source })?;
            for decision in &record.decisions {
                if !self.is_addressed(record.entity.kind(), &decision.name) {
                    continue;
                }
                write_cloud_event(&mut gathered.lines, &self.server, &record, decision);
                gathered.lines.push(b'\n');
                gathered.count += 1;
            }
        }
        gathered.last = gathered.last.max(block.last_lsn());
        Ok(())
    }

    fn is_addressed(&self, kind: &str, decision: &str) -> bool {
        self.ruleset.get(kind).is_none_or(|rules| rules.goes_to(decision, &self.name))
    }

    /// Delivers, again and again until it succeeds. While the node ends, a sink that fails is left to the next start.
    fn deliver(&mut self, gathered: &Gathered) -> u64 {
        let deliveries = |result: &str| self.metrics.sink_deliveries.with_label_values(&[&self.name, result]);
        let (ok, failed) = (deliveries("ok"), deliveries("failed"));
        let mut pause = RETRY_FIRST;
        loop {
            match self.sink.deliver(&gathered.lines, gathered.count) {
                Ok(offset) => {
                    ok.inc_by(gathered.count);
                    return offset;
                }
                Err(error) => {
                    failed.inc_by(gathered.count);
                    tracing::error!(sink = %self.name, %error, "decisions could not be delivered; trying again in {pause:?}");
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }
}
