//! The disk as journal, store and the file sink see it: everything that makes, opens, names, deletes or syncs a file they
//! live by goes through [`Disk`], so that a test can lose, tear and reorder what was not synced.
//!
//! Nothing here knows what the files hold. A database's file is a [`Storage`], whatever disk it is on.

mod real;
#[cfg(test)]
pub mod simulated;
mod storage;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use real::RealDisk;
pub use storage::Storage;

/// Whether something was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Made,
    There,
}

/// Keeps others out as long as it is held.
pub trait Lock: fmt::Debug + Send + Sync {}

/// Where files are. Names are durable only once their folder is synced, contents once the file is.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Whether there is a file or folder of this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes a folder in an existing one, unless it is there.
    fn create_dir(&self, path: &Path) -> io::Result<Found>;

    /// The names in a folder, in no order.
    fn names(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// A file's length in bytes.
    fn length(&self, path: &Path) -> io::Result<u64>;

    /// How many bytes of the disk a file takes: less than its length while a part of it was never written.
    fn taken(&self, path: &Path) -> io::Result<u64>;

    /// Gives a file another name in the same folder, replacing what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes what a file holds durable, whoever wrote it.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Locks a folder, or a file, which is made if it is not there; `None` while another has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;

    /// Opens a plain file, which is made if it is not there.
    fn open_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for a database, which is made if it is not there.
    fn create(&self, path: &Path) -> io::Result<Storage>;

    /// Opens a database's file that is there.
    fn open(&self, path: &Path) -> io::Result<Storage>;

    /// Opens a database's file that is there, only to read it.
    fn open_to_read(&self, path: &Path) -> io::Result<Storage>;
}

/// An open plain file.
pub trait DiskFile: Send {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Cuts it, or makes it longer with zeros.
    fn set_length(&mut self, length: u64) -> io::Result<()>;

    /// Fills `out` from `offset` on, all of which must be there.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`. After an error a part of them may be there.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file or folder on a disk. A plain path stands for one on the real disk.
#[derive(Clone, Debug)]
pub struct Place {
    pub disk: Arc<dyn Disk>,
    pub path: PathBuf,
}

impl Place {
    /// What is called `name` in this folder.
    #[must_use]
    pub fn join(&self, name: &str) -> Place {
        Place { disk: self.disk.clone(), path: self.path.join(name) }
    }

    /// Whether it exists.
    pub fn exists(&self) -> io::Result<bool> {
        self.disk.exists(&self.path)
    }

    /// The folder it is in; `None` for the root of all.
    pub fn parent(&self) -> Option<Place> {
        let parent = self.path.parent()?;
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        Some(Place { disk: self.disk.clone(), path: parent.to_path_buf() })
    }

    /// Makes this folder and those it is in, as far as they are missing. Its own name is durable then.
    pub fn create_dirs(&self) -> io::Result<()> {
        let Some(parent) = self.parent() else { return Ok(()) };
        let found = match self.disk.create_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && parent.path != self.path => {
                parent.create_dirs()?;
                self.disk.create_dir(&self.path)?
            }
            other => other?,
        };
        match (found, self.disk.sync_dir(&parent.path)) {
            // Somebody else made it in a folder that is closed to us: it is theirs to keep.
            (Found::There, Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            (_, synced) => synced,
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Place {
    fn from(path: &P) -> Self {
        Place { disk: Arc::new(RealDisk), path: path.as_ref().to_path_buf() }
    }
}
