//! Bringing a backup back: every file is copied and hashed on the way, and is worth something only if all are as the manifest
//! says.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use super::error::{BackupError, at};
use super::making::{Phase, Progress};
use super::manifest::{FileOfBackup, Manifest, PART_BYTES};
use crate::disk::{Disk, Place, RealDisk};

/// Copies the files of the backup in `from`, whose manifest is `manifest`, into the new folder `to`, durably.
///
/// # Errors
/// A file is not as the manifest says, or cannot be read or written. What was copied stays; it is not whole.
pub fn bring_back(
    manifest: &Manifest,
    from: &Path,
    to: &Path,
    tell: &mut dyn FnMut(Progress),
) -> Result<(), BackupError> {
    let of = manifest.bytes();
    let mut bytes = 0;
    for file in &manifest.files {
        let target = to.join(&file.path);
        let folder = target.parent().unwrap_or(to);
        Place::from(folder).create_dirs().map_err(at("create", folder))?;
        copy(file, &from.join(&file.path), &target, &mut |part| {
            bytes += part;
            tell(Progress { phase: Phase::Check, bytes, of });
        })?;
        RealDisk.sync_dir(folder).map_err(at("sync", folder))?;
    }
    Ok(())
}

fn copy(file: &FileOfBackup, from: &Path, to: &Path, told: &mut dyn FnMut(u64)) -> Result<(), BackupError> {
    let mut source = File::open(from).map_err(at("read", from))?;
    let mut target = File::options().write(true).create_new(true).open(to).map_err(at("create", to))?;
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    let mut part = vec![0; PART_BYTES];
    loop {
        let read = source.read(&mut part).map_err(at("read", from))?;
        if read == 0 {
            break;
        }
        hasher.update(&part[..read]);
        target.write_all(&part[..read]).map_err(at("write", to))?;
        bytes += read as u64;
        told(read as u64);
    }
    let damaged = |what: String| BackupError::Damaged { path: from.to_path_buf(), what };
    if bytes != file.bytes {
        return Err(damaged(format!("it has {bytes} bytes, not {}", file.bytes)));
    }
    if hasher.finalize().to_hex().as_str() != file.blake3 {
        return Err(damaged("its content is not what was backed up".to_owned()));
    }
    target.sync_all().map_err(at("sync", to))
}
