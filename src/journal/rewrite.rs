//! Making records of sealed segments blank: each file that holds some is copied without them and the copy takes its name.
//!
//! A file is never changed in place: redb would leave the old bytes in pages that it no longer uses. A crash leaves the old
//! file or the new one, and a copy without a name that the next start deletes.

use std::collections::HashMap;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable};

use super::blank::{self, Fate};
use super::block::Block;
use super::error::{JournalError, at, guarded};
use super::segment::{self, About, BLOCKS};
use super::segments::Segments;
use crate::model::ids::Lsn;

/// Copied blocks are committed when they have so many bytes.
const COMMITTED_BYTES: usize = 8 * 1024 * 1024;

/// Rewrites sealed segments. One at a time; readers and the writer go on meanwhile.
#[derive(Clone, Debug)]
pub struct JournalRewriter {
    segments: Arc<Segments>,
}

impl JournalRewriter {
    pub(super) fn new(segments: Arc<Segments>) -> Self {
        JournalRewriter { segments }
    }

    /// The numbers of the sealed segments that hold records up to `through`, oldest first.
    pub fn sealed(&self, through: Lsn) -> Vec<u64> {
        self.segments.sealed(through)
    }

    /// Rewrites a sealed segment as `fate` says of its records; it is asked once of each. Returns how many changed: durable, and
    /// what they held is nowhere in the file. A segment that was deleted meanwhile has none.
    ///
    /// # Errors
    /// As those of reading and appending; then the file is as it was.
    pub fn rewrite(&self, number: u64, fate: &mut dyn FnMut(Lsn, &[u8]) -> Fate) -> Result<u64, JournalError> {
        let path = segment::path(&self.segments.dir().path, number);
        let Some(database) = self.segments.sealed_database(number)? else { return Ok(0) };
        let mut fates = HashMap::new();
        each_block(&database, &path, |_, _, block| {
            let changing = block.records().map(|(lsn, bytes)| (lsn, fate(lsn, bytes)));
            fates.extend(changing.filter(|(_, fate)| *fate != Fate::Keep));
            Ok(())
        })?;
        let changed = fates.len() as u64;
        if changed > 0 {
            self.copy(&database, number, &mut |lsn, _| fates.remove(&lsn).unwrap_or(Fate::Keep))?;
        }
        Ok(changed)
    }

    fn copy(
        &self,
        database: &Database,
        number: u64,
        fate: &mut dyn FnMut(Lsn, &[u8]) -> Fate,
    ) -> Result<(), JournalError> {
        let dir = self.segments.dir();
        let path = segment::path(&dir.path, number);
        let about = About::read(database, &path)?;
        let (copy, unfinished) = segment::begin_copy(dir, &about.header)?;
        let (mut rows, mut bytes_gathered) = (Vec::new(), 0);
        each_block(database, &path, |key, bytes, block| {
            let bytes = blank::rewritten(bytes, block, fate).unwrap_or_else(|| bytes.to_vec());
            bytes_gathered += bytes.len();
            rows.push((key, bytes));
            if bytes_gathered >= COMMITTED_BYTES {
                bytes_gathered = 0;
                segment::add_blocks(&copy, &unfinished, std::mem::take(&mut rows))?;
            }
            Ok(())
        })?;
        segment::add_blocks(&copy, &unfinished, rows)?;
        segment::seal(&copy, &unfinished, about.end())?;
        drop(copy);
        let copied = About::read(&segment::open_read_only(&*dir.disk, &unfinished)?, &unfinished)?;
        if copied.header != about.header || copied.seal != Some(about.end()) || copied.end() != about.end() {
            return Err(JournalError::corrupt(&unfinished, "a copy of a segment is not what it was made of"));
        }
        self.segments.replace(number, &unfinished)
    }
}

