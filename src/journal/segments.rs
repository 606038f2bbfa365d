//! The segments as appender and readers share them: which file holds which records, and how to get at it.
//!
//! The active segment's database is used under the lock only, so that none is in use when the appender closes it to
//! seal the file. Sealed files are opened when they are first read and few stay open.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{Database, ReadOnlyTable, ReadableDatabase};

use super::error::{JournalError, at, guarded};
use super::segment::{self, BLOCKS, SegmentHeader};
use crate::disk::Place;
use crate::model::ids::Lsn;

/// Sealed segments that stay open: as many as there are readers that are likely to lag in different places.
const SEALED_OPEN_MAX: usize = 4;

/// A full segment.
#[derive(Debug)]
pub(super) struct Sealed {
    pub header: SegmentHeader,
    pub last_lsn: Lsn,
}

/// The segment that is appended to.
#[derive(Debug)]
pub(super) struct Active {
    pub header: SegmentHeader,
    pub database: Arc<Database>,
}

#[derive(Debug)]
struct State {
    /// Oldest first, without gaps, up to the active one.
    sealed: VecDeque<Sealed>,
    active: Active,
}

/// All segments of one journal.
pub(super) struct Segments {
    dir: Place,
    state: RwLock<State>,
    /// Last committed position.
    last_lsn: AtomicU64,
    /// Sealed segments that are open, by number, the one last used at the end.
    open: Mutex<Vec<(u64, Arc<Database>)>>,
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments")
            .field("dir", &self.dir.path)
            .field("last_lsn", &self.last_lsn())
            .finish_non_exhaustive()
    }
}

impl Segments {
    pub fn new(dir: Place, sealed: VecDeque<Sealed>, active: Active, last_lsn: Lsn) -> Self {
        let state = RwLock::new(State { sealed, active });
        Segments { dir, state, last_lsn: AtomicU64::new(last_lsn.0), open: Mutex::default() }
    }

    pub fn dir(&self) -> &Place {
        &self.dir
    }

