//! Making a backup: the store, then the journal, then a look at every file as it lies there, and the manifest.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::error::{BackupError, at};
use super::manifest::{FileOfBackup, Manifest};
use super::pace::Pace;
use crate::disk::Place;
use crate::journal::JournalReader;
use crate::model::mandate::Mandate;
use crate::model::time::Timestamp;
use crate::store::Store;

/// Folder of the segments, in a backup as in a data folder.
const JOURNAL: &str = "journal";

/// What a backup is made of.
#[derive(Clone)]
pub struct Facts {
    pub store: Store,
    pub journal: JournalReader,
    /// `[server] name`.
    pub server: String,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Store,
    Journal,
    /// Every file is read again and hashed.
    Check,
}

impl Phase {
    /// The phase as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Store => "store",
            Phase::Journal => "journal",
            Phase::Check => "check",
        }
    }
}

/// How far a backup has come, or one that is brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    /// Bytes done in this phase, of about so many.
    pub bytes: u64,
    pub of: u64,
}

/// Makes a backup in `folder`. `tell` hears how far it is, and may break it off. Whatever it ends with but a backup, nothing
/// of it is left.
pub(super) fn make(
    facts: &Facts,
    mandate: &Mandate,
    folder: &Path,
    bytes_per_second: u64,
    tell: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Manifest, BackupError> {
    let was_there = check_empty(folder)?;
    Place::from(folder).create_dirs().map_err(at("create", folder))?;
    let mut making = Making { facts, folder, pace: Pace::new(bytes_per_second), tell };
    let made = making.all(mandate);
    if made.is_err() {
        clear(folder, was_there);
    }
    made
}

/// Whether there is a folder of this name, which then must be empty.
pub(super) fn check_empty(folder: &Path) -> Result<bool, BackupError> {
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at("look at", folder)(error)),
        Ok(found) if !found.is_dir() => return Err(BackupError::NotEmpty(folder.to_path_buf())),
        Ok(_) => {}
    }
    let mut names = fs::read_dir(folder).map_err(at("list", folder))?;
    if names.next().is_some() { Err(BackupError::NotEmpty(folder.to_path_buf())) } else { Ok(true) }
}

/// Takes away what was begun. What cannot be taken away stays, without a manifest.
fn clear(folder: &Path, keep_folder: bool) {
    let cleared = fs::remove_dir_all(folder).and_then(|()| if keep_folder { fs::create_dir(folder) } else { Ok(()) });
    if let Err(error) = cleared {
        tracing::warn!(folder = %folder.display(), %error, "what a backup had begun cannot be deleted");
    }
}

struct Making<'a> {
    facts: &'a Facts,
    folder: &'a Path,
    pace: Pace,
    tell: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Making<'_> {
    fn all(&mut self, mandate: &Mandate) -> Result<Manifest, BackupError> {
        let Facts { store, journal, server } = self.facts;
        let folder = self.folder;
        let copied = store.copy(folder, &mut self.phase(Phase::Store, store.file_bytes()));
        let stored = copied?.ok_or(BackupError::Stopped)?;
        // Nothing is stored that is not committed: all that the copy knows of is in the journal up to here.
        let through = journal.last_lsn();
        let copied = journal.copy(folder, through, &mut self.phase(Phase::Journal, journal.bytes()));
        let journaled = copied?.ok_or(BackupError::Stopped)?;
        let files = self.look_at_all()?;
        let manifest = Manifest {
            format: Manifest::FORMAT,
            turnstile: env!("CARGO_PKG_VERSION").to_owned(),
            server: server.clone(),
            uuid: store.uuid().to_string(),
            incarnation: stored.beginning.incarnation.0,
            made: Timestamp::now().to_string(),
            by: mandate.by.to_string(),
            why: mandate.why.to_string(),
            first_lsn: journaled.first_lsn.0,
            last_lsn: journaled.last_lsn.0,
            watermark: stored.watermark.0,
            files,
        };
        manifest.write(folder)?;
        Ok(manifest)
    }

    /// Tells of a phase's slices, and waits as long as they cost.
    fn phase(&mut self, phase: Phase, of: u64) -> impl FnMut(u64) -> ControlFlow<()> {
        let (pace, tell) = (&mut self.pace, &mut *self.tell);
        let mut bytes = 0;
        move |slice| {
            bytes += slice;
            pace.wait(slice, || tell(Progress { phase, bytes, of: of.max(bytes) }))
        }
    }

    /// Reads every file as the disk has it.
    fn look_at_all(&mut self) -> Result<Vec<FileOfBackup>, BackupError> {
        let folder = self.folder;
        let mut paths = names(folder)?;
        paths.retain(|name| name != JOURNAL);
        paths.extend(names(&folder.join(JOURNAL))?.into_iter().map(|name| format!("{JOURNAL}/{name}")));
        let length = |path: &String| fs::metadata(folder.join(path)).map_or(0, |found| found.len());
        let mut told = self.phase(Phase::Check, paths.iter().map(length).sum());
        let look = |path| FileOfBackup::look(folder, path, &mut told)?.ok_or(BackupError::Stopped);
        paths.into_iter().map(look).collect()
    }
}

fn names(folder: &Path) -> Result<Vec<String>, BackupError> {
    let entries = fs::read_dir(folder).map_err(at("list", folder))?;
    let names: Result<Vec<String>, _> =
        entries.map(|entry| Ok(PathBuf::from(entry?.file_name()).display().to_string())).collect();
    let mut names = names.map_err(at("list", folder))?;
    names.sort_unstable();
    Ok(names)
}
