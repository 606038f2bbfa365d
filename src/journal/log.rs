//! The appending side: one owner, one durable transaction per append, a new segment when the active one is full.

use std::sync::Arc;

use redb::Database;
use uuid::Uuid;

use super::block::BlockBuilder;
use super::error::JournalError;
use super::reader::JournalReader;
use super::recover::{self, Recovered};
use super::rewrite::JournalRewriter;
use super::segment::{self, BLOCKS, Seal, SegmentHeader};
use super::segments::{Active, Segments};
use crate::disk::{Lock, Place};
use crate::model::ids::Lsn;

/// Room that a value's page has for redb's own words about it, at the sizes blocks are cut to.
const PAGE_OVERHEAD_BYTES: usize = 236;
const PAGE_BYTES: usize = 4096;

/// Sizes of the journal; where they come from is `[journal]` in the configuration.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// A segment is full when its blocks take this much. A commit's cost grows with the file.
    pub segment_bytes: u64,
    /// What one commit takes at most, if it is more than one record.
    pub commit_bytes_max: usize,
    /// redb's cache for the active segment.
    pub cache_bytes: usize,
}

/// The journal, owned by the one thread that appends. After an error from [`Self::append`] or [`Self::trim`] it must not
/// be used again: a restart recovers.
#[derive(Debug)]
pub struct Journal {
    segments: Arc<Segments>,
    active: Arc<Database>,
    /// The active segment's header.
    header: SegmentHeader,
    options: JournalOptions,
    /// Position and header CRC of the last record and block.
    end: Seal,
    /// What the active segment's blocks take. After a start it is what the file takes, which may be more: then the
    /// segment is left early, no more.
    active_bytes: u64,
    /// Held, not used: keeps other processes out.
    _lock: Box<dyn Lock>,
}

impl Journal {
    /// Opens the journal in the folder `data_dir`, which must exist, or makes it there. It must be `uuid`'s.
    ///
    /// # Errors
    /// Everything but [`JournalError::Trimmed`]; nothing is repaired but what a crash can leave.
    pub fn open(data_dir: impl Into<Place>, uuid: Uuid, options: JournalOptions) -> Result<Journal, JournalError> {
        let Recovered { dir, lock, sealed, active, end } = recover::recover(&data_dir.into(), uuid, &options)?;
        let header = active.header.clone();
        let database = active.database.clone();
        let is_empty = end.last_lsn < header.first_lsn;
        let file_bytes = || dir.disk.taken(&segment::path(&dir.path, header.number)).unwrap_or(0);
        let active_bytes = if is_empty { 0 } else { file_bytes() };
        let segments = Arc::new(Segments::new(dir, sealed, active, end.last_lsn));
        Ok(Journal { segments, active: database, header, options, end, active_bytes, _lock: lock })
    }

    /// The uuid of the journal in `data_dir`, if there is one. For a look before [`Self::open`]; the journal must not be
    /// open.
    pub fn exists(data_dir: impl Into<Place>) -> Result<Option<Uuid>, JournalError> {
        recover::uuid(&data_dir.into())
    }

    /// Appends `blocks` in one transaction that is durable when this returns; the positions of the first and the last
    /// record. Readers see all of it or nothing.
    ///
    /// # Panics
    /// If there is no block, or one is empty.
    pub fn append(&mut self, blocks: &mut [BlockBuilder]) -> Result<(Lsn, Lsn), JournalError> {
        assert!(!blocks.is_empty() && blocks.iter().all(|block| block.count() > 0), "an append must hold records");
        if self.active_bytes >= self.options.segment_bytes && self.end.last_lsn >= self.header.first_lsn {
            self.roll_over()?;
        }
        let first = self.end.last_lsn.next();
        let mut end = self.end;
        segment::commit(&self.active, &segment::path(&self.segments.dir().path, self.header.number), |transaction| {
            let mut table = transaction.open_table(BLOCKS)?;
            for block in blocks.iter_mut() {
                let count = u64::from(block.count());
                let (bytes, crc) = block.finish(end.last_lsn.next(), end.chain);
                table.insert(end.last_lsn.next().0, bytes)?;
                end = Seal { last_lsn: end.last_lsn.plus(count), chain: crc };
            }
            Ok(())
        })?;
        self.end = end;
        self.active_bytes += blocks.iter().map(|block| page_bytes(block.stored_bytes())).sum::<u64>();
        self.segments.publish(end.last_lsn);
        Ok((first, end.last_lsn))
    }

