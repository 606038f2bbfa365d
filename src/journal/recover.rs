//! Start: what is in the journal's folder becomes a set of segments that fit together, or the start is refused.
//!
//! A crash can leave three things, all mended here: a `.tmp` file (deleted), an unsealed segment before an empty one
//! (sealed), and files that were not closed (redb recovers them). Anything else is loss or damage and halts.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::error::{JournalError, at};
use super::log::JournalOptions;
use super::segment::{self, About, Seal, SegmentHeader};
use super::segments::{Active, Sealed};
use crate::disk::{Lock, Place};
use crate::model::ids::Lsn;

/// Folder of the segments, in the data folder.
const FOLDER: &str = "journal";
/// Locked while a process appends; empty.
const LOCK: &str = "lock";

/// The journal as it was found.
pub(super) struct Recovered {
    pub dir: Place,
    pub lock: Box<dyn Lock>,
    pub sealed: VecDeque<Sealed>,
    pub active: Active,
    /// Where the active segment ends.
    pub end: Seal,
}

/// The uuid of the journal in `data_dir`, if there is one.
pub(super) fn uuid(data_dir: &Place) -> Result<Option<Uuid>, JournalError> {
    let dir = data_dir.join(FOLDER);
    let numbers = if dir.exists().map_err(at(&dir.path, "look for"))? { list(&dir)?.numbers } else { Vec::new() };
    let Some(oldest) = numbers.first() else { return Ok(None) };
    let path = segment::path(&dir.path, *oldest);
    let about = About::read(&segment::open_read_only(&*dir.disk, &path)?, &path)?;
    Ok(Some(about.header.uuid()))
}

/// Opens the journal in `data_dir`, or makes it there.
pub(super) fn recover(data_dir: &Place, uuid: Uuid, options: &JournalOptions) -> Result<Recovered, JournalError> {
    let dir = data_dir.join(FOLDER);
    dir.create_dirs().map_err(at(&dir.path, "create"))?;
    let lock = lock(&dir)?;
    let Listing { unfinished, mut numbers } = list(&dir)?;
    for path in unfinished {
        dir.disk.remove(&path).map_err(at(&path, "delete"))?;
    }
    // A process that was killed may have named or deleted files and not come to this; what is done next relies on it.
    segment::sync_dir(&dir)?;
    if numbers.is_empty() {
        segment::create(&dir, &SegmentHeader::new(uuid, 1, Lsn::FIRST, 0))?;
        numbers.push(1);
    }
    let mut neighbours = numbers.iter().zip(numbers.iter().skip(1));
    if let Some((before, after)) = neighbours.find(|(before, after)| *before + 1 != **after) {
        let what = format!("there are {before}.redb and {after}.redb, but not what belongs between them");
        return Err(JournalError::Gap { dir: dir.path, what });
    }
    let (active, end) = open_active(&dir, *numbers.last().unwrap_or(&1), uuid, options)?;
    numbers.pop();
    let sealed = check_sealed(&dir, &numbers, uuid, &active, end)?;
    Ok(Recovered { dir, lock, sealed, active, end })
}

/// Keeps other processes out, also in the moments of a rollover when no segment is open for writing.
fn lock(dir: &Place) -> Result<Box<dyn Lock>, JournalError> {
    let Place { disk, path } = dir.join(LOCK);
    let locked = disk.lock(&path).map_err(at(&path, "lock"))?;
    locked.ok_or_else(|| JournalError::Locked { path: dir.path.clone() })
}

struct Listing {
    /// Segments that a crash kept from getting their name.
    unfinished: Vec<PathBuf>,
    /// Numbers of the segments, ascending.
    numbers: Vec<u64>,
}

fn list(dir: &Place) -> Result<Listing, JournalError> {
    let mut listing = Listing { unfinished: Vec::new(), numbers: Vec::new() };
    for name in dir.disk.names(&dir.path).map_err(at(&dir.path, "list"))? {
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(".redb.tmp") {
            listing.unfinished.push(dir.path.join(name));
        } else if let Some(number) = name.strip_suffix(".redb").and_then(|stem| stem.parse().ok()) {
            // Another spelling of a number (`01`) or one without a successor was not made here.
            if name == format!("{number}.redb") && number < u64::MAX {
                listing.numbers.push(number);
            }
        }
    }
    listing.numbers.sort_unstable();
    Ok(listing)
}

