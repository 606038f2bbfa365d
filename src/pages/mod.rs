//! Files whose every page is verified when it is read: what lies beneath redb, for the journal and the store alike.
//!
//! redb keeps checksums of its pages but looks at them only when it repairs a file. Left alone it believes a flipped
//! byte: a damaged branch page makes a key that is stored read as missing, a damaged first byte of the file brings back
//! an older commit, and some damage makes it panic. Rows with checksums of their own do not help against that, since
//! what is hidden has no row to check. So redb is given a [`redb::StorageBackend`] that keeps a checksum of each page,
//! seeded with the page's place and the file's salt, and answers a read with an error unless they fit. What redb sees
//! is what was written, or nothing.
//!
//! Not seen: a write that the disk acknowledged and dropped, so that a page *and* its checksum are both still the old ones.
//! A disk that honours flush does not do that.
//!
//! `layout` is the file format, `backend` the reading and writing, `unchanged` opens a file without ever changing it.

mod backend;
mod layout;
#[cfg(test)]
mod tests;
mod unchanged;

use std::fs::File;
use std::io;
use std::path::Path;

use redb::backends::FileBackend;

pub use backend::Pages;
pub use layout::FORMAT;
pub use unchanged::Unchanged;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// A later version made the file.
    #[error("its pages have format {found}, this version reads {FORMAT}")]
    Newer { found: u32 },
    /// The file is not what was written.
    #[error("{0}")]
    Damaged(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Makes the file at `path`, which must not exist or be empty.
pub fn create(path: &Path) -> Result<Pages<FileBackend>, PagesError> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    Pages::create(backend(file)?)
}

/// Opens the file at `path` for reading and writing.
pub fn open(path: &Path) -> Result<Pages<FileBackend>, PagesError> {
    Pages::open(backend(File::options().read(true).write(true).open(path)?)?)
}

/// Opens the file at `path` for reading: whatever redb writes while it has it stays in memory. Others may do so at the
/// same time.
pub fn open_unchanged(path: &Path) -> Result<Unchanged<FileBackend>, PagesError> {
    Ok(Unchanged::new(Pages::open(backend(File::open(path)?)?)?))
}

fn backend(file: File) -> Result<FileBackend, PagesError> {
    FileBackend::new(file).map_err(|error| PagesError::Io(io::Error::other(error)))
}
