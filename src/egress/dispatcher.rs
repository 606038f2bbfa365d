//! Bringing decisions to a sink: reads them from the journal in LSN order, from the sink's progress on, gives them to the
//! sink's outlet, and journals how far it got. Runs on a thread of its own, so that a slow sink holds up nobody.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::notes::Notes;
use super::routing::{Delivery, Routing};
use crate::journal::{Block, JournalError, JournalReader};
use crate::model::codec::CodecError;
use crate::model::ids::Lsn;
use crate::model::record::{Input, Record};
use crate::model::system::SinkWindow;

/// The longest time without a look around.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How deliveries leave. It is asked to work whenever something has happened; nothing in it blocks for long but the disk.
pub trait Outlet: Send {
    /// Whether it takes more deliveries.
    fn has_room(&self) -> bool;
    /// Takes a delivery; they come in the order of the journal.
    fn put(&mut self, delivery: Delivery);
    /// Everything up to `lsn` was put in.
    fn passed(&mut self, lsn: Lsn);
    /// Does what can be done now. Returns when there is more to do even if nothing else happens.
    fn work(&mut self, now: Instant) -> Option<Instant>;
    /// Whether nothing is left to do.
    fn is_idle(&self) -> bool;
    /// Everything up to here is finished.
    fn delivered(&self) -> Lsn;
    /// Deliveries that were finished since the start.
    fn finished(&self) -> u64;
    /// How far it has come, to be journaled.
    fn progress(&self) -> Input;
    /// Ends when something has come of what is under way.
    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Whether sinks go on waiting for decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkPhase {
    Running,
    /// What is committed is still delivered, as far as it can be until then.
    Finishing(Instant),
}

/// Journals a sink's progress; answers when it is durable.
pub type NoteProgress = Box<dyn Fn(Input) -> oneshot::Receiver<Lsn> + Send>;

/// What a dispatcher needs.
pub struct Dispatcher {
    pub routing: Routing,
    pub outlet: Box<dyn Outlet>,
    /// What was finished before the start.
    pub done: SinkWindow,
    pub journal: JournalReader,
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

impl Dispatcher {
    /// Delivers decisions until the node ends.
    pub fn run(mut self) -> Result<(), DispatchError> {
        let lag = self.routing.metrics.sink_lag.with_label_values(&[&self.routing.sink]);
        let mut blocks = self.journal.read_decisions_from(self.done.delivered().next())?;
        let mut notes = Notes::new(self.outlet.delivered(), Instant::now());
        loop {
            let phase = *self.phase.borrow_and_update();
            let committed = *self.committed.borrow_and_update();
            let mut at_end = false;
            while !at_end && self.outlet.has_room() {
                if let Some(block) = blocks.next().transpose()? {
                    self.put(&block)?;
                } else {
                    self.outlet.passed(committed);
                    at_end = true;
                }
            }
            let now = Instant::now();
            let due = self.outlet.work(now);
            let (delivered, finished) = (self.outlet.delivered(), self.outlet.finished());
            lag.set(i64::try_from(committed.0.saturating_sub(delivered.0)).unwrap_or(i64::MAX));
            if let Some(durable) = notes.durable() {
                self.noted.store(durable.0, Ordering::Relaxed);
            }
            if notes.is_due(delivered, finished, now) {
                notes.noting(delivered, finished, now, (self.note)(self.outlet.progress()));
            }
            if let SinkPhase::Finishing(until) = phase
                && (at_end && self.outlet.is_idle() || now >= until)
            {
                if notes.is_worth_it(delivered, finished) {
                    // A last note that the writer no longer takes only means that a little is delivered again.
                    let _ = self.runtime.block_on((self.note)(self.outlet.progress()));
                }
                return Ok(());
            }
            if at_end || !self.outlet.has_room() {
                let note = notes.is_worth_it(delivered, finished).then(|| notes.due().max(now));
                self.wait(phase, [due, note].into_iter().flatten().min());
            }
        }
    }

    /// Waits for something to do: a commit, the end, something that came of a delivery, or the time.
    fn wait(&mut self, phase: SinkPhase, due: Option<Instant>) {
        let Dispatcher { committed, phase: phases, runtime, outlet, .. } = self;
        let (mut until, is_running) = match phase {
            SinkPhase::Running => (Instant::now() + LOOK_EVERY, true),
            SinkPhase::Finishing(until) => (until, false),
        };
        until = due.unwrap_or(until).min(until);
        runtime.block_on(async {
            tokio::select! {
                // While the node ends nobody says anything more.
                _ = committed.changed(), if is_running => {}
                _ = phases.changed(), if is_running => {}
                () = outlet.changed() => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        });
    }

    fn put(&mut self, block: &Block) -> Result<(), DispatchError> {
        for (lsn, bytes) in block.records() {
            let finished = match self.done.open_at(lsn) {
                Some(finished) => finished,
                None if lsn <= self.done.read => continue,
                None => 0,
            };
            let record = Record::decode(bytes).map_err(|source| DispatchError::Record { lsn, source })?;
            for delivery in self.routing.deliveries(lsn, &record, finished) {
                self.outlet.put(delivery);
            }
        }
        self.outlet.passed(block.last_lsn());
        Ok(())
    }
}
