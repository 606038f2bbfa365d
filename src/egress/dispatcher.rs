//! Bringing decisions to a sink: reads them from the journal in LSN order, from the sink's progress on, and journals how
//! far it got. Runs on a thread of its own, so that a slow sink holds up nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::cloud_event::write_cloud_event;
use crate::journal::{Block, Blocks, JournalError, JournalReader};
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
pub struct DispatcherSetup {
    pub name: String,
    pub server: String,
    pub sink: Box<dyn Sink>,
    pub progress: SinkProgress,
    pub journal: JournalReader,
    pub ruleset: Arc<Ruleset>,
    pub metrics: Arc<Metrics>,
    pub note: NoteProgress,
    /// The progress that is durable, for the journal's trimming.
    pub noted: Arc<AtomicU64>,
}

/// Brings decisions to a sink, a delivery a step; waits for nobody but the sink.
pub struct Dispatcher {
    setup: DispatcherSetup,
    blocks: Blocks,
    /// What could not be delivered yet, or nothing.
    gathered: Gathered,
    /// How long to wait after the next failed delivery.
    pause: Duration,
    /// The progress that was noted last, when that was, and who tells that it is durable.
    noted: SinkProgress,
    noted_at: Instant,
    noting: Option<oneshot::Receiver<Lsn>>,
    delivered_since: bool,
}

/// What a step leaves to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to deliver.
    More,
    /// The sink has failed: to be tried again after this.
    Retry(Duration),
    /// All that is committed is delivered. If a time is given, there is something to note then.
    Wait(Option<Duration>),
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
    /// Up to here there are no other decisions.
    passed: Lsn,
    /// Nothing more was committed.
    at_end: bool,
}

/// Delivers decisions until the node ends. Returns how far it got.
pub fn dispatch(
    setup: DispatcherSetup,
    mut committed: watch::Receiver<Lsn>,
    mut phase: watch::Receiver<SinkPhase>,
    runtime: &Handle,
) -> Result<SinkProgress, DispatchError> {
    let mut dispatcher = Dispatcher::new(setup, Instant::now())?;
    loop {
        let finishing = *phase.borrow() == SinkPhase::Finishing;
        let end = *committed.borrow_and_update();
        match dispatcher.step(Instant::now(), end)? {
            Next::More => {}
            Next::Retry(pause) => std::thread::sleep(pause),
            Next::Wait(_) if finishing => {
                if let Some(noting) = dispatcher.last_note() {
                    // A last note that the writer no longer takes only means that a little is delivered again.
                    let _ = runtime.block_on(noting);
                }
                return Ok(dispatcher.setup.progress);
            }
            Next::Wait(due) => runtime.block_on(async {
                tokio::select! {
                    _ = committed.changed() => {}
                    _ = phase.changed() => {}
                    () = tokio::time::sleep(due.unwrap_or(RETRY_MAX)) => {}
                }
            }),
        }
    }
}

impl Dispatcher {
    /// A dispatcher that goes on where the progress in `setup` says.
    pub fn new(setup: DispatcherSetup, now: Instant) -> Result<Self, DispatchError> {
        Ok(Dispatcher {
            blocks: setup.journal.read_decisions_from(setup.progress.delivered.next())?,
            gathered: Gathered::default(),
            pause: RETRY_FIRST,
            noted: setup.progress.clone(),
            noted_at: now,
            noting: None,
            delivered_since: false,
            setup,
        })
    }

