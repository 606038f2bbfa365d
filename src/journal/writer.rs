//! The writer's thread: takes what is in its queue, commits it, says so, in order; trims between commits.
//!
//! It waits for nobody but the disk: `on_commit` must not block. The first error is the last thing it says.

use std::fmt;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::error::JournalError;
use super::group::{Entry, Group, GroupCommit};
use super::log::Journal;
use crate::model::ids::Lsn;

/// What a commit released.
#[derive(Debug)]
pub struct Committed<T> {
    /// Position of its first record; right after `last_lsn` if it has none.
    pub first_lsn: Lsn,
    /// Everything up to here is durable.
    pub last_lsn: Lsn,
    /// What was handed in, in order; with the positions of those that came with a record.
    pub tags: Vec<(Option<Lsn>, T)>,
    /// Stored size of its blocks; 0 if only barriers were released and nothing was written.
    pub bytes: usize,
    /// How long the write took.
    pub took: Duration,
}

enum Message<T> {
    Append(Vec<Entry<T>>),
    Trim(Lsn),
}

/// The writer has ended, after an error that `on_fatal` was told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal's writer has ended; nothing more is written")]
pub struct WriterGone;

/// Sends to the writer. When the last one is dropped, the writer commits what it has and ends.
pub struct JournalWriter<T> {
    sender: Sender<Message<T>>,
}

impl<T> Clone for JournalWriter<T> {
    fn clone(&self) -> Self {
        JournalWriter { sender: self.sender.clone() }
    }
}

impl<T> fmt::Debug for JournalWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalWriter").field("queued", &self.sender.len()).finish()
    }
}

impl<T> JournalWriter<T> {
    /// Queues `entries`, behind all that this thread queued before. Waits while the queue is full.
    pub fn append(&self, entries: Vec<Entry<T>>) -> Result<(), WriterGone> {
        self.sender.send(Message::Append(entries)).map_err(|_| WriterGone)
    }

    /// Asks that whole segments before `keep_from` be deleted, between commits.
    pub fn trim(&self, keep_from: Lsn) -> Result<(), WriterGone> {
        self.sender.send(Message::Trim(keep_from)).map_err(|_| WriterGone)
    }
}

/// Starts the thread that owns `journal`. At most `queued_max` batches wait for it. `on_commit` is called on it after
/// each commit, `on_fatal` once if the journal fails; what was not handed to `on_commit` before was never promised, and
/// is dropped after. The thread returns the journal, or nothing after an error.
///
/// # Errors
/// If the system starts no thread.
pub fn spawn_writer<T: Send + 'static>(
    journal: Journal,
    queued_max: usize,
    on_commit: impl FnMut(Committed<T>) + Send + 'static,
    on_fatal: impl FnOnce(JournalError) + Send + 'static,
) -> io::Result<(JournalWriter<T>, JoinHandle<Option<Journal>>)> {
    let (sender, receiver) = bounded(queued_max);
    let group = GroupCommit::new(journal.commit_bytes_max());
    let mut writer = Writer { journal, receiver, group, current: None, keep_from: None, on_commit };
    let thread = thread::Builder::new().name("journal".into()).spawn(move || match writer.run() {
        Ok(()) => Some(writer.journal),
        Err(error) => {
            // Told before the tags are dropped with the writer, so that nobody takes their end for anything else.
            on_fatal(error);
            None
        }
    })?;
    Ok((JournalWriter { sender }, thread))
}

struct Writer<T, F> {
    journal: Journal,
    receiver: Receiver<Message<T>>,
    group: GroupCommit<T>,
    /// The commit under way.
    current: Option<Group<T>>,
    keep_from: Option<Lsn>,
    on_commit: F,
}

impl<T, F: FnMut(Committed<T>)> Writer<T, F> {
    /// Until all senders are gone and all they sent is committed.
    fn run(&mut self) -> Result<(), JournalError> {
        while let Ok(message) = self.receiver.recv() {
            self.take(message);
            loop {
                while !self.group.is_full()
                    && let Ok(message) = self.receiver.try_recv()
                {
                    self.take(message);
                }
                if let Some(keep_from) = self.keep_from.take() {
                    let files = self.journal.trim(keep_from)?;
                    tracing::debug!(%keep_from, files, "journal trimmed");
                }
                self.current = self.group.next_group();
                if self.current.is_none() {
                    break;
                }
                self.commit()?;
            }
        }
        Ok(())
    }

    fn take(&mut self, message: Message<T>) {
        match message {
            Message::Append(entries) => self.group.push(entries),
            Message::Trim(keep_from) => self.keep_from = self.keep_from.max(Some(keep_from)),
        }
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        let started = Instant::now();
        if let Some(group) = &mut self.current
            && !group.blocks.is_empty()
        {
            self.journal.append(&mut group.blocks)?;
        }
        if let Some(group) = self.current.take() {
            let bytes = group.stored_bytes();
            let last_lsn = self.journal.last_lsn();
            let first_lsn = Lsn(last_lsn.0 + 1 - group.records());
            let tags = group.into_tags(first_lsn);
            (self.on_commit)(Committed { first_lsn, last_lsn, tags, bytes, took: started.elapsed() });
        }
        Ok(())
    }
}
