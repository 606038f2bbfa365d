//! Commits, one a step: entries and trims go in, what each commit released comes out. Waits for nobody but the disk.

use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::error::JournalError;
use super::group::{Entry, Group, GroupCommit};
use super::log::Journal;
use crate::model::ids::Lsn;

/// What a commit released.
#[derive(Debug)]
pub struct Committed<T> {
    /// Position of its first record.
    pub first_lsn: Lsn,
    /// Everything up to here is durable.
    pub last_lsn: Lsn,
    /// What was handed in with its records, in order, with their positions.
    pub tags: Vec<(Lsn, T)>,
    /// Stored size of its blocks.
    pub bytes: usize,
    /// How long the write took.
    pub took: Duration,
}

/// Owns the journal and what waits for it. After an error it must not be used again; what it holds was never promised.
#[derive(Debug)]
pub struct Committer<T> {
    journal: Journal,
    group: GroupCommit<T>,
    /// The commit under way. Kept here, so that nothing of it is let go before whoever asked for it has heard of an error.
    current: Option<Group<T>>,
    keep_from: Option<Lsn>,
    /// Those who wait for the active segment to be sealed.
    sealing: Vec<Sender<()>>,
}

impl<T> Committer<T> {
    /// Commits to `journal`.
    pub fn new(journal: Journal) -> Self {
        let group = GroupCommit::new(journal.commit_bytes_max());
        Committer { journal, group, current: None, keep_from: None, sealing: Vec::new() }
    }

    /// Adds `entries` behind the others.
    pub fn append(&mut self, entries: Vec<Entry<T>>) {
        self.group.push(entries);
    }

    /// Whole segments before `keep_from` are to be deleted before the next commit.
    pub fn trim(&mut self, keep_from: Lsn) {
        self.keep_from = self.keep_from.max(Some(keep_from));
    }

    /// The active segment is to be sealed before the next commit; `sealed` is told when it is.
    pub fn seal(&mut self, sealed: Sender<()>) {
        self.sealing.push(sealed);
    }

    /// Whether there is enough for a full commit.
    pub fn is_full(&self) -> bool {
        self.group.is_full()
    }

    /// Trims and seals if that was asked for, then makes one commit durable, if there is anything to commit.
    pub fn step(&mut self) -> Result<Option<Committed<T>>, JournalError> {
        if let Some(keep_from) = self.keep_from.take() {
            let files = self.journal.trim(keep_from)?;
            tracing::debug!(%keep_from, files, "journal trimmed");
        }
        if !self.sealing.is_empty() {
            self.journal.seal_active()?;
            // Whoever asked may have gone.
            for sealed in self.sealing.drain(..) {
                let _ = sealed.try_send(());
            }
        }
        let started = Instant::now();
        self.current = self.group.next_group();
        if let Some(group) = &mut self.current {
            self.journal.append(&mut group.blocks)?;
        }
        Ok(self.current.take().map(|group| {
            let bytes = group.stored_bytes();
            let last_lsn = self.journal.last_lsn();
            let first_lsn = Lsn(last_lsn.0 + 1 - group.records());
            Committed { first_lsn, last_lsn, tags: group.into_tags(first_lsn), bytes, took: started.elapsed() }
        }))
    }

    /// The journal; what waits is dropped.
    pub fn into_journal(self) -> Journal {
        self.journal
    }
}
