//! Start: what is in the journal's folder becomes a set of segments that fit together, or the start is refused.
//!
//! A crash can leave three things, all mended here: a `.tmp` file (deleted), an unsealed segment before an empty one
//! (sealed), and files that were not closed (redb recovers them). Anything else is loss or damage and halts.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::error::{JournalError, at};
use super::log::JournalOptions;
use super::segment::{self, About, Seal, SegmentHeader};
use super::segments::{Active, Sealed};
use crate::model::ids::Lsn;

/// Folder of the segments, in the data folder.
const FOLDER: &str = "journal";
/// Locked while a process appends; empty.
const LOCK: &str = "lock";

/// The journal as it was found.
pub(super) struct Recovered {
    pub dir: PathBuf,
    pub lock: File,
    pub sealed: VecDeque<Sealed>,
    pub active: Active,
    /// Where the active segment ends.
    pub end: Seal,
}

/// The uuid of the journal in `data_dir`, if there is one.
pub(super) fn uuid(data_dir: &Path) -> Result<Option<Uuid>, JournalError> {
    let dir = data_dir.join(FOLDER);
    let numbers = if dir.try_exists().map_err(at(&dir, "look for"))? { list(&dir)?.numbers } else { Vec::new() };
    let Some(oldest) = numbers.first() else { return Ok(None) };
    let path = segment::path(&dir, *oldest);
    let about = About::read(&segment::open_read_only(&path)?, &path)?;
    Ok(Some(about.header.uuid()))
}

/// Opens the journal in `data_dir`, or makes it there.
pub(super) fn recover(data_dir: &Path, uuid: Uuid, options: &JournalOptions) -> Result<Recovered, JournalError> {
    let dir = data_dir.join(FOLDER);
    fs::create_dir_all(&dir).map_err(at(&dir, "create"))?;
    segment::sync_dir(data_dir)?;
    let lock = lock(&dir)?;
    let Listing { unfinished, mut numbers } = list(&dir)?;
    for path in unfinished {
        fs::remove_file(&path).map_err(at(&path, "delete"))?;
    }
    if numbers.is_empty() {
        segment::create(&dir, &SegmentHeader::new(uuid, 1, Lsn::FIRST, 0))?;
        numbers.push(1);
    }
    if let Some(hole) = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        let what = format!("there are {}.redb and {}.redb, but not what belongs between them", hole[0], hole[1]);
        return Err(JournalError::Gap { dir, what });
    }
    let (active, end) = open_active(&dir, *numbers.last().unwrap_or(&1), options)?;
    numbers.pop();
    let sealed = check_sealed(&dir, &numbers, &active, end)?;
    let headers = sealed.iter().map(|sealed| &sealed.header).chain([&active.header]);
    for header in headers {
        if header.uuid() != uuid {
            let file = segment::path(&dir, header.number);
            return Err(JournalError::WrongUuid { file, found: header.uuid(), expected: uuid });
        }
    }
    Ok(Recovered { dir, lock, sealed, active, end })
}

/// Keeps other processes out, also in the moments of a rollover when no segment is open for writing.
fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path, "open"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked { path: dir.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(at(&path, "lock")(error)),
    }
}

struct Listing {
    /// Segments that a crash kept from getting their name.
    unfinished: Vec<PathBuf>,
    /// Numbers of the segments, ascending.
    numbers: Vec<u64>,
}

fn list(dir: &Path) -> Result<Listing, JournalError> {
    let mut listing = Listing { unfinished: Vec::new(), numbers: Vec::new() };
    for entry in fs::read_dir(dir).map_err(at(dir, "list"))? {
        let path = entry.map_err(at(dir, "list"))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.ends_with(".redb.tmp") {
            listing.unfinished.push(path);
        } else if let Some(number) = name.strip_suffix(".redb").and_then(|stem| stem.parse().ok()) {
            listing.numbers.push(number);
        }
    }
    listing.numbers.sort_unstable();
    Ok(listing)
}

fn open_active(dir: &Path, number: u64, options: &JournalOptions) -> Result<(Active, Seal), JournalError> {
    let path = segment::path(dir, number);
    let database = segment::open(&path, options.cache_bytes)?;
    let about = About::read(&database, &path)?;
    check_number(&about.header, number, &path)?;
    if about.seal.is_some() {
        let what = format!("{number}.redb is sealed, so {}.redb must exist", number + 1);
        return Err(JournalError::Gap { dir: dir.to_path_buf(), what });
    }
    let end = about.end();
    Ok((Active { header: about.header, database: Arc::new(database) }, end))
}

/// Checks the segments before the active one from the newest back: each must end where the one after it starts.
fn check_sealed(dir: &Path, numbers: &[u64], active: &Active, end: Seal) -> Result<VecDeque<Sealed>, JournalError> {
    let active_is_empty = end.last_lsn < active.header.first_lsn;
    let mut sealed = VecDeque::new();
    let mut after = &active.header;
    for &number in numbers.iter().rev() {
        let path = segment::path(dir, number);
        let about = About::read(&segment::open_read_only(&path)?, &path)?;
        check_number(&about.header, number, &path)?;
        let end = about.end();
        let starts_after = Seal { last_lsn: Lsn(after.first_lsn.0.saturating_sub(1)), chain: after.chain };
        if end != starts_after || about.last_block.is_none() {
            let next = after.number;
            let what = format!("it ends at LSN {}, but {next}.redb starts at {}", end.last_lsn, after.first_lsn);
            return Err(JournalError::corrupt(&path, what));
        }
        match about.seal {
            Some(seal) if seal == end => {}
            Some(_) => return Err(JournalError::corrupt(&path, "its seal does not fit its last block")),
            // The crash came between the naming of the new segment and the sealing of this one.
            None if sealed.is_empty() && active_is_empty => {
                segment::seal(&segment::open(&path, 0)?, &path, end)?;
            }
            None => return Err(JournalError::corrupt(&path, "it is not sealed, but there are blocks after it")),
        }
        sealed.push_front(Sealed { header: about.header, last_lsn: end.last_lsn });
        after = &sealed[0].header;
    }
    Ok(sealed)
}

fn check_number(header: &SegmentHeader, number: u64, path: &Path) -> Result<(), JournalError> {
    if header.number == number && header.first_lsn >= Lsn::FIRST {
        return Ok(());
    }
    Err(JournalError::corrupt(path, format!("it was made as {}.redb", header.number)))
}
