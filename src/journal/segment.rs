//! One file of the journal: a redb database with the blocks, keyed by their first LSN, and a few words about itself.
//!
//! Every transaction is durable, two-phase and with quick repair, the first included, so a crash at any point leaves a
//! file that opens at once. A file gets its final name only when its header is committed.

use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};
use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, WriteTransaction,
};
use uuid::Uuid;

use super::block::{Block, BlockError, BlockHeader};
use super::error::{JournalError, at, guarded, in_file};
use crate::disk::{Disk, Place};
use crate::model::codec::{self, CodecError};
use crate::model::ids::Lsn;
use crate::pages::{Pages, Unchanged};

/// Blocks by the LSN of their first record.
pub(super) const BLOCKS: TableDefinition<u64, &[u8]> = TableDefinition::new("blocks");
/// What the file says of itself: rows `header` and, once sealed, `seal`.
const ABOUT: TableDefinition<&str, &[u8]> = TableDefinition::new("segment");
const HEADER: &str = "header";
const SEAL: &str = "seal";
const FORMAT: u8 = 1;

/// For segments that are not appended to: their blocks are read once and in order, so little is worth keeping.
const SMALL_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Written when the file is made; where it belongs in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct SegmentHeader {
    uuid: [u8; 16],
    /// The N of `N.redb`, counted from 1.
    pub number: u64,
    /// Position of the first record it will hold.
    pub first_lsn: Lsn,
    /// Header CRC of the last block before it, 0 if there is none.
    pub chain: u32,
}

impl SegmentHeader {
    pub fn new(uuid: Uuid, number: u64, first_lsn: Lsn, chain: u32) -> Self {
        SegmentHeader { uuid: uuid.into_bytes(), number, first_lsn, chain }
    }

    pub fn uuid(&self) -> Uuid {
        Uuid::from_bytes(self.uuid)
    }
}

/// Written when the file is full; nothing is added after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Seal {
    /// Position of its last record.
    pub last_lsn: Lsn,
    /// Header CRC of its last block.
    pub chain: u32,
}

/// `N.redb` in the journal's folder.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number}.redb"))
}

/// Makes names in `dir` durable.
pub(super) fn sync_dir(dir: &Place) -> Result<(), JournalError> {
    dir.disk.sync_dir(&dir.path).map_err(at(&dir.path, "sync the folder"))
}

/// Makes the empty segment that `header` describes. It appears under its name whole or not at all.
pub(super) fn create(dir: &Place, header: &SegmentHeader) -> Result<(), JournalError> {
    let path = path(&dir.path, header.number);
    let (database, unfinished) = begin_copy(dir, header)?;
    drop(database);
    dir.disk.rename(&unfinished, &path).map_err(at(&path, "name"))?;
    sync_dir(dir)
}

/// Makes the empty segment that `header` describes, without its name; and how it is called meanwhile.
pub(super) fn begin_copy(dir: &Place, header: &SegmentHeader) -> Result<(Database, PathBuf), JournalError> {
    let unfinished = path(&dir.path, header.number).with_extension("redb.tmp");
    let storage = dir.disk.create(&unfinished).map_err(at(&unfinished, "create"))?;
    let pages = Pages::create(storage).map_err(in_file(&unfinished))?;
    let database = database(pages, &unfinished, SMALL_CACHE_BYTES)?;
    commit(&database, &unfinished, |transaction| {
        transaction.open_table(BLOCKS)?;
        transaction.open_table(ABOUT)?.insert(HEADER, with_crc(header).as_slice())?;
        Ok(())
    })?;
    Ok((database, unfinished))
}

/// Adds blocks in their stored form, each under the LSN of its first record.
pub(super) fn add_blocks(database: &Database, path: &Path, rows: Vec<(u64, Vec<u8>)>) -> Result<(), JournalError> {
    commit(database, path, |transaction| {
        let mut table = transaction.open_table(BLOCKS)?;
        for (key, bytes) in rows {
            table.insert(key, bytes.as_slice())?;
        }
        Ok(())
    })
}

/// Opens a segment for appending.
pub(super) fn open(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> Result<Database, JournalError> {
    let storage = disk.open(path).map_err(at(path, "open"))?;
    database(Pages::open(storage).map_err(in_file(path))?, path, cache_bytes)
}

/// Opens a segment that nobody appends to. Its file is not changed; any number of readers can have it open.
pub(super) fn open_read_only(disk: &dyn Disk, path: &Path) -> Result<Database, JournalError> {
    let storage = disk.open_to_read(path).map_err(at(path, "open"))?;
    database(Unchanged::open(storage).map_err(in_file(path))?, path, SMALL_CACHE_BYTES)
}

fn database(pages: impl StorageBackend, path: &Path, cache_bytes: usize) -> Result<Database, JournalError> {
    guarded(path, || {
        let opened = Builder::new().set_cache_size(cache_bytes).create_with_backend(pages);
        opened.map_err(at(path, "open"))
    })
}

/// Says that the segment is full.
pub(super) fn seal(database: &Database, path: &Path, seal: Seal) -> Result<(), JournalError> {
    commit(database, path, |transaction| {
        transaction.open_table(ABOUT)?.insert(SEAL, with_crc(&seal).as_slice())?;
        Ok(())
    })
}

/// Runs `change` in a transaction that is durable when this returns.
pub(super) fn commit(
    database: &Database,
    path: &Path,
    change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), JournalError> {
    let run = || -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        change(&transaction)?;
        Ok(transaction.commit()?)
    };
    guarded(path, || run().map_err(at(path, "write")))
}

/// What a segment says of itself.
pub(super) struct About {
    pub header: SegmentHeader,
    pub seal: Option<Seal>,
    /// Header of its last block, whose records are checked too.
    pub last_block: Option<BlockHeader>,
}

