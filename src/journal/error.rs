//! What can go wrong with the journal. Every variant halts the process that meets it: nothing is guessed at.

use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::model::ids::Lsn;
use crate::pages::PagesError;
use crate::vital;

/// Why the journal could not be opened, read or written. `Display` says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk or the file system failed. Final for the process; what was not committed was never promised.
    #[error("cannot {action} {path}; mend the disk or its permissions, then start again", path = path.display())]
    Io { path: PathBuf, action: &'static str, source: Box<redb::Error> },
    /// Stored bytes are not what was written.
    #[error("{path} is damaged: {what}; stop, keep a copy of the folder, and restore it from a backup", path = file.display())]
    Corrupt { file: PathBuf, what: String },
    /// The files were written by a later version.
    #[error("{path} has format {found}, which this version cannot read; use a newer turnstile", path = file.display())]
    NewerFormat { file: PathBuf, found: u32 },
    /// Another process holds the files.
    #[error("another turnstile uses {path}; stop it, or give this one another data_dir", path = path.display())]
    Locked { path: PathBuf },
    /// The journal belongs to another store.
    #[error(
        "{path} belongs to {found}, the store to {expected}: they are not of one turnstile; restore both together",
        path = file.display()
    )]
    WrongUuid { file: PathBuf, found: Uuid, expected: Uuid },
    /// Segments are missing.
    #[error("the journal in {path} is not whole: {what}; restore the missing files from a backup", path = dir.display())]
    Gap { dir: PathBuf, what: String },
    /// The reader asked for records that were trimmed away.
    #[error("records from LSN {from} on were asked for, but the journal is trimmed and starts at LSN {first}")]
    Trimmed { from: Lsn, first: Lsn },
}

impl JournalError {
    pub(super) fn corrupt(file: &Path, what: impl Into<String>) -> Self {
        JournalError::Corrupt { file: file.to_path_buf(), what: what.into() }
    }

    /// Sorts a failure of the database or the file system: damage and locks have names of their own.
    pub(super) fn sort(path: &Path, action: &'static str, error: redb::Error) -> Self {
        let path = path.to_path_buf();
        match error {
            redb::Error::DatabaseAlreadyOpen => JournalError::Locked { path },
            redb::Error::Corrupted(what) => JournalError::Corrupt { file: path, what },
            redb::Error::Io(error) if damaged(error.kind()) => {
                JournalError::Corrupt { file: path, what: error.to_string() }
            }
            error @ (redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::RepairAborted) => JournalError::Corrupt { file: path, what: error.to_string() },
            other => JournalError::Io { path, action, source: Box::new(other) },
        }
    }
}

/// A file that is cut short or is no database shows as one of these.
fn damaged(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// For `map_err`: why the file at `path` could not be opened or made.
pub(super) fn in_file(path: &Path) -> impl FnOnce(PagesError) -> JournalError {
    move |error| match error {
        PagesError::Newer { found } => JournalError::NewerFormat { file: path.to_path_buf(), found },
        PagesError::Damaged(what) => JournalError::corrupt(path, what),
        PagesError::Io(error) => JournalError::sort(path, "open", redb::Error::Io(error)),
    }
}

/// Runs what calls redb on the file at `path`. Pages are verified before redb sees them; should it panic all the same,
/// that is damage like any other, and not a bug in whatever was being handled.
pub(super) fn guarded<T>(path: &Path, run: impl FnOnce() -> Result<T, JournalError>) -> Result<T, JournalError> {
    vital::guarded(run)
        .unwrap_or_else(|panic| Err(JournalError::corrupt(path, format!("redb cannot make sense of a page: {panic}"))))
}

/// For `map_err`: what was being done to which file.
pub(super) fn at<E: Into<redb::Error>>(path: &Path, action: &'static str) -> impl FnOnce(E) -> JournalError {
    move |error| JournalError::sort(path, action, error.into())
}
