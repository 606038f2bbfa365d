//! Verified pages against what happens to files: redb on top, and beneath it a file in which anything may change.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use redb::backends::FileBackend;
use redb::{Builder, Database, Durability, ReadableDatabase, StorageBackend, TableDefinition};

use super::layout::{self, CRC_BYTES, PAGE_BYTES, SECTOR_BYTES};
use super::*;

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("values");

fn create(path: &Path) -> Result<Pages<FileBackend>, PagesError> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    Pages::create(FileBackend::new(file).unwrap())
}

fn open(path: &Path) -> Result<Pages<FileBackend>, PagesError> {
    Pages::open(FileBackend::new(File::options().read(true).write(true).open(path)?).unwrap())
}

fn open_unchanged(path: &Path) -> Result<Unchanged<FileBackend>, PagesError> {
    Unchanged::open(FileBackend::new(File::open(path)?).unwrap())
}

fn database(pages: impl StorageBackend) -> Result<Database, redb::Error> {
    Ok(Builder::new().set_cache_size(0).create_with_backend(pages)?)
}

fn value(key: u64, bytes: usize) -> Vec<u8> {
    vec![key as u8 ^ 0x5a; bytes]
}

fn write(database: &Database, keys: std::ops::Range<u64>, bytes: usize) {
    let mut transaction = database.begin_write().unwrap();
    transaction.set_durability(Durability::Immediate).unwrap();
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    let mut table = transaction.open_table(TABLE).unwrap();
    keys.for_each(|key| drop(table.insert(key, value(key, bytes).as_slice()).unwrap()));
    drop(table);
    transaction.commit().unwrap();
}

