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

use std::io;

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