fn open_active(dir: &Place, number: u64, uuid: Uuid, options: &JournalOptions) -> Result<(Active, Seal), JournalError> {
    let path = segment::path(&dir.path, number);
    let database = segment::open(&*dir.disk, &path, options.cache_bytes)?;
    let about = About::read(&database, &path)?;
    check_header(&about.header, number, uuid, &path)?;
    if about.seal.is_some() {
        let what = format!("{number}.redb is sealed, so {}.redb must exist", number + 1);
        return Err(JournalError::Gap { dir: dir.path.clone(), what });
    }
    let end = about.end();
    Ok((Active { header: about.header, database: Arc::new(database) }, end))
}

/// Checks the segments before the active one from the newest back: each must end where the one after it starts.
fn check_sealed(
    dir: &Place,
    numbers: &[u64],
    uuid: Uuid,
    active: &Active,
    end: Seal,
) -> Result<VecDeque<Sealed>, JournalError> {
    let active_is_empty = end.last_lsn < active.header.first_lsn;
    let mut sealed = VecDeque::new();
    let mut after = &active.header;
    for &number in numbers.iter().rev() {
        let path = segment::path(&dir.path, number);
        if sealed.is_empty() {
            // The seal may be all that a killed process wrote of it: not durable yet, though it can be read.
            dir.disk.sync(&path).map_err(at(&path, "sync"))?;
        }
        let about = About::read(&segment::open_read_only(&*dir.disk, &path)?, &path)?;
        check_header(&about.header, number, uuid, &path)?;
        let end = about.end();
        let next = after.number;
        if end.last_lsn.next() != after.first_lsn || about.last_block.is_none() {
            let what = format!("it ends at LSN {}, but {next}.redb starts at {}", end.last_lsn, after.first_lsn);
            return Err(JournalError::corrupt(&path, what));
        }
        if end.chain != after.chain {
            let what = format!("its last block is not the one {next}.redb continues");
            return Err(JournalError::corrupt(&path, what));
        }
        match about.seal {
            Some(seal) if seal == end => {}
            Some(_) => return Err(JournalError::corrupt(&path, "its seal does not fit its last block")),
            // The crash came between the naming of the new segment and the sealing of this one.
            None if sealed.is_empty() && active_is_empty => {
                segment::seal(&segment::open(&*dir.disk, &path, 0)?, &path, end)?;
            }
            None => return Err(JournalError::corrupt(&path, "it is not sealed, but there are blocks after it")),
        }
        sealed.push_front(Sealed { header: about.header, last_lsn: end.last_lsn });
        after = &sealed[0].header;
    }
    Ok(sealed)
}