/// Shows `look` every block of a segment, checked, with its key and its stored form.
fn each_block(
    database: &Database,
    path: &std::path::Path,
    mut look: impl FnMut(u64, &[u8], &Block) -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    guarded(path, || {
        let transaction = database.begin_read().map_err(at(path, "read"))?;
        let table = transaction.open_table(BLOCKS).map_err(at(path, "read"))?;
        for row in table.iter().map_err(at(path, "read"))? {
            let (key, value) = row.map_err(at(path, "read"))?;
            let (key, bytes) = (key.value(), value.value());
            let header = segment::decode_header(path, Lsn(key), bytes)?;
            let block = Block::decode(&header, bytes.to_vec())
                .map_err(|error| segment::block_error(path, header.first_lsn, &error))?;
            look(key, bytes, &block)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::tests::{ONE_APPEND_A_SEGMENT, UUID, append, files, open, record, segment_path};
    use super::super::{Journal, JournalOptions, JournalReader};
    use super::*;
    use crate::disk::Disk;
    use crate::disk::Place;
    use crate::disk::simulated::{Image, Io, Shadow, SimDisk};

    const WRITES_A_CUT: usize = 20;

    /// What is to go: every third record.
    fn is_secret(lsn: u64) -> bool {
        lsn.is_multiple_of(3)
    }

    fn third(lsn: Lsn, _: &[u8]) -> Fate {
        if is_secret(lsn.0) { Fate::Blank } else { Fate::Keep }
    }

    fn rewrite_all(journal: &mut Journal) -> u64 {
        let through = journal.last_lsn();
        journal.seal_active().unwrap();
        let rewriter = journal.rewriter();
        rewriter.sealed(through).into_iter().map(|number| rewriter.rewrite(number, &mut third).unwrap()).sum()
    }

    /// The positions of all records that are not blank, their content checked.
    fn read(reader: &JournalReader) -> Vec<u64> {
        let mut lsns = Vec::new();
        for block in reader.read_from(reader.first_lsn()).unwrap() {
            let block = block.unwrap();
            lsns.extend(block.records().map(|(lsn, bytes)| {
                assert_eq!(bytes, record(lsn.0));
                lsn.0
            }));
        }
        lsns
    }

    fn left(last: u64) -> Vec<u64> {
        (1..=last).filter(|lsn| !is_secret(*lsn)).collect()
    }

    fn holds(bytes: &[u8], lsn: u64) -> bool {
        let needle = record(lsn);
        bytes.windows(needle.len()).any(|window| window == needle)
    }

    /// If this failed, what was to be forgotten would still be on the disk, or something else be gone.
    #[test]
    fn what_is_blank_is_nowhere_and_all_else_is_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path(), ONE_APPEND_A_SEGMENT);
        for _ in 0..3 {
            append(&mut journal, &[1, 2, 4]);
        }
        let mut lagging = journal.reader().read_from(Lsn(1)).unwrap();
        assert_eq!(lagging.next().unwrap().unwrap().last_lsn(), Lsn(1));
        assert_eq!(rewrite_all(&mut journal), 7);
        let rest: Vec<u64> =
            lagging.flat_map(|block| block.unwrap().records().map(|(lsn, _)| lsn.0).collect::<Vec<_>>()).collect();
        assert_eq!(rest, left(21)[1..], "a reader that is under way goes on");
        assert_eq!(rewrite_all(&mut journal), 0, "it is done once");
        append(&mut journal, &[2]);
        for n in 1..=3 {
            let bytes = std::fs::read(segment_path(folder.path(), n)).unwrap();
            for lsn in (n - 1) * 7 + 1..=n * 7 {
                assert_eq!(holds(&bytes, lsn), !is_secret(lsn), "record {lsn} in {n}.redb");
            }
        }
        assert_eq!(files(folder.path()), (vec![1, 2, 3, 4], false));
        drop(journal);
        let journal = open(folder.path(), 1 << 30);
        assert_eq!(read(&journal.reader()), [left(21), vec![22, 23]].concat());
    }

    /// If this failed, a segment that the retention deleted would come back, before others that are gone.
    #[test]
    fn a_segment_that_is_deleted_meanwhile_stays_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path(), ONE_APPEND_A_SEGMENT);
        append(&mut journal, &[6]);
        append(&mut journal, &[6]);
        append(&mut journal, &[6]);
        let rewriter = journal.rewriter();
        let mut deletes = |lsn: Lsn, bytes: &[u8]| {
            journal.trim(Lsn(7)).unwrap();
            third(lsn, bytes)
        };
        assert_eq!(rewriter.rewrite(1, &mut deletes).unwrap(), 2);
        assert_eq!(files(folder.path()), (vec![2, 3], false));
        assert_eq!(rewriter.rewrite(1, &mut third).unwrap(), 0);
        assert_eq!(rewriter.sealed(Lsn(18)), [2]);
    }

    /// If this failed, a power cut could lose records that are nobody's secret, or leave a journal that does not open.
    #[test]
    fn a_power_cut_leaves_the_old_file_or_the_new_one() {
        let disk = SimDisk::new(Image::empty());
        let place = |disk: &SimDisk| Place { disk: std::sync::Arc::new(disk.clone()), path: Path::new("/data").into() };
        place(&disk).create_dirs().unwrap();
        let options = || JournalOptions { segment_bytes: 1, commit_bytes_max: 1 << 20, cache_bytes: 1 << 20 };
        let mut journal = Journal::open(place(&disk), UUID, options()).unwrap();
        append(&mut journal, &[1, 3]);
        append(&mut journal, &[5]);
        let before = disk.asked();
        assert_eq!(rewrite_all(&mut journal), 3);
        let (start, asked) = disk.history();
        let mut shadow = Shadow::new(start);
        let (mut old, mut new) = (0, 0);
        for (n, io) in asked.iter().enumerate() {
            shadow.step(io);
            // Most of it is writing, of which any point is as good as another.
            let is_writing = matches!(io, Io::Change(..)) && !n.is_multiple_of(WRITES_A_CUT);
            if n < before || is_writing {
                continue;
            }
            {
                let disk = SimDisk::new(shadow.cut(&mut StdRng::seed_from_u64(n as u64)));
                let mut journal = Journal::open(place(&disk), UUID, options()).unwrap();
                let found = read(&journal.reader());
                assert!(left(9).iter().all(|lsn| found.contains(lsn)), "cut {n}: {found:?}");
                if found == left(9) {
                    new += 1;
                } else {
                    old += 1;
                }
                rewrite_all(&mut journal);
                assert_eq!(read(&journal.reader()), left(9), "cut {n}: it is carried on");
                for path in disk.names(Path::new("/data/journal")).unwrap() {
                    let bytes = disk.content(&Path::new("/data/journal").join(path)).unwrap();
                    assert!(!(1..10).any(|lsn| is_secret(lsn) && holds(&bytes, lsn)), "cut {n}");
                }
            }
        }
        assert!(old > 10 && new > 0, "{old} cuts before the end, {new} after it");
    }
}
