//! A copy of the journal while it is appended to: every record that is kept, up to a position, in segments of the same
//! numbers, with the same blocks and the same chain. The last of them is left open, as a start expects it.
//!
//! Blocks are read as every reader reads them, so that damage is not carried into a backup.

use std::ops::ControlFlow;

use redb::Database;

use super::block::{Block, BlockHeader};
use super::error::{JournalError, at};
use super::reader::JournalReader;
use super::recover::folder;
use super::segment::{self, BLOCKS, Seal, SegmentHeader};
use crate::disk::Place;
use crate::model::ids::Lsn;

/// So much is copied in one transaction, in bytes, and at least a block.
const SLICE_BYTES: usize = 1024 * 1024;
/// redb's cache for a segment that is written once, from its first block to its last.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalCopy {
    /// Position of its first record, or of the first that would follow.
    pub first_lsn: Lsn,
    /// Position of its last record: that of the block with the position that was asked for.
    pub last_lsn: Lsn,
}

impl JournalReader {
    /// Writes a copy of what is kept up to `through`, which must be committed, into the existing folder `data_dir`, which must
    /// have no journal. `pace` is told of every slice's bytes; it may take its time, and break off. None if it did. Nothing
    /// may be trimmed meanwhile.
    ///
    /// # Errors
    /// This journal cannot be read, or the copy not be written.
    pub fn copy(
        &self,
        data_dir: impl Into<Place>,
        through: Lsn,
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<JournalCopy>, JournalError> {
        let dir = folder(&data_dir.into());
        dir.create_dirs().map_err(at(&dir.path, "create"))?;
        let first_lsn = self.first_lsn();
        let mut blocks = self.read_from(first_lsn)?;
        let mut copying = Copying::begin(dir, self.header_at(first_lsn)?)?;
        while copying.end.last_lsn < through {
            let Some(block) = blocks.next().transpose()? else { break };
            let header = self.header_at(block.first_lsn)?;
            if header.number != copying.header.number {
                copying.roll_over(header)?;
            }
            copying.put(&block)?;
            if copying.waiting_bytes >= SLICE_BYTES && pace(copying.commit()?).is_break() {
                return Ok(None);
            }
        }
        if pace(copying.commit()?).is_break() {
            return Ok(None);
        }
        Ok(Some(JournalCopy { first_lsn, last_lsn: copying.end.last_lsn }))
    }

    /// What the segment says of itself that holds, or will hold, `lsn`.
    fn header_at(&self, lsn: Lsn) -> Result<SegmentHeader, JournalError> {
        self.segments.read(lsn, |blocks| Ok(blocks.header.clone()))
    }
}

struct Copying {
    dir: Place,
    header: SegmentHeader,
    database: Database,
    end: Seal,
    /// Blocks that are written together.
    waiting: Vec<(Lsn, Vec<u8>)>,
    waiting_bytes: usize,
}

impl Copying {
    fn begin(dir: Place, header: SegmentHeader) -> Result<Self, JournalError> {
        let database = create(&dir, &header)?;
        let end = Seal { last_lsn: Lsn(header.first_lsn.0.saturating_sub(1)), chain: header.chain };
        Ok(Copying { dir, header, database, end, waiting: Vec::new(), waiting_bytes: 0 })
    }

    fn put(&mut self, block: &Block) -> Result<(), JournalError> {
        let path = segment::path(&self.dir.path, self.header.number);
        let header = BlockHeader::decode(block.stored());
        let header = header.map_err(|error| segment::block_error(&path, block.first_lsn, &error))?;
        self.end = Seal { last_lsn: header.last_lsn(), chain: header.crc };
        self.waiting_bytes += block.stored().len();
        self.waiting.push((block.first_lsn, block.stored().to_vec()));
        Ok(())
    }

    /// Writes what waits; how many bytes that is.
    fn commit(&mut self) -> Result<u64, JournalError> {
        let waiting = std::mem::take(&mut self.waiting);
        let bytes = std::mem::take(&mut self.waiting_bytes);
        let path = segment::path(&self.dir.path, self.header.number);
        segment::commit(&self.database, &path, |transaction| {
            let mut table = transaction.open_table(BLOCKS)?;
            for (lsn, block) in &waiting {
                table.insert(lsn.0, block.as_slice())?;
            }
            Ok(())
        })?;
        Ok(bytes as u64)
    }

    fn roll_over(&mut self, next: SegmentHeader) -> Result<(), JournalError> {
        self.commit()?;
        segment::seal(&self.database, &segment::path(&self.dir.path, self.header.number), self.end)?;
        self.database = create(&self.dir, &next)?;
        self.header = next;
        Ok(())
    }
}

fn create(dir: &Place, header: &SegmentHeader) -> Result<Database, JournalError> {
    segment::create(dir, header)?;
    segment::open(&*dir.disk, &segment::path(&dir.path, header.number), CACHE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LARGE, ONE_APPEND_A_SEGMENT, all, append, files, lsns, open, tamper};
    use super::*;

    fn unhurried(_: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// A copy that lacks a record, or that a start refuses, is no backup.
    #[test]
    fn a_copy_is_a_journal_up_to_a_position() {
        for (segment_bytes, through, left, last) in [
            (ONE_APPEND_A_SEGMENT, 25, vec![2, 3], 30),
            (ONE_APPEND_A_SEGMENT, 40, vec![2, 3, 4], 40),
            (LARGE, 15, vec![1], 20),
            (LARGE, 40, vec![1], 40),
        ] {
            let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let mut journal = open(from.path(), segment_bytes);
            for _ in 0..4 {
                append(&mut journal, &[4, 6]);
            }
            journal.trim(Lsn(11)).unwrap();
            let copy = journal.reader().copy(to.path(), Lsn(through), &mut unhurried).unwrap().unwrap();
            assert_eq!(copy.first_lsn, journal.first_lsn());
            assert!(copy.last_lsn >= Lsn(through) && copy.last_lsn <= Lsn(last), "{copy:?}");
            assert_eq!(files(to.path()).0, left);
            let mut copied = open(to.path(), LARGE);
            append(&mut copied, &[1]);
            let read = lsns(copied.reader().read_from(copy.first_lsn).unwrap()).unwrap();
            assert_eq!(read, (copy.first_lsn.0..=copy.last_lsn.0 + 1).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_journal_without_records_is_copied_too() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let journal = open(from.path(), LARGE);
        journal.reader().copy(to.path(), Lsn::ZERO, &mut unhurried).unwrap().unwrap();
        let mut copied = open(to.path(), LARGE);
        append(&mut copied, &[2]);
        assert_eq!(all(&copied), [1, 2]);
    }

    /// Damage that is copied would be found when the backup is needed.
    #[test]
    fn damage_is_not_copied() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut journal = open(from.path(), ONE_APPEND_A_SEGMENT);
        append(&mut journal, &[4]);
        append(&mut journal, &[4]);
        drop(journal);
        tamper(from.path(), 1, 1, |mut block| {
            block[30] ^= 1;
            Some(block)
        });
        let reader = JournalReader::of_stopped(from.path());
        let copied = reader.and_then(|reader| reader.unwrap().copy(to.path(), Lsn(8), &mut unhurried));
        assert!(matches!(copied, Err(JournalError::Corrupt { .. })), "{copied:?}");
    }
}
