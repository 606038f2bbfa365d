//! The checkpointer: a thread that carries changed states to the store, slice by slice, moves the watermark, and trims the
//! journal.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::watch;

use super::checkpoint::{Checkpoint, Pacing};
use super::disk_space::free_bytes;
use super::fatal::Fatal;
use super::retention::{Holds, Kept, Need, Retention, Room};
use crate::actors::{Shards, Slice, StoredCopy, Tag};
use crate::config::Tuning;
use crate::journal::{JournalError, JournalReader, JournalWriter};
use crate::metrics::Metrics;
use crate::model::ids::Lsn;
use crate::model::time::Timestamp;
use crate::store::{Store, StoreError};
use crate::vital;

/// So many entities are copied at once: about a millisecond's work, in which nothing else is done for the shard's.
const SLICE_ENTITIES_MAX: usize = 250;
/// Shards are told of so many stored copies at once, and then have so long for other things.
const TOLD_MAX: usize = 500;
const TOLD_PAUSE: Duration = Duration::from_millis(1);
/// What the thread's niceness is raised by: where processors are short, acknowledgements come before checkpoints.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;
/// How often it is looked whether a checkpoint is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What of the journal may go is looked at once in so many looks, and after each checkpoint.
const LOOKS_A_TRIM: u32 = 4;
/// Slices of a shard that may be under way; more than one only if a checkpoint was given up.
const SLICES_MAX: usize = 2;
/// A slice that takes longer to come back is worth a warning.
const SLICE_PATIENCE: Duration = Duration::from_mins(1);

/// What the checkpointer is asked to do.
pub enum Request {
    /// Make a checkpoint, due or not.
    Now,
    /// Make a last checkpoint, if it can be done by then, and end.
    Finish { deadline: Instant },
}

/// What the checkpointer needs.
pub struct Checkpointer {
    pub store: Store,
    pub shards: Shards,
    pub slices: Receiver<Slice>,
    pub requests: Receiver<Request>,
    pub committed: watch::Receiver<Lsn>,
    pub journal: JournalWriter<Tag>,
    /// Bytes journaled since the process started, and those that recovery replayed.
    pub journaled_bytes: Arc<AtomicU64>,
    /// Bytes of states that wait for the store.
    pub handed_bytes: Arc<AtomicU64>,
    pub metrics: Arc<Metrics>,
    pub tuning: Tuning,
    /// What every sink still has to read, as the store will remember it.
    pub sinks_need: Arc<dyn Fn() -> Vec<Need> + Send + Sync>,
    pub reader: JournalReader,
    pub data_dir: PathBuf,
    /// What of the journal is kept.
    pub kept: watch::Sender<Kept>,
    pub fatal: Fatal,
    pub watermark: watch::Sender<Lsn>,
    /// How many of the journaled bytes are in the store.
    pub saved_bytes: Arc<AtomicU64>,
    pub holds: Holds,
}

/// Whether a checkpoint was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Completed,
    OutOfTime,
}

