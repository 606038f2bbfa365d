//! Group commit as a plain structure: entries go in, commits come out, nothing is timed and nothing is written.
//!
//! It never waits for more: a commit holds what is there, up to a bound. Entries leave in the order they came.

use std::collections::VecDeque;

use super::block::{self, BlockBuilder, HEADER_BYTES};
use crate::model::ids::Lsn;

/// Block sizes that fill redb's power-of-two pages but for a few hundred bytes. 700,000 bytes in one value would take
/// 1,048,576; as 524,000 and the rest they take what they are.
const BLOCK_BYTES: [usize; 9] = [1_048_000, 524_000, 261_900, 130_800, 65_300, 32_500, 16_100, 7_900, 3_800];

/// A record on its way to the writer. `T` is what the sender wants handed back when it is committed.
#[derive(Debug)]
pub struct Entry<T> {
    pub bytes: Vec<u8>,
    pub has_decision: bool,
    pub tag: T,
}

/// One commit to be.
#[derive(Debug)]
pub struct Group<T> {
    /// Its records.
    pub blocks: Vec<BlockBuilder>,
    /// One a record, in their order.
    tags: Vec<T>,
}

impl<T> Group<T> {
    /// Stored size of its blocks.
    pub fn stored_bytes(&self) -> usize {
        self.blocks.iter().map(BlockBuilder::stored_bytes).sum()
    }

    /// How many records it holds.
    pub fn records(&self) -> u64 {
        self.tags.len() as u64
    }

    /// The tags in their order, with the positions of their records, the first of which got `first_lsn`.
    pub fn into_tags(self, first_lsn: Lsn) -> Vec<(Lsn, T)> {
        (0..).map(|nth| first_lsn.plus(nth)).zip(self.tags).collect()
    }
}

/// Entries that wait for the commit under way.
#[derive(Debug)]
pub struct GroupCommit<T> {
    queue: VecDeque<Entry<T>>,
    /// What the queue's records take when stored.
    queued_bytes: usize,
    commit_bytes_max: usize,
}

impl<T> GroupCommit<T> {
    /// Makes commits of at most `commit_bytes_max` bytes, or of one record that is larger.
    pub fn new(commit_bytes_max: usize) -> Self {
        GroupCommit { queue: VecDeque::new(), queued_bytes: 0, commit_bytes_max }
    }

    /// Adds `entries` behind the others.
    pub fn push(&mut self, entries: Vec<Entry<T>>) {
        self.queued_bytes += entries.iter().map(|entry| block::record_bytes(entry.bytes.len())).sum::<usize>();
        self.queue.extend(entries);
    }

    /// Whether there is enough for a full commit.
    pub fn is_full(&self) -> bool {
        HEADER_BYTES + self.queued_bytes >= self.commit_bytes_max
    }

    /// The next commit, if there is anything to commit.
    pub fn next_group(&mut self) -> Option<Group<T>> {
        let mut records = Vec::new();
        let mut tags = Vec::new();
        let mut bytes = HEADER_BYTES;
        while let Some(entry) = self.queue.front() {
            let more = block::record_bytes(entry.bytes.len());
            if !records.is_empty() && bytes + more > self.commit_bytes_max {
                break;
            }
            if let Some(Entry { bytes: record, has_decision, tag }) = self.queue.pop_front() {
                records.push((record, has_decision));
                tags.push(tag);
            }
            bytes += more;
        }
        self.queued_bytes -= bytes - HEADER_BYTES;
        (!tags.is_empty()).then(|| Group { blocks: cut(records), tags })
    }
}