    /// Seals the active segment, unless it is empty: whatever is in the journal can be rewritten then.
    pub fn seal_active(&mut self) -> Result<(), JournalError> {
        if self.end.last_lsn >= self.header.first_lsn { self.roll_over() } else { Ok(()) }
    }

    /// The order of the steps is what start-up relies on: the new file is whole before the old one is sealed, and the
    /// old one is sealed before the new one holds a block.
    fn roll_over(&mut self) -> Result<(), JournalError> {
        let dir = self.segments.dir();
        let next =
            SegmentHeader::new(self.header.uuid(), self.header.number + 1, self.end.last_lsn.next(), self.end.chain);
        segment::create(dir, &next)?;
        segment::seal(&self.active, &segment::path(&dir.path, self.header.number), self.end)?;
        self.active =
            Arc::new(segment::open(&*dir.disk, &segment::path(&dir.path, next.number), self.options.cache_bytes)?);
        let active = Active { header: next.clone(), database: self.active.clone() };
        self.segments.roll_over(active, self.end.last_lsn);
        self.header = next;
        self.active_bytes = 0;
        Ok(())
    }

    /// Deletes sealed segments all of whose records are before `keep_from`, oldest first; returns how many.
    pub fn trim(&mut self, keep_from: Lsn) -> Result<u32, JournalError> {
        self.segments.trim(keep_from)
    }

    /// Position of the last record, [`Lsn::ZERO`] if there never was one.
    pub fn last_lsn(&self) -> Lsn {
        self.end.last_lsn
    }

    /// Position of the first record still kept; right after [`Self::last_lsn`] if there is none.
    pub fn first_lsn(&self) -> Lsn {
        self.segments.first_lsn()
    }

    /// Bytes of the disk that the journal's files take.
    pub fn bytes(&self) -> u64 {
        self.segments.bytes()
    }

    /// What one commit takes at most.
    pub fn commit_bytes_max(&self) -> usize {
        self.options.commit_bytes_max
    }

    /// What rewrites sealed segments; it stays valid while this journal moves to its thread.
    pub fn rewriter(&self) -> JournalRewriter {
        JournalRewriter::new(self.segments.clone())
    }

    /// A reader; it stays valid while this journal moves to its thread.
    pub fn reader(&self) -> JournalReader {
        JournalReader::new(self.segments.clone())
    }
}

/// redb keeps a value in a power-of-two number of pages.
fn page_bytes(value_bytes: usize) -> u64 {
    (value_bytes + PAGE_OVERHEAD_BYTES).next_power_of_two().max(PAGE_BYTES) as u64
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    /// If redb kept more beside a value than is assumed, a full block would take twice its size.
    #[test]
    fn pages_are_what_redb_uses() {
        fn check(value_bytes: usize, expected: u64) {
            assert_eq!(page_bytes(value_bytes), expected);
            let allocated = |values: u64| {
                let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
                let transaction = database.begin_write().unwrap();
                let mut table = transaction.open_table(BLOCKS).unwrap();
                (0..values).for_each(|key| drop(table.insert(key, vec![1; value_bytes].as_slice()).unwrap()));
                drop(table);
                let stats = transaction.stats().unwrap();
                stats.allocated_pages() * stats.page_size() as u64
            };
            let used = allocated(16) - allocated(8);
            assert!(used.abs_diff(8 * expected) <= 2 * PAGE_BYTES as u64, "{value_bytes}: {used}, not 8 × {expected}");
        }
        check(65_300, 65_536);
        check(130_800, 131_072);
        check(261_900, 262_144);
        check(524_000, 524_288);
        check(1_048_000, 1_048_576);
        check(700_000, 1_048_576);
    }
}
