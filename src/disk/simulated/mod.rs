//! A disk in memory that remembers what was asked of it, may be full, and whose syncs may fail.

mod content;
mod image;

use std::ffi::OsString;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use super::{Disk, DiskFile, Found, Lock, Storage};
use content::Content;
use image::{Change, Entry, FileId, NameChange};
pub use image::{Image, Io, Shadow};

/// What the system says of a disk that cannot write, and of one that is full.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A machine's disk as one process sees it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
    /// The process is gone: nothing of it reaches the disk any more.
    is_dead: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Machine {
    start: Image,
    view: Image,
    log: Vec<Io>,
    files: FileId,
    /// Pages that may be taken; any number if there is none.
    pages_max: Option<u64>,
    /// So many syncs succeed before one fails.
    syncs_left: Option<u64>,
    /// So many touches before the process dies.
    dies_after: Option<u64>,
    syncs: u64,
}

impl SimDisk {
    /// A machine that is switched on with this on its disk.
    pub fn new(start: Image) -> Self {
        let files = start.files.last_key_value().map_or(0, |(file, _)| file + 1);
        let view = start.clone();
        let machine = Machine {
            start,
            view,
            log: Vec::new(),
            files,
            pages_max: None,
            syncs_left: None,
            dies_after: None,
            syncs: 0,
        };
        SimDisk { machine: Arc::new(Mutex::new(machine)), is_dead: Arc::default() }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap()
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let mut machine = self.machine();
        match &mut machine.dies_after {
            Some(0) => {
                machine.dies_after = None;
                self.is_dead.store(true, Ordering::Relaxed);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        if self.is_dead() { Err(io::Error::other("the process is gone")) } else { Ok(machine) }
    }

    /// The process dies when it has touched the disk so many times more.
    pub fn die_after(&self, touches: u64) {
        self.machine().dies_after = Some(touches);
    }

    pub fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Relaxed)
    }

    /// Ends the process that has this disk; the machine stays on. Returns the disk for the next process.
    #[must_use]
    pub fn kill(&self) -> SimDisk {
        self.is_dead.store(true, Ordering::Relaxed);
        self.machine().dies_after = None;
        SimDisk { machine: self.machine.clone(), is_dead: Arc::default() }
    }

    /// How much was asked of the disk so far.
    pub fn asked(&self) -> usize {
        self.machine().log.len()
    }

    /// What was on the disk at first, and what was asked of it since.
    pub fn history(&self) -> (Image, Vec<Io>) {
        let machine = self.machine();
        (machine.start.clone(), machine.log.clone())
    }

    /// A hash of all that was asked, but for the bytes written.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        for io in &self.machine().log {
            match io {
                Io::Change(file, Change::Write(offset, bytes)) => (file, offset, bytes.len()).hash(&mut hasher),
                other => format!("{other:?}").hash(&mut hasher),
            }
        }
        hasher.finish()
    }

    /// No more room than this.
    pub fn limit_pages(&self, pages_max: u64) {
        self.machine().pages_max = Some(pages_max);
    }

    /// Ends all faults.
    pub fn mend(&self) {
        let mut machine = self.machine();
        (machine.pages_max, machine.syncs_left) = (None, None);
    }

    /// How many pages are taken.
    pub fn pages(&self) -> u64 {
        self.machine().pages()
    }

    /// The sync after so many others fails.
    pub fn fail_sync(&self, after: u64) {
        self.machine().syncs_left = Some(after);
    }

    /// How often files and folders were synced.
    pub fn syncs(&self) -> u64 {
        self.machine().syncs
    }

    /// A file's bytes, as everybody sees them.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let machine = self.machine();
        let file = machine.file(path).ok()?;
        Some(machine.view.files[&file].to_vec())
    }

    fn handle(&self, file: FileId) -> Handle {
        Handle { disk: self.clone(), file }
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(ENOSPC)
}

impl Machine {
    /// Each file and folder takes a page, besides what is in it.
    fn pages(&self) -> u64 {
        self.view.files.values().map(Content::pages).sum::<u64>() + self.view.names.len() as u64
    }

    fn pages_left(&self) -> u64 {
        self.pages_max.map_or(u64::MAX, |pages_max| pages_max.saturating_sub(self.pages()))
    }

