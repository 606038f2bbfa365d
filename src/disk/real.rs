//! The disk of the machine.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use redb::backends::FileBackend;

use super::{Disk, DiskFile, Found, Lock, Storage};

/// What the system counts a file's blocks in, whatever the disk's own are.
const STAT_BLOCK_BYTES: u64 = 512;

/// The disk of the machine.
#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

impl Lock for File {}

impl Disk for RealDisk {
    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn create_dir(&self, path: &Path) -> io::Result<Found> {
        match fs::create_dir(path) {
            Ok(()) => Ok(Found::Made),
            Err(_) if path.is_dir() => Ok(Found::There),
            Err(error) => Err(error),
        }
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn taken(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.blocks() * STAT_BLOCK_BYTES)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file = if path.is_dir() {
            File::open(path)?
        } else {
            File::options().create(true).truncate(false).write(true).open(path)?
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn open_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        Ok(Box::new(file))
    }

    fn create(&self, path: &Path) -> io::Result<Storage> {
        storage(File::options().read(true).write(true).create(true).truncate(false).open(path)?)
    }

    fn open(&self, path: &Path) -> io::Result<Storage> {
        storage(File::options().read(true).write(true).open(path)?)
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Storage> {
        storage(File::open(path)?)
    }
}

fn storage(file: File) -> io::Result<Storage> {
    Ok(Storage::new(FileBackend::new(file).map_err(io::Error::other)?))
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
