//! The writer's thread around [`Committer`]: takes what is in its queue, commits it, says so, in order.
//!
//! It waits for nobody but the disk: `on_commit` must not block. The first error is the last thing it says. Where many
//! records come it lets some gather: a commit costs a few hundred microseconds of processor time and fills whole pages,
//! however few it holds.

use std::fmt;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::committer::{Committed, Committer};
use super::error::JournalError;
use super::group::Entry;
use super::log::Journal;
use crate::model::ids::Lsn;
use crate::vital;

/// For each record of a commit, the next one begins so much later than it did. A few senders that wait for each
/// acknowledgement are not held up by that; ten thousand records a second and more come in fewer commits.
const PACE_A_RECORD: Duration = Duration::from_micros(100);
/// No commit is held back for longer.
const PACE_MAX: Duration = Duration::from_millis(2);

enum Message<T> {
    Append(Vec<Entry<T>>),
    Trim(Lsn),
    Seal(Sender<()>),
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

    /// Asks that the active segment be sealed: once the answer is there, all that was committed before is in sealed ones.
    pub fn seal(&self) -> Result<Receiver<()>, WriterGone> {
        let (sealed, answer) = bounded(1);
        self.sender.send(Message::Seal(sealed)).map_err(|_| WriterGone)?;
        Ok(answer)
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
    let mut writer = Writer { committer: Committer::new(journal), receiver, on_commit, due: Instant::now() };
    let thread = thread::Builder::new().name("journal".into()).spawn(move || match writer.run_vitally() {
        Ok(()) => Some(writer.committer.into_journal()),
        Err(error) => {
            // Told before the tags are dropped with the writer, so that nobody takes their end for anything else.
            on_fatal(error);
            None
        }
    })?;
    Ok((JournalWriter { sender }, thread))
}

struct Writer<T, F> {
    committer: Committer<T>,
    receiver: Receiver<Message<T>>,
    on_commit: F,
    /// A commit that is not full begins no earlier.
    due: Instant,
}

/// How long after a commit of so many records began the next one is due.
fn pace(records: usize) -> Duration {
    u32::try_from(records).map_or(PACE_MAX, |records| PACE_A_RECORD.saturating_mul(records).min(PACE_MAX))
}

impl<T, F: FnMut(Committed<T>)> Writer<T, F> {
    fn run_vitally(&mut self) -> Result<(), JournalError> {
        vital::mark();
        self.run()
    }

    /// Until all senders are gone and all they sent is committed.
    fn run(&mut self) -> Result<(), JournalError> {
        while let Ok(message) = self.receiver.recv() {
            self.take(message);
            loop {
                self.gather();
                let begin = Instant::now();
                let Some(committed) = self.committer.step()? else { break };
                self.due = begin + pace(committed.tags.len());
                (self.on_commit)(committed);
            }
        }
        Ok(())
    }

    /// Takes what is in the queue once a commit is due, or as much as fills one.
    fn gather(&mut self) {
        self.drain();
        if !self.committer.is_full() {
            thread::sleep(self.due.saturating_duration_since(Instant::now()));
            self.drain();
        }
    }