/// Cuts records into blocks that fill their pages: each takes the largest size of [`BLOCK_BYTES`] that what is left can
/// fill; less than the smallest size is one block. A record larger than all of them is a block by itself.
fn cut(records: Vec<(Vec<u8>, bool)>) -> Vec<BlockBuilder> {
    let mut blocks: Vec<BlockBuilder> = Vec::new();
    let mut left: usize = records.iter().map(|(record, _)| block::record_bytes(record.len())).sum();
    let mut block_bytes_max = 0;
    for (record, has_decision) in records {
        let more = block::record_bytes(record.len());
        match blocks.last_mut() {
            Some(block) if block.stored_bytes() + more <= block_bytes_max => block.push(&record, has_decision),
            _ => {
                let all = HEADER_BYTES + left;
                block_bytes_max = BLOCK_BYTES.into_iter().find(|size| *size <= all).unwrap_or(all);
                let mut block = BlockBuilder::with_capacity(block_bytes_max.max(more));
                block.push(&record, has_decision);
                blocks.push(block);
            }
        }
        left -= more;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tag: u32, len: usize) -> Entry<u32> {
        Entry { bytes: vec![0; len], has_decision: false, tag }
    }

    /// The tags of each commit, with positions as if the first record ever got LSN 1.
    fn check(commit_bytes_max: usize, entries: Vec<Entry<u32>>, expected: &[&[(u64, u32)]]) {
        let mut commits = GroupCommit::new(commit_bytes_max);
        commits.push(entries);
        let mut first = Lsn::FIRST;
        for expected in expected {
            let group = commits.next_group().expect("a commit is due");
            let next = first.plus(group.records());
            let tags: Vec<_> = group.into_tags(first).into_iter().map(|(lsn, tag)| (lsn.0, tag)).collect();
            assert_eq!(&tags, expected);
            first = next;
        }
        assert!(commits.next_group().is_none(), "nothing is left");
        assert_eq!(commits.queued_bytes, 0, "what left is no longer counted");
    }

    /// Wrong grouping would lose an acknowledgement, or give it before its record is durable.
    #[test]
    fn entries_leave_in_order_and_within_bounds() {
        check(100, vec![], &[]);
        check(100, vec![record(1, 10), record(2, 10)], &[&[(1, 1), (2, 2)]]);
        // 28 bytes header, 34 a record: two fit into 100 bytes, three do not.
        check(100, vec![record(1, 30), record(2, 30), record(3, 30)], &[&[(1, 1), (2, 2)], &[(3, 3)]]);
        // A record over the bound goes alone.
        check(100, vec![record(1, 1), record(2, 500), record(3, 1)], &[&[(1, 1)], &[(2, 2)], &[(3, 3)]]);
    }

    #[test]
    fn full_means_that_a_commit_is_there() {
        let mut commits = GroupCommit::new(100);
        commits.push(vec![record(1, 60)]);
        assert!(!commits.is_full());
        commits.push(vec![record(2, 10)]);
        assert!(commits.is_full());
        commits.next_group();
        assert!(!commits.is_full());
    }

    /// Blocks that overshoot a page double what they take on disk.
    #[test]
    fn blocks_fill_their_pages() {
        fn check(lengths: &[(usize, usize)], expected: &[usize]) {
            let lengths = lengths.iter().flat_map(|(count, len)| std::iter::repeat_n(*len, *count));
            let records: Vec<_> = lengths.map(|len| (vec![0; len], false)).collect();
            let count = records.len();
            let blocks = cut(records);
            assert_eq!(blocks.iter().map(BlockBuilder::stored_bytes).collect::<Vec<_>>(), expected);
            assert_eq!(blocks.iter().map(|block| block.count() as usize).sum::<usize>(), count);
        }
        check(&[], &[]);
        check(&[(1, 10)], &[42]);
        check(&[(600, 96)], &[32_428, 16_028, 7_828, 3_728, 128]);
        check(&[(7_000, 96)], &[523_928, 130_728, 32_428, 7_828, 3_728, 1_528]);
        check(&[(1, 600_000)], &[600_032]);
        check(&[(1, 2_000_000), (1, 10)], &[2_000_032, 42]);
        check(&[(1, 10), (1, 2_000_000), (1, 10)], &[42, 2_000_032, 42]);
    }
}
