//! How much room the disk has.

use std::io;
use std::path::Path;

/// Bytes that are free on the disk of this folder, for such a process as this.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
