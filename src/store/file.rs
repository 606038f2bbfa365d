//! Opening and making `state.redb`, and its marks: uuid, format, watermark, the fingerprints of the rules.
//!
//! A store is made under another name and renamed when it is whole, so that a `state.redb` that exists always opens.
//! Every transaction, from the first on, is two-phase with quick repair and durable when it returns: a file whose
//! last commit lacked one of them would have to be read from end to end after a crash.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bincode::{Decode, Encode};
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};
use uuid::Uuid;

use super::error::{StoreError, guarded};
use super::tables::{self, BEGINNING, FILE_FORMAT, FORMAT, HIGHEST_LSN, META, TYPES, UUID, WATERMARK};
use crate::disk::Place;
use crate::model::ids::{Incarnation, Lsn};
use crate::pages::{self, Pages, PagesError, Unchanged};

const FILE_NAME: &str = "state.redb";
const UNFINISHED_NAME: &str = "state.redb.tmp";

/// How to open the store.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Memory for cached pages, in bytes; redb's own default would be 1 GiB.
    pub cache_bytes: usize,
}

/// By which rules a type's states were made.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TypeMark {
    /// Hash of all in the rules that gives stored data its meaning; [`TypeMark::UNSETTLED`] of no rules there are.
    pub fingerprint: [u8; 32],
    /// What slots stand for, by keys in their order; nothing where rows of several layouts lie side by side.
    pub layouts: Vec<Layout>,
}

/// What the slots of a range of rows stand for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Layout {
    /// The last key of the range; none: all that follow.
    pub through: Option<String>,
    /// The names of the fields, by slot.
    pub names: Vec<String>,
}

impl TypeMark {
    /// The fingerprint of a type whose states are being made anew, or that has had no rules for some time.
    pub const UNSETTLED: [u8; 32] = [0; 32];

    /// All states were made by these rules.
    pub fn settled(fingerprint: [u8; 32], names: Vec<String>) -> Self {
        TypeMark { fingerprint, layouts: vec![Layout { through: None, names }] }
    }
}

/// Which incarnation of the data folder this is, and where in the journal it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Beginning {
    pub incarnation: Incarnation,
    /// Records up to here were in the backup that it was restored from, or were written by the restoring.
    pub after: Lsn,
}

/// The open store. Clones share it; it closes when the last one, and the last [`super::CheckpointWriter`], is gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    uuid: Uuid,
    file: Place,
}

impl Store {
    /// Opens `state.redb` in the existing directory `dir`, or makes it there with a new uuid.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it, `NewerFormat`, `Corrupt`, `Io`.
    pub fn open(dir: impl Into<Place>, options: StoreOptions) -> Result<Store, StoreError> {
        let dir = dir.into();
        if !Self::exists(&dir)? {
            create(&dir, options)?;
        }
        // At each opening: whoever made the file may have died between renaming it and this.
        let synced = dir.disk.sync_dir(&dir.path);
        synced.map_err(|source| StoreError::Io { action: "sync the directory of", source })?;
        let file = dir.join(FILE_NAME);
        guarded(|| {
            let storage = file.disk.open(&file.path).map_err(|error| in_file(error.into()))?;
            let database = database(Pages::open(storage).map_err(in_file)?, options, &file.path)?;
            let uuid = check_marks(&database.begin_read()?)?;
            Ok(Store { inner: Arc::new(Inner { database, uuid, file }) })
        })
    }

    /// Reads the store in `dir` as it lies there, if there is one; its file is not changed, whatever is written. While
    /// this store is kept no server can start there.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while a server has it, `NewerFormat`, `Corrupt`, `Io`.
    pub fn of_stopped(dir: impl Into<Place>, options: StoreOptions) -> Result<Option<Store>, StoreError> {
        let dir = dir.into();
        if !Self::exists(&dir)? {
            return Ok(None);
        }
        let file = dir.join(FILE_NAME);
        guarded(|| {
            let storage = file.disk.open_to_read(&file.path).map_err(|error| in_file(error.into()))?;
            let database = database(Unchanged::open(storage).map_err(in_file)?, options, &file.path)?;
            let uuid = check_marks(&database.begin_read()?)?;
            Ok(Some(Store { inner: Arc::new(Inner { database, uuid, file }) }))
        })
    }

    /// Whether there is a store in the directory `dir`.
    pub fn exists(dir: &Place) -> Result<bool, StoreError> {
        dir.join(FILE_NAME).exists().map_err(|source| StoreError::Io { action: "look for", source })
    }

    /// The identity that this store shares with its journal.
    pub fn uuid(&self) -> Uuid {
        self.inner.uuid
    }

    /// The LSN up to which all records are in the store; [`Lsn::ZERO`] in a new one.
    pub fn watermark(&self) -> Result<Lsn, StoreError> {
        self.read(|transaction| tables::read_mark(transaction, WATERMARK))
    }

    /// No row holds a record above this LSN. If the journal ends before it, the two do not belong together.
    pub fn highest_lsn(&self) -> Result<Lsn, StoreError> {
        self.read(|transaction| tables::read_mark(transaction, HIGHEST_LSN))
    }

