//! Bringing decisions to a sink: reads them from the journal in LSN order, from the sink's progress on, gives them to the
//! sink's outlet, and journals how far it got. Runs on a thread of its own, so that a slow sink holds up nobody.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::notes::{Notes, Reached};
use super::routing::{Delivery, Routing};
use crate::journal::{Block, Blocks, JournalError, JournalReader};
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
pub struct DispatcherSetup {
    pub routing: Routing,
    pub outlet: Box<dyn Outlet>,
    /// What was finished before the start.
    pub done: SinkWindow,
    pub journal: JournalReader,
    pub note: NoteProgress,
    /// For the journal's trimming, and for what is to be forgotten.
    pub reached: Arc<Reached>,
}

/// Brings decisions to a sink's outlet, step by step; waits for nobody.
pub struct Dispatcher {
    setup: DispatcherSetup,
    blocks: Blocks,
    notes: Notes,
}

/// What a step leaves to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to read.
    More,
    /// Something is under way, or is to be tried again. If a time is given, there is something to do then at the latest.
    Busy(Option<Instant>),
    /// All that is committed is finished, or never will be before the next start. If a time is given, there is something
    /// to note then.
    Wait(Option<Instant>),
}

/// Why a dispatcher cannot go on: the journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    #[error("the journal cannot be read")]
    Journal(#[from] JournalError),
    #[error("the record at LSN {lsn} cannot be read; the journal is damaged or of another version")]
    Record { lsn: Lsn, source: CodecError },
}

/// Delivers decisions until the node ends.
pub fn dispatch(
    setup: DispatcherSetup,
    mut committed: watch::Receiver<Lsn>,
    mut phases: watch::Receiver<SinkPhase>,
    runtime: &Handle,
) -> Result<(), DispatchError> {
    let mut dispatcher = Dispatcher::new(setup, Instant::now())?;
    loop {
        let phase = *phases.borrow_and_update();
        let end = *committed.borrow_and_update();
        let now = Instant::now();
        let next = dispatcher.step(now, end)?;
        let latest = match phase {
            SinkPhase::Finishing(until) if matches!(next, Next::Wait(_)) || now >= until => {
                if let Some(noting) = dispatcher.last_note() {
                    // A last note that the writer no longer takes only means that a little is delivered again.
                    let _ = runtime.block_on(noting);
                }
                return Ok(());
            }
            SinkPhase::Finishing(until) => until,
            SinkPhase::Running => now + LOOK_EVERY,
        };
        let (Next::Busy(due) | Next::Wait(due)) = next else { continue };
        let is_running = phase == SinkPhase::Running;
        runtime.block_on(async {
            tokio::select! {
                // While the node ends nobody says anything more.
                _ = committed.changed(), if is_running => {}
                _ = phases.changed(), if is_running => {}
                () = dispatcher.setup.outlet.changed() => {}
                () = tokio::time::sleep_until(due.unwrap_or(latest).min(latest).into()) => {}
            }
        });
    }
}

impl Dispatcher {
    /// A dispatcher that goes on after what is done.
    pub fn new(setup: DispatcherSetup, now: Instant) -> Result<Self, DispatchError> {
        let blocks = setup.journal.read_decisions_from(setup.done.delivered().next())?;
        let notes = Notes::new(setup.outlet.delivered(), now);
        Ok(Dispatcher { setup, blocks, notes })
    }

    /// Gives the outlet what it has room for, has it work, and notes the progress if that is due. `committed` is the end
    /// of the journal.
    pub fn step(&mut self, now: Instant, committed: Lsn) -> Result<Next, DispatchError> {
        let mut at_end = false;
        while !at_end && self.setup.outlet.has_room() {
            if let Some(block) = self.blocks.next().transpose()? {
                self.put(&block)?;
            } else {
                self.setup.outlet.passed(committed);
                at_end = true;
            }
        }
        let outlet = &mut self.setup.outlet;
        let due = outlet.work(now);
        let (delivered, finished) = (outlet.delivered(), outlet.finished());
        let lag = self.setup.routing.metrics.sink_lag.with_label_values(&[&self.setup.routing.sink]);
        lag.set(i64::try_from(committed.0.saturating_sub(delivered.0)).unwrap_or(i64::MAX));
        if let Some(durable) = self.notes.durable() {
            self.setup.reached.note(durable);
        }
        if self.notes.is_due(delivered, finished, now) {
            let durable = (self.setup.note)(self.setup.outlet.progress());
            self.notes.noting(delivered, finished, now, durable);
        }
        if self.notes.has_all(finished) {
            self.setup.reached.settle(delivered);
        }
        let outlet = &self.setup.outlet;
        let note = self.notes.is_worth_it(delivered, finished).then(|| self.notes.due().max(now));
        let due = [due, note].into_iter().flatten().min();
        let has_more = !at_end && outlet.has_room();
        Ok(match outlet.is_idle() {
            _ if has_more => Next::More,
            true => Next::Wait(due),
            false => Next::Busy(due),
        })
    }

    /// Notes what is not noted yet.
    fn last_note(&mut self) -> Option<oneshot::Receiver<Lsn>> {
        let DispatcherSetup { outlet, note, .. } = &self.setup;
        let is_worth_it = self.notes.is_worth_it(outlet.delivered(), outlet.finished());
        is_worth_it.then(|| note(outlet.progress()))
    }

    fn put(&mut self, block: &Block) -> Result<(), DispatchError> {
        for (lsn, bytes) in block.decisions() {
            let finished = match self.setup.done.open_at(lsn) {
                Some(finished) => finished,
                None if lsn <= self.setup.done.read => continue,
                None => 0,
            };
            let record = Record::decode(bytes).map_err(|source| DispatchError::Record { lsn, source })?;
            for delivery in self.setup.routing.deliveries(lsn, &record, finished) {
                self.setup.outlet.put(delivery);
            }
        }
        self.setup.outlet.passed(block.last_lsn());
        Ok(())
    }
}