    fn drain(&mut self) {
        while !self.committer.is_full()
            && let Ok(message) = self.receiver.try_recv()
        {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message<T>) {
        match message {
            Message::Append(entries) => self.committer.append(entries),
            Message::Trim(keep_from) => self.committer.trim(keep_from),
            Message::Seal(sealed) => self.committer.seal(sealed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::{Arc, Mutex};

    use super::super::tests::{ONE_APPEND_A_SEGMENT, files, lsns, open, record};
    use super::*;

    fn entry(lsn: u64) -> Entry<String> {
        Entry { bytes: record(lsn), has_decision: false, tag: format!("record {lsn}") }
    }

    /// A lone sender that is made to wait sends less; a crowd that is not makes commits of a few records each.
    #[test]
    fn only_crowds_are_paced() {
        for (records, micros) in [(1, 100), (3, 300), (20, 2_000), (2_000, 2_000), (usize::MAX, 2_000)] {
            assert_eq!(pace(records), Duration::from_micros(micros), "{records} records");
        }
    }

    /// Tags must come back once, in order, with the positions their records got.
    #[test]
    fn tags_come_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), 1 << 30);
        let reader = journal.reader();
        let (sender, receiver) = bounded(1024);
        let on_commit = move |committed: Committed<String>| {
            assert!(reader.last_lsn() >= committed.last_lsn, "what was committed can be read");
            sender.send(committed.tags).unwrap();
        };
        let (writer, thread) = spawn_writer(journal, 2, on_commit, |error| panic!("{error}")).unwrap();
        let mut expected = Vec::new();
        for lsn in 1..=200 {
            writer.append(vec![entry(lsn)]).unwrap();
            expected.push((Lsn(lsn), format!("record {lsn}")));
        }
        drop(writer);
        let journal = thread.join().unwrap().expect("the journal is handed back");
        assert_eq!(receiver.iter().flatten().collect::<Vec<_>>(), expected);
        assert_eq!(journal.last_lsn(), Lsn(200));
        let read = lsns(journal.reader().read_from(Lsn(1)).unwrap()).unwrap();
        assert_eq!(read, (1..=200).collect::<Vec<_>>());
    }

    #[test]
    fn trims_between_commits() {
        let folder = tempfile::tempdir().unwrap();
        let (sender, committed) = bounded(1024);
        let on_commit = move |commit: Committed<String>| sender.send(commit.last_lsn).unwrap();
        let journal = open(folder.path(), ONE_APPEND_A_SEGMENT);
        let (writer, thread) = spawn_writer(journal, 8, on_commit, |error| panic!("{error}")).unwrap();
        for lsn in 1..=3 {
            writer.append(vec![entry(lsn)]).unwrap();
            assert_eq!(committed.recv().unwrap(), Lsn(lsn));
        }
        writer.trim(Lsn(3)).unwrap();
        writer.trim(Lsn(2)).unwrap();
        drop(writer);
        assert_eq!(thread.join().unwrap().unwrap().first_lsn(), Lsn(3));
        assert_eq!(files(folder.path()).0, [3]);
    }

    /// A tag that tells when it is dropped without having been handed back.
    struct Promise(Arc<Mutex<Vec<&'static str>>>);

    impl Drop for Promise {
        fn drop(&mut self) {
            self.0.lock().unwrap().push("dropped");
        }
    }

    /// After the first error nothing is acknowledged, and the node hears of it before any tag is let go.
    #[test]
    fn an_error_is_final() {
        let folder = tempfile::tempdir().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (on_commit_said, on_fatal_said) = (said.clone(), said.clone());
        let on_commit = move |committed: Committed<Promise>| {
            on_commit_said.lock().unwrap().push("committed");
            committed.tags.into_iter().for_each(|(_, tag)| std::mem::forget(tag));
        };
        let on_fatal = move |error: JournalError| {
            assert!(matches!(error, JournalError::Io { .. }), "{error:?}");
            on_fatal_said.lock().unwrap().push("fatal");
        };
        let mut journal = open(folder.path(), ONE_APPEND_A_SEGMENT);
        super::super::tests::append(&mut journal, &[1]);
        // The next append rolls over and finds no folder to make the file in.
        fs::remove_dir_all(folder.path().join("journal")).unwrap();
        let (writer, thread) = spawn_writer(journal, 8, on_commit, on_fatal).unwrap();
        let promise = || Promise(said.clone());
        let record = || Entry { bytes: record(2), has_decision: false, tag: promise() };
        writer.append(vec![record(), record()]).unwrap();
        assert!(thread.join().unwrap().is_none());
        assert_eq!(writer.append(vec![record()]), Err(WriterGone));
        let said = said.lock().unwrap().clone();
        let fatal = said.iter().position(|word| *word == "fatal").expect("the error is told");
        assert_eq!(said.iter().filter(|word| **word == "fatal").count(), 1);
        assert!(said[..fatal].iter().all(|word| *word == "committed"), "{said:?}");
        assert!(said[fatal + 1..].iter().all(|word| *word == "dropped"), "{said:?}");
        assert!(said[fatal + 1..].len() >= 2, "{said:?}");
    }
}
