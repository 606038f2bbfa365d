//! The journal as a whole, in real files: rolling over, reading along, trimming, noticing damage. Also what the tests of
//! the folder's files share.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use redb::ReadableDatabase;
use uuid::Uuid;

use super::segment::BLOCKS;
use super::{Block, BlockBuilder, Blocks, Journal, JournalError, JournalOptions};
use crate::model::ids::Lsn;

pub(super) const UUID: Uuid = Uuid::from_bytes([5; 16]);

/// Segments so small that each append after the first one rolls over.
pub(super) const ONE_APPEND_A_SEGMENT: u64 = 1;
pub(super) const LARGE: u64 = 1 << 30;

pub(super) fn try_open(data_dir: &Path, segment_bytes: u64) -> Result<Journal, JournalError> {
    let options = JournalOptions { segment_bytes, commit_bytes_max: 1_048_000, cache_bytes: 1 << 20 };
    Journal::open(data_dir, UUID, options)
}

pub(super) fn open(data_dir: &Path, segment_bytes: u64) -> Journal {
    try_open(data_dir, segment_bytes).unwrap()
}

/// What record `lsn` holds in these tests.
pub(super) fn record(lsn: u64) -> Vec<u8> {
    format!("<record {lsn}>").into_bytes()
}

/// Appends blocks of so many records; those of odd length hold decisions.
pub(super) fn append(journal: &mut Journal, counts: &[u64]) {
    let mut next = journal.last_lsn().next().0;
    let first = Lsn(next);
    let mut blocks = Vec::new();
    for count in counts {
        let mut block = BlockBuilder::with_capacity(0);
        for lsn in next..next + count {
            block.push(&record(lsn), count % 2 == 1);
        }
        next += count;
        blocks.push(block);
    }
    assert_eq!(journal.append(&mut blocks).unwrap(), (first, Lsn(next - 1)));
}

/// The positions in `blocks`, each record's content checked.
pub(super) fn lsns(blocks: Blocks) -> Result<Vec<u64>, JournalError> {
    let mut all = Vec::new();
    for block in blocks {
        check_content(&block?, &mut all);
    }
    Ok(all)
}

fn check_content(block: &Block, all: &mut Vec<u64>) {
    for (lsn, bytes) in block.records() {
        assert_eq!(bytes, record(lsn.0));
        all.push(lsn.0);
    }
    assert_eq!(block.last_lsn().0, *all.last().unwrap());
}

pub(super) fn all(journal: &Journal) -> Vec<u64> {
    lsns(journal.reader().read_from(journal.first_lsn()).unwrap()).unwrap()
}

pub(super) fn segment_path(data_dir: &Path, number: u64) -> PathBuf {
    data_dir.join("journal").join(format!("{number}.redb"))
}

/// The files' numbers, and whether there is an unfinished one.
pub(super) fn files(data_dir: &Path) -> (Vec<u64>, bool) {
    let names = fs::read_dir(data_dir.join("journal")).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    let mut numbers: Vec<_> =
        names.iter().filter_map(|name| name.strip_suffix(".redb")).map(|stem| stem.parse().unwrap()).collect();
    numbers.sort_unstable();
    (numbers, names.iter().any(|name| name.contains(".tmp")))
}

/// The journal's files as a process killed now would leave them.
pub(super) fn crash_copy(data_dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("journal")).unwrap();
    for entry in fs::read_dir(data_dir.join("journal")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join("journal").join(entry.file_name())).unwrap();
    }
    copy
}

/// Changes the bytes of the block at `lsn` behind the journal's back; none back means to remove it.
pub(super) fn tamper(data_dir: &Path, number: u64, lsn: u64, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
    let database = super::segment::open(&crate::disk::RealDisk, &segment_path(data_dir, number), 0).unwrap();
    let transaction = database.begin_read().unwrap();
    let value = transaction.open_table(BLOCKS).unwrap().get(lsn).unwrap().unwrap().value().to_vec();
    drop(transaction);
    super::segment::commit(&database, data_dir, |transaction| {
        let mut table = transaction.open_table(BLOCKS)?;
        match change(value) {
            Some(value) => table.insert(lsn, value.as_slice())?,
            None => table.remove(lsn)?,
        };
        Ok(())
    })
    .unwrap();
}