    /// Which incarnation of the data folder this is.
    pub fn beginning(&self) -> Result<Beginning, StoreError> {
        self.read(|transaction| tables::read_mark(transaction, BEGINNING))
    }

    /// Notes, durably, that another incarnation begins.
    pub fn begin(&self, beginning: Beginning) -> Result<(), StoreError> {
        self.update(|transaction| tables::put_mark(&mut transaction.open_table(META)?, BEGINNING, &beginning))
    }

    /// The marks of all types, by name of the type.
    pub fn fingerprints(&self) -> Result<BTreeMap<String, TypeMark>, StoreError> {
        self.read(|transaction| tables::all_records(transaction, TYPES, "types"))
    }

    /// Replaces the marks of all types by `marks`, durably.
    pub fn set_fingerprints(&self, marks: &BTreeMap<String, TypeMark>) -> Result<(), StoreError> {
        self.update(|transaction| {
            transaction.open_table(TYPES)?.retain(|_, _| false)?;
            marks.iter().try_for_each(|(kind, mark)| tables::put_type(transaction, kind, mark))
        })
    }

    /// Bytes of the disk that the file takes, 0 if it cannot be told.
    pub fn file_bytes(&self) -> u64 {
        self.inner.file.disk.taken(&self.inner.file.path).unwrap_or(0)
    }

    /// Runs `look` on a snapshot of what is committed. Pages that it sees are not reused meanwhile, so keep it short.
    pub(super) fn read<T>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        guarded(|| look(&self.inner.database.begin_read()?))
    }

    /// Runs `change` in a transaction: durable if it succeeds, undone if not.
    pub(super) fn update(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        guarded(|| update(&self.inner.database, change))
    }
}

/// Blocks while another write transaction is open.
pub(super) fn update(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    change(&transaction)?;
    Ok(transaction.commit()?)
}

/// Refuses what a newer version made; returns the store's uuid.
fn check_marks(reading: &ReadTransaction) -> Result<Uuid, StoreError> {
    let format: u64 = tables::read_mark(reading, FORMAT)?;
    if format > FILE_FORMAT {
        return Err(StoreError::NewerFormat { what: "file", found: format, expected: FILE_FORMAT });
    }
    if format < FILE_FORMAT {
        return Err(StoreError::OlderFormat { found: format, expected: FILE_FORMAT });
    }
    Ok(Uuid::from_bytes(tables::read_mark(reading, UUID)?))
}

fn database(pages: impl StorageBackend, options: StoreOptions, path: &Path) -> Result<Database, StoreError> {
    let opened = Database::builder().set_cache_size(options.cache_bytes).create_with_backend(pages);
    opened.map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: path.to_path_buf() },
        other => other.into(),
    })
}

fn in_file(error: PagesError) -> StoreError {
    match error {
        PagesError::Newer { found } => {
            StoreError::NewerFormat { what: "file", found: found.into(), expected: pages::FORMAT.into() }
        }
        PagesError::Damaged(what) => StoreError::corrupt_file(what),
        PagesError::Io(source) => StoreError::Io { action: "open", source },
    }
}

/// Makes the store, unless another process was faster. The lock on the directory keeps two that start at once from
/// replacing each other's file; only one of them then gets the lock on the file itself.
fn create(dir: &Place, options: StoreOptions) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { action: "create", source };
    let Place { disk, path } = dir.join(FILE_NAME);
    let Some(_lock) = disk.lock(&dir.path).map_err(io)? else { return Err(StoreError::Locked { path }) };
    if disk.exists(&path).map_err(io)? {
        return Ok(());
    }
    let write = |database: &Database| update(database, write_first).map(ControlFlow::Continue);
    write_new(dir, options, write).map(drop)
}

/// Makes the file out of what `write` puts into it; it gets its name when that is whole, and not if `write` broke off.
pub(super) fn write_new(
    dir: &Place,
    options: StoreOptions,
    write: impl FnOnce(&Database) -> Result<ControlFlow<()>, StoreError>,
) -> Result<ControlFlow<()>, StoreError> {
    let io = |source| StoreError::Io { action: "create", source };
    let Place { disk, path } = dir.join(FILE_NAME);
    let unfinished = dir.path.join(UNFINISHED_NAME);
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let storage = disk.create(&unfinished).map_err(io)?;
    let database = database(Pages::create(storage).map_err(in_file)?, options, &path)?;
    let written = write(&database)?;
    drop(database);
    if written.is_continue() {
        disk.rename(&unfinished, &path).map_err(io)?;
    }
    Ok(written)
}

/// The tables and marks of an empty store.
fn write_first(transaction: &WriteTransaction) -> Result<(), StoreError> {
    tables::create_all(transaction)?;
    let mut meta = transaction.open_table(META)?;
    tables::put_mark(&mut meta, FORMAT, &FILE_FORMAT)?;
    tables::put_mark(&mut meta, UUID, Uuid::new_v4().as_bytes())?;
    tables::put_mark(&mut meta, BEGINNING, &Beginning::default())?;
    tables::put_mark(&mut meta, WATERMARK, &Lsn::ZERO)?;
    tables::put_mark(&mut meta, HIGHEST_LSN, &Lsn::ZERO)
}
