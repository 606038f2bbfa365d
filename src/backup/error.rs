//! What can go wrong with a backup. None of it touches what the node lives by.

use std::io;
use std::path::{Path, PathBuf};

use crate::journal::JournalError;
use crate::store::StoreError;

/// Why a backup was not made or not brought back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is not empty; a backup is made into an empty folder, or one that is not there", .0.display())]
    NotEmpty(PathBuf),
    #[error("{} is no backup: it has no {}; a backup that was cut short has none", .0.display(), super::manifest::NAME)]
    NoManifest(PathBuf),
    #[error("{} cannot be read: {why}", path.display())]
    Manifest { path: PathBuf, why: String },
    #[error("{} has format {found}, this version reads {expected}; use the turnstile that made it", path.display())]
    Format { path: PathBuf, found: u32, expected: u32 },
    #[error("{} is damaged: {what}; nothing was guessed: take another backup", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("the store could not be copied")]
    Store(#[from] StoreError),
    #[error("the journal could not be copied")]
    Journal(#[from] JournalError),
    #[error("it was given up")]
    Stopped,
}

/// Puts an I/O error in its place.
pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_path_buf();
    move |source| BackupError::Io { action, path, source }
}