#[test]
fn records_come_back_in_order_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Journal::exists(folder.path()).unwrap(), None);
    let mut journal = open(folder.path(), LARGE);
    assert_eq!((journal.first_lsn(), journal.last_lsn()), (Lsn(1), Lsn(0)));
    assert!(all(&journal).is_empty());
    append(&mut journal, &[1, 2, 3]);
    append(&mut journal, &[4]);
    assert_eq!(all(&journal), (1..=10).collect::<Vec<_>>());
    drop(journal);
    assert_eq!(Journal::exists(folder.path()).unwrap(), Some(UUID));
    let mut journal = open(folder.path(), LARGE);
    append(&mut journal, &[2]);
    assert_eq!(all(&journal), (1..=12).collect::<Vec<_>>());
    assert!(journal.bytes() > 0);
    assert_eq!(files(folder.path()).0, [1]);
}

/// What was appended before a kill is there after it, also when files were being used.
#[test]
fn a_kill_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path(), ONE_APPEND_A_SEGMENT);
    for expected in 1..=4 {
        append(&mut journal, &[1]);
        let copy = crash_copy(folder.path());
        assert_eq!(Journal::exists(copy.path()).unwrap(), Some(UUID));
        assert_eq!(all(&open(copy.path(), LARGE)), (1..=expected).collect::<Vec<_>>());
    }
}

#[test]
fn reading_starts_within_blocks_and_crosses_segments() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path(), ONE_APPEND_A_SEGMENT);
    for _ in 0..8 {
        append(&mut journal, &[2, 3]);
    }
    assert_eq!(files(folder.path()).0, (1..=8).collect::<Vec<_>>());
    let reader = journal.reader();
    for from in 0..=41 {
        let block_start = match from.max(1) {
            41 => 41,
            from => (from - 1) / 5 * 5 + if (from - 1) % 5 < 2 { 1 } else { 3 },
        };
        let read = lsns(reader.read_from(Lsn(from)).unwrap()).unwrap();
        assert_eq!(read, (block_start..=40).collect::<Vec<_>>(), "from {from}");
        // Of each five records the last three are in a block with decisions.
        let read = lsns(reader.read_decisions_from(Lsn(from)).unwrap()).unwrap();
        let expected: Vec<_> = (block_start..=40).filter(|lsn| (lsn - 1) % 5 >= 2).collect();
        assert_eq!(read, expected, "decisions from {from}");
    }
}

#[test]
fn large_records_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path(), LARGE);
    let large = vec![7; 16 << 20];
    let mut block = BlockBuilder::with_capacity(large.len());
    block.push(&large, false);
    journal.append(&mut [block]).unwrap();
    let block = journal.reader().read_from(Lsn(1)).unwrap().next().unwrap().unwrap();
    assert!(block.records().eq([(Lsn(1), &large[..])]));
}

/// One iterator follows the end, from another thread, over segments that did not exist when it was made.
#[test]
fn a_reader_follows_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path(), ONE_APPEND_A_SEGMENT);
    let mut blocks = journal.reader().read_from(Lsn(1)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let mut read = Vec::new();
            loop {
                let last_look = done.load(Ordering::Acquire);
                match blocks.next() {
                    Some(block) => check_content(&block.unwrap(), &mut read),
                    None if last_look => return read,
                    None => std::thread::yield_now(),
                }
            }
        });
        for _ in 0..12 {
            append(&mut journal, &[1, 2]);
        }
        done.store(true, Ordering::Release);
        assert_eq!(follower.join().unwrap(), (1..=36).collect::<Vec<_>>());
    });
}