    /// Position of the last committed record, [`Lsn::ZERO`] if there never was one.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.last_lsn.load(Ordering::Acquire))
    }

    /// Lets readers see up to `lsn`; called once it is durable.
    pub fn publish(&self, lsn: Lsn) {
        self.last_lsn.store(lsn.0, Ordering::Release);
    }

    /// Position of the first record that is still kept, or will be the first.
    pub fn first_lsn(&self) -> Lsn {
        self.state().first_lsn()
    }

    /// Bytes of the disk that all files take. A file that cannot be looked at counts as empty: the number is only shown.
    pub fn bytes(&self) -> u64 {
        let state = self.state();
        let numbers = state.sealed.iter().map(|sealed| sealed.header.number).chain([state.active.header.number]);
        numbers.map(|number| self.dir.disk.taken(&segment::path(&self.dir.path, number)).unwrap_or(0)).sum()
    }

    /// Runs `read` on the blocks of the segment that holds, or will hold, `lsn`.
    pub fn read<T>(
        &self,
        lsn: Lsn,
        read: impl FnOnce(&SegmentBlocks<'_>) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let state = self.state();
        if lsn >= state.active.header.first_lsn {
            return read_blocks(&self.dir.path, &state.active.database, &state.active.header, read);
        }
        let at = state.sealed.partition_point(|sealed| sealed.last_lsn < lsn);
        match state.sealed.get(at) {
            Some(sealed) if sealed.header.first_lsn <= lsn => {
                let header = sealed.header.clone();
                let database = self.open_sealed(header.number)?;
                // The writer need not wait for this read: a sealed file is never changed, and stays readable while open.
                drop(state);
                read_blocks(&self.dir.path, &database, &header, read)
            }
            _ => Err(JournalError::Trimmed { from: lsn, first: state.first_lsn() }),
        }
    }

    /// Makes `next` the active segment; the one before it is sealed and is closed here.
    pub fn roll_over(&self, next: Active, last_lsn: Lsn) {
        let mut state = self.state_mut();
        let before = std::mem::replace(&mut state.active, next);
        drop(before.database);
        state.sealed.push_back(Sealed { header: before.header, last_lsn });
    }

    /// All segments, oldest first, the active one last: each one's first position, and the bytes of the disk it takes.
    pub fn spans(&self) -> Vec<(Lsn, u64)> {
        let state = self.state();
        let headers = state.sealed.iter().map(|sealed| &sealed.header).chain([&state.active.header]);
        let taken = |number| self.dir.disk.taken(&segment::path(&self.dir.path, number)).unwrap_or(0);
        headers.map(|header| (header.first_lsn, taken(header.number))).collect()
    }

    /// The numbers of the sealed segments that hold records up to `through`, oldest first.
    pub fn sealed(&self, through: Lsn) -> Vec<u64> {
        let state = self.state();
        let wanted = state.sealed.iter().take_while(|sealed| sealed.header.first_lsn <= through);
        wanted.map(|sealed| sealed.header.number).collect()
    }

    /// A sealed segment to be read; none if there is none of this number.
    pub fn sealed_database(&self, number: u64) -> Result<Option<Arc<Database>>, JournalError> {
        let state = self.state();
        let is_there = state.sealed.iter().any(|sealed| sealed.header.number == number);
        is_there.then(|| self.open_sealed(number)).transpose()
    }

    /// Gives the copy of a sealed segment its name, unless the segment was deleted meanwhile: then the copy goes, too.
    pub fn replace(&self, number: u64, copy: &Path) -> Result<(), JournalError> {
        // Nobody opens or deletes the file meanwhile.
        let state = self.state_mut();
        if !state.sealed.iter().any(|sealed| sealed.header.number == number) {
            return self.dir.disk.remove(copy).map_err(at(copy, "delete"));
        }
        let path = segment::path(&self.dir.path, number);
        self.dir.disk.rename(copy, &path).map_err(at(&path, "name"))?;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(open, _)| *open != number);
        segment::sync_dir(&self.dir)
    }

    /// Deletes sealed segments all of whose records are before `keep_from`; returns how many.
    pub fn trim(&self, keep_from: Lsn) -> Result<u32, JournalError> {
        let mut deleted = 0;
        while let Some(number) = self.forget_oldest(keep_from) {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(open, _)| *open != number);
            let path = segment::path(&self.dir.path, number);
            self.dir.disk.remove(&path).map_err(at(&path, "delete"))?;
            // One by one: were two deletions swapped by a power cut, the files left would have a gap.
            segment::sync_dir(&self.dir)?;
            deleted += 1;
        }
        Ok(deleted)
    }

    fn forget_oldest(&self, keep_from: Lsn) -> Option<u64> {
        let mut state = self.state_mut();
        state.sealed.pop_front_if(|oldest| oldest.last_lsn < keep_from).map(|oldest| oldest.header.number)
    }

    fn open_sealed(&self, number: u64) -> Result<Arc<Database>, JournalError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = if let Some(at) = open.iter().position(|(known, _)| *known == number) {
            open.remove(at)
        } else {
            let path = segment::path(&self.dir.path, number);
            (number, Arc::new(segment::open_read_only(&*self.dir.disk, &path)?))
        };
        if open.len() == SEALED_OPEN_MAX {
            open.remove(0);
        }
        let database = entry.1.clone();
        open.push(entry);
        Ok(database)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn first_lsn(&self) -> Lsn {
        self.sealed.front().map_or(self.active.header.first_lsn, |oldest| oldest.header.first_lsn)
    }
}

/// A segment during one read.
pub(super) struct SegmentBlocks<'a> {
    pub header: &'a SegmentHeader,
    pub path: PathBuf,
    pub table: ReadOnlyTable<u64, &'static [u8]>,
}

fn read_blocks<T>(
    dir: &Path,
    database: &Database,
    header: &SegmentHeader,
    read: impl FnOnce(&SegmentBlocks<'_>) -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    let path = segment::path(dir, header.number);
    guarded(&path.clone(), || {
        let transaction = database.begin_read().map_err(at(&path, "read"))?;
        let table = transaction.open_table(BLOCKS).map_err(at(&path, "read"))?;
        read(&SegmentBlocks { header, path, table })
    })
}