    /// Delivers what comes next, and notes the progress if that is due. `committed` is the end of the journal.
    pub fn step(&mut self, now: Instant, committed: Lsn) -> Result<Next, DispatchError> {
        if self.gathered.count == 0 {
            self.gather(committed)?;
        }
        if self.gathered.count > 0 {
            let Some(offset) = self.deliver() else {
                let pause = self.pause;
                self.pause = (pause * 2).min(RETRY_MAX);
                return Ok(Next::Retry(pause));
            };
            self.setup.progress.offset = offset;
            self.pause = RETRY_FIRST;
            self.delivered_since = true;
        }
        let Gathered { passed, at_end, .. } = std::mem::take(&mut self.gathered);
        let progress = &mut self.setup.progress;
        progress.delivered = progress.delivered.max(passed);
        let lag = committed.0.saturating_sub(progress.delivered.0);
        let gauge = self.setup.metrics.sink_lag.with_label_values(&[&self.setup.name]);
        gauge.set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.note_if_due(now);
        if !at_end {
            return Ok(Next::More);
        }
        let due = self.is_worth_noting().then(|| (self.noted_at + PROGRESS_EVERY).saturating_duration_since(now));
        Ok(Next::Wait(due))
    }

    fn note_if_due(&mut self, now: Instant) {
        if self.noting.as_mut().is_some_and(|noting| noting.try_recv().is_ok()) {
            self.noting = None;
            self.setup.noted.store(self.noted.delivered.0, Ordering::Relaxed);
        }
        let is_time = now.saturating_duration_since(self.noted_at) >= PROGRESS_EVERY;
        if is_time && self.noting.is_none() && self.is_worth_noting() {
            self.noting = Some((self.setup.note)(self.setup.progress.clone()));
            self.noted = self.setup.progress.clone();
            self.noted_at = now;
            self.delivered_since = false;
        }
    }

    fn is_worth_noting(&self) -> bool {
        self.delivered_since || self.setup.progress.delivered.0 - self.noted.delivered.0 >= PASSED_UNNOTED_MAX
    }

    /// Notes what is not noted yet.
    fn last_note(&mut self) -> Option<oneshot::Receiver<Lsn>> {
        self.is_worth_noting().then(|| (self.setup.note)(self.setup.progress.clone()))
    }

    fn gather(&mut self, committed: Lsn) -> Result<(), DispatchError> {
        let mut gathered = Gathered::default();
        while gathered.lines.len() < DELIVERY_BYTES_MAX {
            let Some(block) = self.blocks.next() else { break };
            self.gather_block(&block?, &mut gathered)?;
        }
        gathered.at_end = gathered.lines.len() < DELIVERY_BYTES_MAX;
        gathered.passed = if gathered.at_end { gathered.last.max(committed) } else { gathered.last };
        self.gathered = gathered;
        Ok(())
    }

    fn gather_block(&self, block: &Block, gathered: &mut Gathered) -> Result<(), DispatchError> {
        let setup = &self.setup;
        for (lsn, bytes) in block.decisions() {
            if lsn <= setup.progress.delivered {
                continue;
            }
            let record = Record::decode(bytes).map_err(|source| DispatchError::Record { lsn, source })?;
            for decision in &record.decisions {
                if !self.is_addressed(record.entity.kind(), &decision.name) {
                    continue;
                }
                write_cloud_event(&mut gathered.lines, &setup.server, &record, decision);
                gathered.lines.push(b'\n');
                gathered.count += 1;
            }
        }
        gathered.last = gathered.last.max(block.last_lsn());
        Ok(())
    }

    fn is_addressed(&self, kind: &str, decision: &str) -> bool {
        self.setup.ruleset.get(kind).is_none_or(|rules| rules.goes_to(decision, &self.setup.name))
    }

    /// Delivers what is gathered. Returns the sink's length, or nothing if it failed.
    fn deliver(&mut self) -> Option<u64> {
        let Gathered { lines, count, .. } = &self.gathered;
        let setup = &mut self.setup;
        let deliveries = |result: &str| setup.metrics.sink_deliveries.with_label_values(&[&setup.name, result]);
        match setup.sink.deliver(lines, *count) {
            Ok(offset) => {
                deliveries("ok").inc_by(*count);
                Some(offset)
            }
            Err(error) => {
                deliveries("failed").inc_by(*count);
                tracing::error!(sink = %setup.name, %error, "decisions could not be delivered; trying again in {:?}", self.pause);
                None
            }
        }
    }
}