#[test]
fn trimming_deletes_whole_segments_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path(), ONE_APPEND_A_SEGMENT);
    for _ in 0..4 {
        append(&mut journal, &[10]);
    }
    let mut lagging = journal.reader().read_from(Lsn(1)).unwrap();
    assert_eq!(lagging.next().unwrap().unwrap().last_lsn(), Lsn(10));
    let mut check = |keep_from, deleted, left: &[u64], first| {
        assert_eq!(journal.trim(Lsn(keep_from)).unwrap(), deleted);
        assert_eq!(files(folder.path()).0, left);
        assert_eq!(journal.first_lsn(), Lsn(first));
        assert_eq!(lsns(journal.reader().read_from(Lsn(first)).unwrap()).unwrap(), (first..=40).collect::<Vec<_>>());
    };
    check(10, 0, &[1, 2, 3, 4], 1);
    check(11, 1, &[2, 3, 4], 11);
    check(30, 1, &[3, 4], 21);
    // The active segment stays, whatever is asked.
    check(1000, 1, &[4], 31);
    let trimmed = journal.reader().read_from(Lsn(30)).unwrap_err();
    assert!(matches!(trimmed, JournalError::Trimmed { from: Lsn(30), first: Lsn(31) }));
    assert!(matches!(lagging.next(), Some(Err(JournalError::Trimmed { from: Lsn(11), .. }))));
    assert!(lagging.next().is_none(), "nothing comes after an error");
    drop((journal, lagging));
    let mut journal = open(folder.path(), LARGE);
    append(&mut journal, &[1]);
    assert_eq!(all(&journal), (31..=41).collect::<Vec<_>>());
}

/// A valid block of one record, but not the one that was there.
fn other(chain: u32) -> impl FnOnce(Vec<u8>) -> Option<Vec<u8>> {
    move |_| {
        let mut block = BlockBuilder::with_capacity(0);
        block.push(&record(1), false);
        Some(block.finish(Lsn(1), chain).0.to_vec())
    }
}

/// Each kind of damage must halt the reader with the file's name, wherever it starts.
#[test]
fn damage_is_noticed() {
    fn check(number: u64, lsn: u64, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path(), ONE_APPEND_A_SEGMENT);
        append(&mut journal, &[1, 2, 1]);
        append(&mut journal, &[1, 2, 1]);
        drop(journal);
        tamper(folder.path(), number, lsn, change);
        let journal = open(folder.path(), LARGE);
        let error = lsns(journal.reader().read_from(Lsn(1)).unwrap()).unwrap_err();
        assert!(matches!(&error, JournalError::Corrupt { file, .. } if *file == segment_path(folder.path(), number)));
        assert!(error.to_string().contains(expected), "{error}");
    }
    let flip = |at: usize| {
        move |mut value: Vec<u8>| {
            value[at] ^= 1;
            Some(value)
        }
    };
    check(1, 2, flip(30), "LSN 2 cannot be read: its records' checksum");
    check(1, 2, flip(9), "LSN 2 cannot be read: its header's checksum");
    check(2, 6, flip(40), "LSN 6 cannot be read: its records' checksum");
    check(1, 2, |_| None, "the block of LSN 2 is missing");
    check(1, 1, other(9), "LSN 1 does not continue");
    check(1, 1, |value| other(0)(value).map(|mut value| value.split_off(1)), "LSN 1 cannot be read");
    check(1, 2, other(0), "the block of LSN 2 says it starts at 1");
}

/// A bit that turns on the disk, in the record's own bytes.
#[test]
fn a_bit_flipped_in_the_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path(), LARGE);
    append(&mut journal, &[1]);
    append(&mut journal, &[1]);
    drop(journal);
    let path = segment_path(folder.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let needle = record(1);
    let hits: Vec<_> = (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(&needle)).collect();
    assert!(!hits.is_empty());
    for at in hits {
        bytes[at + 2] ^= 0x10;
    }
    fs::write(&path, bytes).unwrap();
    let read = try_open(folder.path(), LARGE).and_then(|journal| lsns(journal.reader().read_from(Lsn(1))?));
    let error = read.unwrap_err().to_string();
    assert!(error.contains("1.redb is damaged: the page at byte"), "{error}");
}