impl About {
    /// Reads `database`, whose file is `path`.
    pub fn read(database: &Database, path: &Path) -> Result<About, JournalError> {
        let (header, seal, last) = guarded(path, || Self::rows(database).map_err(at(path, "read")))?;
        let header = header.ok_or_else(|| JournalError::corrupt(path, "it has no header"))?;
        let last_block = last.map(|(key, value)| check_block(path, key, value)).transpose()?;
        Ok(About {
            header: without_crc(&header, path, HEADER)?,
            seal: seal.map(|seal| without_crc(&seal, path, SEAL)).transpose()?,
            last_block,
        })
    }

    #[expect(clippy::type_complexity, reason = "three optional rows, named where they are used")]
    fn rows(database: &Database) -> Result<(Option<Vec<u8>>, Option<Vec<u8>>, Option<(u64, Vec<u8>)>), redb::Error> {
        let transaction = database.begin_read()?;
        let about = transaction.open_table(ABOUT)?;
        let row = |name| Ok::<_, redb::Error>(about.get(name)?.map(|value| value.value().to_vec()));
        let blocks = transaction.open_table(BLOCKS)?;
        let last = blocks.last()?.map(|(key, value)| (key.value(), value.value().to_vec()));
        Ok((row(HEADER)?, row(SEAL)?, last))
    }

    /// Where the segment ends: its last record's position and the chain up to there.
    pub fn end(&self) -> Seal {
        match &self.last_block {
            Some(block) => Seal { last_lsn: block.last_lsn(), chain: block.crc },
            None => Seal { last_lsn: Lsn(self.header.first_lsn.0.saturating_sub(1)), chain: self.header.chain },
        }
    }
}

fn check_block(path: &Path, key: u64, value: Vec<u8>) -> Result<BlockHeader, JournalError> {
    let header = decode_header(path, Lsn(key), &value)?;
    Block::decode(&header, value).map_err(|error| block_error(path, Lsn(key), &error))?;
    Ok(header)
}

/// Reads and checks the header of the block stored under `key` in `path`.
pub(super) fn decode_header(path: &Path, key: Lsn, value: &[u8]) -> Result<BlockHeader, JournalError> {
    let header = BlockHeader::decode(value).map_err(|error| block_error(path, key, &error))?;
    if header.first_lsn != key {
        let what = format!("the block of LSN {key} says it starts at {}", header.first_lsn);
        return Err(JournalError::corrupt(path, what));
    }
    Ok(header)
}

/// Says which block of which file is wrong.
pub(super) fn block_error(path: &Path, key: Lsn, error: &BlockError) -> JournalError {
    match error {
        BlockError::Format(found) if *found > FORMAT => {
            JournalError::NewerFormat { file: path.to_path_buf(), found: (*found).into() }
        }
        error => JournalError::corrupt(path, format!("the block that starts at LSN {key} cannot be read: {error}")),
    }
}

/// Format byte, structure, and a CRC-32C over both.
fn with_crc<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = codec::encode(FORMAT, value);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn without_crc<T: Decode<()>>(bytes: &[u8], path: &Path, row: &str) -> Result<T, JournalError> {
    match bytes.first() {
        Some(&found) if found > FORMAT => {
            return Err(JournalError::NewerFormat { file: path.to_path_buf(), found: found.into() });
        }
        _ => {}
    }
    let wrong = |what: &str| JournalError::corrupt(path, format!("its {row} cannot be read: {what}"));
    let (value, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| wrong("it is too short"))?;
    if crc32c::crc32c(value) != u32::from_le_bytes(*crc) {
        return Err(wrong("its checksum is wrong"));
    }
    codec::decode(FORMAT, value).map_err(|error: CodecError| wrong(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn header() -> SegmentHeader {
        SegmentHeader::new(Uuid::from_bytes([7; 16]), 3, Lsn(300), 0x0102_0304)
    }

    /// The stored forms are a promise to every journal on disk.
    #[test]
    fn stored_forms_are_frozen() {
        let mut golden = vec![1];
        golden.extend([7; 16]);
        golden.extend([3, 251, 44, 1, 252, 4, 3, 2, 1, 170, 54, 83, 155]);
        assert_eq!(with_crc(&header()), golden);
        assert_eq!(with_crc(&Seal { last_lsn: Lsn(9), chain: 5 }), [1, 9, 5, 215, 126, 98, 126]);
    }

    #[test]
    fn damage_and_newer_formats_are_told_apart() {
        let path = Path::new("3.redb");
        let good = with_crc(&header());
        assert_eq!(without_crc::<SegmentHeader>(&good, path, HEADER).unwrap(), header());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            let error = without_crc::<SegmentHeader>(&bad, path, HEADER).unwrap_err();
            match at {
                0 => assert!(matches!(error, JournalError::NewerFormat { found: 5, .. })),
                _ => assert!(matches!(error, JournalError::Corrupt { .. }), "byte {at}: {error}"),
            }
        }
        assert!(without_crc::<SegmentHeader>(&[], path, HEADER).is_err());
    }

    /// A file of another kind, or an empty one, is damage and says so; it is never taken for a fresh segment.
    #[test]
    fn foreign_files_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        for content in [Vec::new(), b"hello".to_vec(), vec![0; 100_000]] {
            let path = path(folder.path(), 1);
            std::fs::write(&path, &content).unwrap();
            for error in [open(&RealDisk, &path, 0).err(), open_read_only(&RealDisk, &path).err()] {
                let error = error.unwrap();
                assert!(matches!(error, JournalError::Corrupt { .. }), "{} bytes: {error:?}", content.len());
            }
        }
    }
}
