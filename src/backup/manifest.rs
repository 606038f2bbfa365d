//! `backup.json`: what a backup is of, how far it goes, and its files. Written last, so that without it there is no backup.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{BackupError, at};
use crate::disk::{Disk, RealDisk};

/// The manifest's name in the backup's folder.
pub(super) const NAME: &str = "backup.json";
const UNFINISHED_NAME: &str = "backup.json.tmp";
const FORMAT: u32 = 1;
/// A longer manifest is none: it would name millions of segments.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// The store's name, in a backup as in a data folder, and the folder of the journal's segments.
const STORE: &str = "state.redb";
const SEGMENTS: &str = "journal/";
const SEGMENT_END: &str = ".redb";
/// So much of a file is read at a time.
pub(super) const PART_BYTES: usize = 1024 * 1024;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The version that made it.
    pub turnstile: String,
    /// `[server] name` of the node, which stands in the source of its decisions.
    pub server: String,
    /// Shared by store and journal.
    pub uuid: String,
    /// Which incarnation of the data folder it was.
    pub incarnation: u32,
    /// When it was complete.
    pub made: String,
    /// Who asked for it, and why, if they said so.
    pub by: String,
    pub why: String,
    /// What the journal's records are: from the first that was kept to the last.
    pub first_lsn: u64,
    pub last_lsn: u64,
    /// Up to here all is in the store.
    pub watermark: u64,
    pub files: Vec<FileOfBackup>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOfBackup {
    /// From the backup's folder, with `/`.
    pub path: String,
    pub bytes: u64,
    /// BLAKE3 of its content, in hex.
    pub blake3: String,
}

impl Manifest {
    /// The format this version writes.
    pub(super) const FORMAT: u32 = FORMAT;

    /// Reads the manifest of the backup in `folder`.
    ///
    /// # Errors
    /// There is none, or it says what no backup of this version would.
    pub fn read(folder: &Path) -> Result<Manifest, BackupError> {
        let path = folder.join(NAME);
        let file = File::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => BackupError::NoManifest(folder.to_path_buf()),
            _ => at("read", &path)(error),
        })?;
        let mut text = Vec::new();
        file.take(MANIFEST_BYTES_MAX).read_to_end(&mut text).map_err(at("read", &path))?;
        let wrong = |why: String| BackupError::Manifest { path: path.clone(), why };
        // Of another format nothing else need be as here.
        let format: Format = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if format.format != FORMAT {
            return Err(BackupError::Format { path, found: format.format, expected: FORMAT });
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if let Some(strange) = manifest.files.iter().find(|file| !is_known(&file.path)) {
            return Err(wrong(format!("a backup has no file {:?}", strange.path)));
        }
        match manifest.files.iter().filter(|file| file.path == STORE).count() {
            1 => Ok(manifest),
            _ => Err(wrong(format!("it must name one {STORE}"))),
        }
    }

    /// Writes the manifest into `folder`, durably: from then on there is a backup.
    pub(super) fn write(&self, folder: &Path) -> Result<(), BackupError> {
        let (unfinished, path) = (folder.join(UNFINISHED_NAME), folder.join(NAME));
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| at("write", &path)(error.into()))?;
        text.push(b'\n');
        let mut file = File::create(&unfinished).map_err(at("create", &unfinished))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(at("write", &unfinished))?;
        RealDisk.rename(&unfinished, &path).map_err(at("name", &path))?;
        RealDisk.sync_dir(folder).map_err(at("sync", folder))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Whether a backup has a file of this name: it is made into a path when it is brought back.
fn is_known(path: &str) -> bool {
    let number = path.strip_prefix(SEGMENTS).and_then(|name| name.strip_suffix(SEGMENT_END));
    path == STORE || number.is_some_and(|number| !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit()))
}

impl FileOfBackup {
    /// Looks at the file `path` of the backup in `folder`. None if `told` of its parts broke it off.
    pub(super) fn look(
        folder: &Path,
        path: String,
        told: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<FileOfBackup>, BackupError> {
        let whole = folder.join(&path);
        let mut file = File::open(&whole).map_err(at("read", &whole))?;
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
        let mut part = vec![0; PART_BYTES];
        loop {
            let read = file.read(&mut part).map_err(at("read", &whole))?;
            if read == 0 {
                return Ok(Some(FileOfBackup { path, bytes, blake3: hasher.finalize().to_hex().to_string() }));
            }
            hasher.update(&part[..read]);
            bytes += read as u64;
            if told(read as u64).is_break() {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a manifest from elsewhere could have any file of the machine written.
    #[test]
    fn only_files_of_a_backup_are_named() {
        for (path, known) in [
            ("state.redb", true),
            ("journal/1.redb", true),
            ("journal/120.redb", true),
            ("journal/.redb", false),
            ("journal/lock", false),
            ("journal/../1.redb", false),
            ("../state.redb", false),
            ("/state.redb", false),
            ("backup.json", false),
            ("", false),
        ] {
            assert_eq!(is_known(path), known, "{path}");
        }
    }
}