/// Whether each key has its value, read with `get`.
fn all_there(database: &Database, keys: u64, bytes: usize) -> Result<bool, redb::Error> {
    let table = database.begin_read()?.open_table(TABLE)?;
    for key in 0..keys {
        if table.get(key)?.is_none_or(|found| found.value() != value(key, bytes)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A file with two commits of `keys` values of `bytes` bytes, closed.
fn scratch(keys: u64, bytes: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let database = database(create(&path).unwrap()).unwrap();
    write(&database, 0..keys / 2, bytes);
    write(&database, keys / 2..keys, bytes);
    drop(database);
    (folder, path)
}

/// The stored form is a promise to every file on disk.
#[test]
fn the_stored_form_is_frozen() {
    let sector = layout::first_sector(&[7; 16]);
    let mut golden = b"turnstile pages\n\x01\0\0\0".to_vec();
    golden.extend([7; 16]);
    golden.resize(SECTOR_BYTES - 4, 0);
    golden.extend([0x4f, 0xc0, 0xc4, 0xec]);
    assert_eq!(sector[..], golden);
    assert_eq!(layout::page_crc(layout::seed(&[7; 16]), 3, &[1; PAGE_BYTES as usize]), 0x3a25_be7f);
    assert_eq!(layout::run(1, 5), layout::Run { first: 1, count: 5, pages_at: 8192, crcs_at: 4096 });
    let next_group = layout::Run { first: 1025, count: 1, pages_at: 1027 * 4096, crcs_at: 1026 * 4096 };
    assert_eq!(layout::run(1025, 1), next_group);
}

proptest! {
    /// Two pages in one place would overwrite each other; a length that does not come back would lose or invent pages.
    #[test]
    fn every_page_has_its_own_place(first in 1u64..5000, count in 1usize..3000) {
        let (mut next, mut left) = (first, count);
        let mut before: Option<layout::Run> = None;
        while left > 0 {
            let run = layout::run(next, left);
            prop_assert!(run.count > 0 && run.count <= left && run.first == next);
            let pages_end = run.pages_at + run.count as u64 * PAGE_BYTES;
            prop_assert!(run.crcs_at + run.count as u64 * CRC_BYTES <= run.pages_at);
            prop_assert!(before.is_none_or(|run_before| run_before.pages_at + run_before.count as u64 * PAGE_BYTES <= run.crcs_at));
            prop_assert_eq!(layout::file_bytes((run.first + run.count as u64) * PAGE_BYTES), pages_end);
            prop_assert_eq!(layout::redb_bytes(pages_end), (run.first + run.count as u64) * PAGE_BYTES);
            // What a power cut leaves of a file that was growing counts by its whole pages.
            prop_assert_eq!(layout::redb_bytes(pages_end + PAGE_BYTES - 1), (run.first + run.count as u64) * PAGE_BYTES);
            next += run.count as u64;
            left -= run.count;
            before = Some(run);
        }
    }
}

/// Beyond one group of pages, and with values that take many of them, what was written is read.
#[test]
fn what_is_written_is_read() {
    let (_folder, path) = scratch(40, 261_900);
    assert!(fs::metadata(&path).unwrap().len() > 1100 * PAGE_BYTES, "there is more than one group");
    for _ in 0..2 {
        let database = database(open(&path).unwrap()).unwrap();
        assert!(all_there(&database, 40, 261_900).unwrap());
    }
    assert!(all_there(&database(open_unchanged(&path).unwrap()).unwrap(), 40, 261_900).unwrap());
}

fn look(path: &Path, keys: u64, bytes: usize) -> Result<bool, String> {
    let pages = open(path).map_err(|error| error.to_string())?;
    let database = database(pages).map_err(|error| error.to_string())?;
    all_there(&database, keys, bytes).map_err(|error| error.to_string())
}

/// A flipped bit in the first two sectors decides which commit there is; none may pass.
#[test]
fn every_flip_of_a_header_is_found() {
    let (_folder, path) = scratch(4, 100);
    let sound = fs::read(&path).unwrap();
    for at in 0..2 * SECTOR_BYTES {
        let mut damaged = sound.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, damaged).unwrap();
        let found = look(&path, 4, 100);
        assert!(found.is_err(), "byte {at}: {found:?}");
    }
}

/// Pages that changed places within a file or between files are each sound by themselves.
#[test]
fn a_page_of_another_place_is_found() {
    let ((_folder, path), (_other_folder, other)) = (scratch(600, 100), scratch(600, 100));
    let (sound, other) = (fs::read(&path).unwrap(), fs::read(&other).unwrap());
    let page = PAGE_BYTES as usize;
    // The pages redb can have used: those that have a checksum.
    let used = (1..).take_while(|number| layout::run(*number, 1).pages_at + PAGE_BYTES <= sound.len() as u64);
    let used: Vec<u64> = used.filter(|n| sound[layout::run(*n, 1).crcs_at as usize..][..4] != [0; 4]).collect();
    let mut found = [0, 0];
    for pair in used.windows(2) {
        let (from, to) = (layout::run(pair[0], 1), layout::run(pair[1], 1));
        for (which, source, from) in [(0, &sound, from), (1, &other, to)] {
            let mut damaged = sound.clone();
            damaged[to.pages_at as usize..][..page].copy_from_slice(&source[from.pages_at as usize..][..page]);
            damaged[to.crcs_at as usize..][..4].copy_from_slice(&source[from.crcs_at as usize..][..4]);
            fs::write(&path, damaged).unwrap();
            match look(&path, 600, 100) {
                Ok(all_right) => assert!(all_right, "page {} was believed", pair[1]),
                Err(_) => found[which] += 1,
            }
        }
    }
    assert!(found.iter().all(|found| *found > 5), "pages that are read are among them: {found:?}");
}

#[test]
fn what_is_no_such_file_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for bytes in [Vec::new(), b"text".repeat(10_000), layout::first_sector(&[0; 16]).to_vec(), vec![0; 100_000]] {
        fs::write(&path, &bytes).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, PagesError::Damaged(_)), "{} bytes: {error:?}", bytes.len());
    }
    let (_folder, path) = scratch(1, 1);
    let mut newer = fs::read(&path).unwrap();
    newer[16] = 2;
    fs::write(&path, &newer).unwrap();
    assert!(matches!(open(&path), Err(PagesError::Damaged(_))), "a flipped bit is no newer format");
    let crc = crc32c::crc32c(&newer[..SECTOR_BYTES - 4]);
    newer[SECTOR_BYTES - 4..SECTOR_BYTES].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, newer).unwrap();
    assert!(matches!(open(&path), Err(PagesError::Newer { found: 2 })));
    assert!(create(&path).is_err(), "a file that exists is not begun anew");
}

/// A sealed segment that changed under its readers would be no sealed segment; one reader must not keep out another.
#[test]
fn what_is_opened_unchanged_stays_so() {
    let (_folder, path) = scratch(100, 100);
    // Also one that its process did not close.
    let writing = database(open(&path).unwrap()).unwrap();
    write(&writing, 0..100, 100);
    let left = fs::read(&path).unwrap();
    assert!(database(open_unchanged(&path).unwrap()).is_err(), "who writes has it alone");
    drop(writing);
    for bytes in [fs::read(&path).unwrap(), left] {
        fs::write(&path, &bytes).unwrap();
        let readers = [(); 2].map(|()| database(open_unchanged(&path).unwrap()).unwrap());
        assert!(readers.iter().all(|reader| all_there(reader, 100, 100).unwrap()));
        assert!(database(open(&path).unwrap()).is_err(), "nobody writes while it is read");
        drop(readers);
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}