    fn file(&self, path: &Path) -> io::Result<FileId> {
        match self.view.names.get(path) {
            Some(Entry::File(file)) => Ok(*file),
            Some(Entry::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(missing()),
        }
    }

    fn name(&mut self, change: NameChange) {
        self.view.name(&change);
        self.log.push(Io::Name(change));
    }

    fn make(&mut self, path: &Path, change: impl FnOnce(PathBuf) -> NameChange) -> io::Result<()> {
        if !self.view.names.contains_key(path.parent().unwrap()) {
            return Err(missing());
        }
        if self.pages_left() == 0 {
            return Err(full());
        }
        self.name(change(path.to_path_buf()));
        Ok(())
    }

    /// The file of this name, made if it is not there.
    fn open_or_make(&mut self, path: &Path) -> io::Result<FileId> {
        match self.file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = self.files;
                self.make(path, |path| NameChange::Create(path, file))?;
                self.files += 1;
                self.view.files.insert(file, Content::default());
                Ok(file)
            }
            found => found,
        }
    }

    fn change(&mut self, file: FileId, change: Change) {
        change.apply(self.view.files.get_mut(&file).unwrap());
        self.log.push(Io::Change(file, change));
    }

    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let fits = match self.pages_max {
            Some(_) => self.view.files[&file].fits(offset, bytes.len(), self.pages_left()),
            None => bytes.len(),
        };
        if fits > 0 {
            self.change(file, Change::Write(offset, bytes[..fits].into()));
        }
        if fits == bytes.len() { Ok(()) } else { Err(full()) }
    }

    /// Whether the next sync fails.
    fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        match &mut self.syncs_left {
            Some(0) => {
                self.syncs_left = None;
                Err(io::Error::from_raw_os_error(EIO))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct NoLock;

impl Lock for NoLock {}

impl Disk for SimDisk {
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.alive()?.view.names.contains_key(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<Found> {
        let mut machine = self.alive()?;
        if machine.view.names.contains_key(path) {
            return Ok(Found::There);
        }
        machine.make(path, NameChange::MakeDir).map(|()| Found::Made)
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let machine = self.alive()?;
        let inside = machine.view.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_os_string())).collect())
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        let machine = self.alive()?;
        Ok(machine.view.files[&machine.file(path)?].length())
    }

    fn taken(&self, path: &Path) -> io::Result<u64> {
        self.length(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut machine = self.alive()?;
        let file = machine.file(from)?;
        machine.name(NameChange::Rename(from.to_path_buf(), to.to_path_buf(), file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.alive()?;
        let file = machine.file(path)?;
        machine.name(NameChange::Remove(path.to_path_buf()));
        // Nobody keeps a deleted file open for long; its room is free.
        if let Some(content) = machine.view.files.get_mut(&file) {
            *content = Content::default();
        }
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let file = self.alive()?.file(path)?;
        self.handle(file).sync_data()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut machine = self.alive()?;
        machine.sync()?;
        machine.log.push(Io::SyncDir(dir.to_path_buf()));
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut machine = self.alive()?;
        if machine.view.names.get(path) != Some(&Entry::Dir) {
            machine.open_or_make(path)?;
        }
        Ok(Some(Box::new(NoLock)))
    }

    fn open_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.alive()?.open_or_make(path)?;
        Ok(Box::new(self.handle(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Storage> {
        let file = self.alive()?.open_or_make(path)?;
        Ok(Storage::new(self.handle(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Storage> {
        let file = self.alive()?.file(path)?;
        Ok(Storage::new(self.handle(file)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Storage> {
        self.open(path)
    }
}

/// An open file.
#[derive(Debug)]
struct Handle {
    disk: SimDisk,
    file: FileId,
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.alive()?.view.files[&self.file].length())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.alive()?.view.files[&self.file].read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.alive()?.change(self.file, Change::SetLength(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut machine = self.disk.alive()?;
        let synced = machine.sync();
        let io = if synced.is_ok() { Io::Sync(self.file) } else { Io::SyncFailed(self.file, machine.syncs) };
        machine.log.push(io);
        synced
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.alive()?.write(self.file, offset, bytes)
    }
}

impl DiskFile for Handle {
    fn length(&self) -> io::Result<u64> {
        StorageBackend::len(self)
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read(offset, out)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
