//! What all streams share: how many there are, when they look at the journal, and how their ends are counted.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::watch;

use super::end::End;
use super::shelf::Shelf;
use super::stretch::{ReadError, Reading, Stretch};
use super::subject::Subject;
use crate::admin::api::{Fatal, NodeState, RenderDecisions};
use crate::admin::problem::Problem;
use crate::config::Limits;
use crate::journal::{JournalError, JournalReader};
use crate::metrics::Metrics;
use crate::model::ids::Lsn;
use crate::model::refusal::{Code, Refusal};

/// Pause between two looks of all streams at the journal, for each of them: so looking takes a few hundredths of a core,
/// however many there are and however often there are commits.
const PACE_PER_STREAM: Duration = Duration::from_micros(50);

/// What streams are made of.
pub struct StreamsSetup {
    pub journal: JournalReader,
    pub render: RenderDecisions,
    pub state: watch::Receiver<NodeState>,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
    pub fatal: Fatal,
}

/// All streams of a node. Cheap to clone.
#[derive(Clone)]
pub struct Streams {
    shelf: Arc<Shelf>,
    /// How far streams may read.
    end: watch::Sender<Lsn>,
    open: watch::Sender<u64>,
    state: watch::Receiver<NodeState>,
    metrics: Arc<Metrics>,
    limits: Limits,
    fatal: Fatal,
}

/// One stream's place among those there may be.
pub(super) struct Place {
    open: watch::Sender<u64>,
    gauge: IntGauge,
}

impl Streams {
    /// No stream yet. They see what is new while the future of [`Self::follow`] runs.
    pub fn new(setup: StreamsSetup) -> Self {
        let StreamsSetup { journal, render, state, metrics, limits, fatal } = setup;
        let end = watch::Sender::new(journal.last_lsn());
        let shelf = Arc::new(Shelf::new(journal, render));
        // Whoever looks sees that there are none; and what is counted from nothing would not be seen to grow.
        for kind in Subject::KINDS {
            metrics.streams.with_label_values(&[kind]);
        }
        for code in End::CODES {
            metrics.streams_cut.with_label_values(&[code]);
        }
        Streams { shelf, end, open: watch::Sender::new(0), state, metrics, limits, fatal }
    }

    /// Tells streams of what is committed, at a pace that so many of them can keep, until the journal's writer ends.
    /// `forgetting` moves when the journal is rewritten without what is forgotten; then nothing of it is kept here either.
    pub async fn follow(self, mut committed: watch::Receiver<Lsn>, mut forgetting: watch::Receiver<String>) {
        let mut open = self.open.subscribe();
        loop {
            // Its sender is part of this.
            let count = open.wait_for(|open| *open > 0).await.map_or(0, |open| *open);
            if forgetting.has_changed().unwrap_or_default() {
                forgetting.mark_unchanged();
                self.shelf.clear();
            }
            let lsn = *committed.borrow_and_update();
            self.end.send_if_modified(|end| std::mem::replace(end, lsn) != lsn);
            tokio::time::sleep(PACE_PER_STREAM * u32::try_from(count).unwrap_or(u32::MAX)).await;
            let goes_on = tokio::select! {
                changed = committed.changed() => changed.is_ok(),
                Ok(()) = forgetting.changed() => {
                    self.shelf.clear();
                    true
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    /// A place for a stream.
    ///
    /// # Errors
    /// If there are as many as there may be.
    pub(super) fn place(&self, subject: &Subject) -> Result<Place, Problem> {
        let max = self.limits.streams_max;
        let is_taken = self.open.send_if_modified(|open| {
            let has_room = *open < max;
            *open += u64::from(has_room);
            has_room
        });
        if !is_taken {
            let why = format!("limits.streams_max = {max} streams are open; try again a little later");
            return Err(Refusal::new(Code::Busy, why).into());
        }
        let gauge = self.metrics.streams.with_label_values(&[subject.kind()]);
        gauge.inc();
        Ok(Place { open: self.open.clone(), gauge })
    }

    /// What comes at `from` or later.
    pub(super) async fn stretch(&self, reading: Reading, from: Lsn) -> Result<Arc<Stretch>, End> {
        match self.shelf.stretch(reading, from).await {
            Some(Ok(stretch)) => Ok(stretch),
            Some(Err(error)) => Err(self.unreadable(&error)),
            None => Err(End::draining()),
        }
    }

    /// The end of a stream that cannot read on. If that is not because the journal was trimmed, it ends the process.
    pub(super) fn unreadable(&self, error: &ReadError) -> End {
        if let ReadError::Journal(trimmed @ JournalError::Trimmed { .. }) = error {
            return End::trimmed(trimmed.to_string());
        }
        (self.fatal)(error);
        End::failed(error.to_string())
    }

    /// How far streams may read, as that moves.
    pub(super) fn end(&self) -> watch::Receiver<Lsn> {
        self.end.subscribe()
    }

    /// The journal they read.
    pub(super) fn journal(&self) -> &JournalReader {
        self.shelf.journal()
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Waits until the node is about to end.
    pub(super) async fn draining(&self) {
        let mut state = self.state.clone();
        // An error means that the node is gone, which is as good as draining.
        let _ = state.wait_for(|state| *state == NodeState::Draining).await;
    }

    /// Counts a stream that was ended.
    pub(super) fn cut(&self, code: &str) {
        self.metrics.streams_cut.with_label_values(&[code]).inc();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.send_modify(|open| *open -= 1);
        self.gauge.dec();
    }
}