impl Checkpointer {
    /// Makes checkpoints until it is asked to finish.
    pub fn run(self) {
        vital::mark();
        step_back();
        let mut pacing = Pacing::new(&self.tuning);
        let mut retention = Retention::new(&self.tuning);
        let mut looks = 0_u32;
        loop {
            let request = self.requests.recv_timeout(LOOK_EVERY);
            let is_asked = matches!(request, Ok(Request::Now));
            let deadline = match request {
                Ok(Request::Finish { deadline }) => Some(deadline),
                Ok(Request::Now) | Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let journaled = self.journaled_bytes.load(Ordering::Relaxed);
            let is_due = pacing.is_due(journaled, self.handed_bytes.load(Ordering::Relaxed));
            if is_due || is_asked || deadline.is_some() {
                match self.checkpoint(deadline) {
                    Ok(Done::Completed) => {
                        self.saved_bytes.store(journaled, Ordering::Relaxed);
                        pacing.completed(journaled);
                        looks = 0;
                    }
                    Ok(Done::OutOfTime) => tracing::info!("no time for a whole checkpoint; recovery will do the rest"),
                    Err(error) => (self.fatal)(&error),
                }
            }
            if looks.is_multiple_of(LOOKS_A_TRIM)
                && let Err(error) = self.trim(&mut retention)
            {
                (self.fatal)(&error);
            }
            looks = looks.wrapping_add(1);
            if deadline.is_some() {
                return;
            }
        }
    }

    /// Lets go what of the journal nobody needs any more and the retention does not keep.
    fn trim(&self, retention: &mut Retention) -> Result<(), JournalError> {
        let _deciding = self.holds.decide();
        let mut needs = (self.sinks_need)();
        needs.push(Need::after("the store", *self.watermark.borrow()));
        let free_min = self.tuning.limits.disk_free_min.saturating_add(self.tuning.journal.segment_bytes);
        // What cannot be told is the guard's to tell.
        let room = match free_bytes(&self.data_dir) {
            Ok(free) if free < free_min && self.tuning.limits.disk_free_min > 0 => Room::Short,
            _ => Room::Enough,
        };
        let mut all = needs.clone();
        all.extend(self.holds.needs(self.reader.first_lsn(), room));
        let kept = retention.look(&self.reader, &all, Timestamp::now(), room)?;
        let gauge = |lsn: Lsn| i64::try_from(lsn.0).unwrap_or(i64::MAX);
        self.metrics.retention.journal_first_lsn.set(gauge(self.reader.first_lsn()));
        for need in &needs {
            self.metrics.retention.journal_needed_lsn.with_label_values(&[&need.by]).set(gauge(need.from));
        }
        // The writer is gone only when the process is ending.
        let _ = self.journal.trim(kept.from);
        self.kept.send_replace(kept);
        Ok(())
    }

    pub(super) fn checkpoint(&self, deadline: Option<Instant>) -> Result<Done, StoreError> {
        let started = Instant::now();
        let mut checkpoint = Checkpoint::begin(self.store.clone(), *self.committed.borrow());
        let mut copying = 0;
        for shard in 0..self.shards.count() as u16 {
            let Ok(mut changed) = self.shards.take_changed(shard).blocking_recv() else { return Ok(Done::OutOfTime) };
            // All shards go through the store's keys in the same direction, so that a transaction touches few pages.
            changed.sort_unstable_by(|a, b| b.cmp(a));
            self.shards.begin_copying(shard, changed);
            self.shards.copy_slice(shard, SLICE_ENTITIES_MAX);
            copying += 1;
        }
        while copying > 0 {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Done::OutOfTime);
            }
            let Some(slice) = self.await_slice(deadline) else { return Ok(Done::OutOfTime) };
            if slice.is_last {
                copying -= 1;
            } else {
                // The shard copies while this thread writes.
                self.shards.copy_slice(slice.shard, SLICE_ENTITIES_MAX);
            }
            self.tell(checkpoint.take(slice)?);
        }
        let cut = checkpoint.finish()?;
        self.watermark.send_replace(cut);
        self.metrics.watermark_lsn.set(i64::try_from(cut.0).unwrap_or(i64::MAX));
        self.metrics.checkpoint_duration.observe(started.elapsed().as_secs_f64());
        Ok(Done::Completed)
    }

    /// Tells the shards what is stored, bit by bit.
    fn tell(&self, stored: Vec<StoredCopy>) {
        let mut rest = stored.into_iter();
        while rest.len() > 0 {
            self.shards.stored(rest.by_ref().take(TOLD_MAX).collect());
            if rest.len() > 0 {
                thread::sleep(TOLD_PAUSE);
            }
        }
    }

    /// The slice that was asked for. Slices never go missing while the node runs, so only a deadline ends the waiting: a
    /// slice that came too late would be taken for one of the next checkpoint.
    fn await_slice(&self, deadline: Option<Instant>) -> Option<Slice> {
        loop {
            let patience = deadline.unwrap_or_else(|| Instant::now() + SLICE_PATIENCE);
            match self.slices.recv_deadline(patience) {
                Ok(slice) => return Some(slice),
                Err(RecvTimeoutError::Timeout) if deadline.is_none() => {
                    tracing::warn!("a checkpoint waits for a shard");
                }
                Err(_) => return None,
            }
        }
    }
}

/// Lowers the current thread's priority, where threads have one of their own.
pub(super) fn step_back() {
    // Being nicer is never refused; and if it were, checkpoints would work as well.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICENESS);
}

/// The channel on which the slices of so many shards come; of each one is under way at a time.
pub fn slices(shards: usize) -> (Sender<Slice>, Receiver<Slice>) {
    crossbeam_channel::bounded(shards * SLICES_MAX)
}