fn check_header(header: &SegmentHeader, number: u64, uuid: Uuid, path: &Path) -> Result<(), JournalError> {
    if header.uuid() != uuid {
        return Err(JournalError::WrongUuid { file: path.to_path_buf(), found: header.uuid(), expected: uuid });
    }
    if header.number != number || header.first_lsn < Lsn::FIRST {
        return Err(JournalError::corrupt(path, format!("it was made as {}.redb", header.number)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Journal;
    use std::fs::{self, File};

    use super::super::tests::*;
    use super::*;
    use crate::disk::RealDisk;

    /// A journal of `segments` segments with 10 records each, closed.
    fn journal_of(segments: u64) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path(), ONE_APPEND_A_SEGMENT);
        for _ in 0..segments {
            append(&mut journal, &[4, 6]);
        }
        folder
    }

    /// Makes the empty segment that would follow, as a rollover's first step does.
    fn make_next(data_dir: &Path, number: u64, end: Seal) {
        let header = SegmentHeader::new(UUID, number, end.last_lsn.next(), end.chain);
        segment::create(&Place::from(&data_dir.join(FOLDER)), &header).unwrap();
    }

    fn about(data_dir: &Path, number: u64) -> About {
        let path = segment_path(data_dir, number);
        About::read(&segment::open_read_only(&RealDisk, &path).unwrap(), &path).unwrap()
    }

    /// Whatever step of a rollover the crash came after, nothing is lost and appending goes on.
    #[test]
    fn a_crash_within_a_rollover_is_mended() {
        fn check(crash: impl FnOnce(&Path, Seal), left: &[u64]) {
            let folder = journal_of(2);
            let end = about(folder.path(), 2).end();
            crash(folder.path(), end);
            let mut journal = open(folder.path(), 1 << 30);
            assert_eq!(files(folder.path()), (left.to_vec(), false));
            append(&mut journal, &[10]);
            let read = lsns(journal.reader().read_from(Lsn(1)).unwrap()).unwrap();
            assert_eq!(read, (1..=30).collect::<Vec<_>>());
            drop(journal);
            for number in 1..left.len() as u64 {
                assert!(about(folder.path(), number).seal.is_some(), "{number}.redb is sealed");
            }
        }
        let seal = |data_dir: &Path, number, end| {
            let path = segment_path(data_dir, number);
            segment::seal(&segment::open(&RealDisk, &path, 0).unwrap(), &path, end).unwrap();
        };
        check(|_, _| {}, &[1, 2]);
        check(|data_dir, _| fs::write(data_dir.join(FOLDER).join("3.redb.tmp"), b"half").unwrap(), &[1, 2]);
        check(|data_dir, end| make_next(data_dir, 3, end), &[1, 2, 3]);
        check(
            |data_dir, end| {
                make_next(data_dir, 3, end);
                seal(data_dir, 2, end);
            },
            &[1, 2, 3],
        );
    }

    /// A crash while the very first segment was made leaves nothing that counts.
    #[test]
    fn a_crash_at_the_beginning_is_a_beginning() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(FOLDER)).unwrap();
        fs::write(folder.path().join(FOLDER).join("1.redb.tmp"), b"").unwrap();
        assert_eq!(Journal::exists(folder.path()).unwrap(), None);
        open(folder.path(), 1);
        assert_eq!(files(folder.path()), (vec![1], false));
    }

    /// What no crash can leave is loss or damage; going on would hide it.
    #[test]
    fn loss_and_damage_halt() {
        fn check(damage: impl FnOnce(&Path), expected: &str) {
            let folder = journal_of(3);
            damage(folder.path());
            let error = try_open(folder.path(), 1).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "expected {expected:?}, got {error:?}");
        }
        let delete = |number| move |data_dir: &Path| fs::remove_file(segment_path(data_dir, number)).unwrap();
        let rename = |from, to| {
            move |data_dir: &Path| fs::rename(segment_path(data_dir, from), segment_path(data_dir, to)).unwrap()
        };
        check(delete(2), "there are 1.redb and 3.redb, but not what belongs between them");
        check(delete(3), "2.redb is sealed, so 3.redb must exist");
        check(rename(3, 4), "2.redb and 4.redb, but not");
        check(
            |data_dir| {
                delete(3)(data_dir);
                rename(1, 3)(data_dir);
                rename(2, 1)(data_dir);
                rename(3, 2)(data_dir);
            },
            "2.redb is damaged: it was made as 1.redb",
        );
        check(|data_dir| fs::write(segment_path(data_dir, 1), b"").unwrap(), "1.redb is damaged");
        let truncate = |number| {
            move |data_dir: &Path| {
                let file = File::options().write(true).open(segment_path(data_dir, number)).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            }
        };
        check(truncate(1), "1.redb is damaged");
        check(truncate(3), "3.redb is damaged");
        // Another journal's third segment, which starts elsewhere.
        check(
            |data_dir| {
                delete(3)(data_dir);
                make_next(data_dir, 3, Seal { last_lsn: Lsn(19), chain: about(data_dir, 2).end().chain });
            },
            "2.redb is damaged: it ends at LSN 20, but 3.redb starts at 20",
        );
        check(
            |data_dir| {
                delete(3)(data_dir);
                make_next(data_dir, 3, Seal { last_lsn: Lsn(20), chain: 1 });
            },
            "2.redb is damaged: its last block is not the one 3.redb continues",
        );
    }

    /// Blocks behind a segment that was never sealed: the order of a rollover forbids it.
    #[test]
    fn blocks_after_an_unsealed_segment_halt() {
        let folder = journal_of(1);
        make_next(folder.path(), 2, about(folder.path(), 1).end());
        let unsealed = fs::read(segment_path(folder.path(), 1)).unwrap();
        append(&mut open(folder.path(), 1 << 30), &[1]);
        fs::write(segment_path(folder.path(), 1), unsealed).unwrap();
        let error = try_open(folder.path(), 1).unwrap_err().to_string();
        assert!(error.contains("it is not sealed, but there are blocks after it"), "{error}");
    }

    #[test]
    fn another_process_and_another_store_are_refused() {
        let folder = journal_of(2);
        let journal = open(folder.path(), 1);
        let error = try_open(folder.path(), 1).unwrap_err();
        assert!(matches!(error, JournalError::Locked { .. }), "{error}");
        drop(journal);
        let options = JournalOptions { segment_bytes: 1, commit_bytes_max: 1, cache_bytes: 0 };
        let error = Journal::open(folder.path(), Uuid::from_bytes([6; 16]), options).unwrap_err();
        assert!(matches!(error, JournalError::WrongUuid { found: UUID, .. }), "{error}");
    }
}
