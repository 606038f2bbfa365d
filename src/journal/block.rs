//! A block: consecutive records in their stored form, the value of one row of a segment.
//!
//! ```text
//! 0  format u8 = 2      4  count u32         16 chain u32: header CRC of the block before (0: none)
//! 1  flags u8           8  first LSN u64     20 payload CRC u32
//! 2  zero u16                                24 header CRC u32, over bytes 0..24
//! 28 payload: per record length u32 (its highest bit: the record holds a decision), bytes
//! ```
//!
//! Numbers are little-endian, CRCs are CRC-32C. The header CRC covers the payload's, so the chain of header CRCs commits
//! to every byte, and a reader that only needs headers still notices damage in them.
//!
//! A record without bytes is none: it was made blank, in a block of the form in `blank`, and is passed over.

use super::blank;
use crate::model::codec::ENCODED_BYTES_MAX;
use crate::model::ids::Lsn;

/// The largest record that is taken, in bytes: what the codec is willing to read back.
pub const RECORD_BYTES_MAX: usize = ENCODED_BYTES_MAX;

/// Bytes of a block before its first record.
pub(super) const HEADER_BYTES: usize = 28;
const FORMAT: u8 = 2;
const FLAG_DECISIONS: u8 = 1;
pub(super) const LENGTH_BYTES: usize = 4;
/// In a record's length: it holds a decision. Lengths are far below.
pub(super) const HAS_DECISION: u32 = 1 << 31;

/// The bytes a record of `len` bytes takes in a block.
pub(super) fn record_bytes(len: usize) -> usize {
    LENGTH_BYTES + len
}

/// Why stored bytes are not a block.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BlockError {
    #[error("its {0} bytes are too few for a block")]
    Short(usize),
    #[error("its format is {0}")]
    Format(u8),
    #[error("its header's checksum is wrong")]
    HeaderCrc,
    #[error("its records' checksum is wrong")]
    PayloadCrc,
    #[error("its header makes no sense")]
    Header,
    #[error("its records' lengths do not add up")]
    Lengths,
}

/// What a block says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub first_lsn: Lsn,
    pub count: u32,
    pub has_decisions: bool,
    /// Header CRC of the block before.
    pub chain: u32,
    pub payload_crc: u32,
    /// This header's CRC, which the next block's `chain` repeats.
    pub crc: u32,
    /// Where the records begin.
    pub payload_at: usize,
}

impl BlockHeader {
    /// Reads and checks the header in front of `bytes`; the payload is not looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        if bytes.first() == Some(&blank::FORMAT) {
            let (header, payload_crc) = blank::header(bytes)?;
            return Ok(BlockHeader { payload_crc, payload_at: blank::PAYLOAD_AT, ..Self::decode_written(header)? });
        }
        Self::decode_written(bytes)
    }

    /// Reads the header as it was written with the block.
    fn decode_written(bytes: &[u8]) -> Result<Self, BlockError> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BlockError::Short(bytes.len()));
        };
        if header[0] != FORMAT {
            return Err(BlockError::Format(header[0]));
        }
        let crc = u32_at(header, 24);
        if crc != crc32c::crc32c(&header[..24]) {
            return Err(BlockError::HeaderCrc);
        }
        let first_lsn = Lsn(u64::from(u32_at(header, 8)) | u64::from(u32_at(header, 12)) << 32);
        let count = u32_at(header, 4);
        let known = header[1] & !FLAG_DECISIONS == 0 && header[2..4] == [0, 0];
        if !known || count == 0 || first_lsn == Lsn::ZERO || first_lsn.0.checked_add(u64::from(count)).is_none() {
            return Err(BlockError::Header);
        }
        let has_decisions = header[1] & FLAG_DECISIONS != 0;
        Ok(BlockHeader {
            first_lsn,
            count,
            has_decisions,
            chain: u32_at(header, 16),
            payload_crc: u32_at(header, 20),
            crc,
            payload_at: HEADER_BYTES,
        })
    }

    /// Position of the block's last record.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0 + u64::from(self.count) - 1)
    }
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Records on their way into the journal. Positions are given when it is appended.
#[derive(Debug)]
pub struct BlockBuilder {
    /// Room for the header, then the payload.
    bytes: Vec<u8>,
    count: u32,
    has_decisions: bool,
}

impl BlockBuilder {
    /// An empty block with room for `bytes` bytes of records.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut room = Vec::with_capacity(HEADER_BYTES + bytes);
        room.resize(HEADER_BYTES, 0);
        BlockBuilder { bytes: room, count: 0, has_decisions: false }
    }

    /// Adds a record behind the others. `has_decision` tells whether sinks will want it.
    ///
    /// # Panics
    /// If the record is longer than [`RECORD_BYTES_MAX`]: admission's limits keep it far below.
    pub fn push(&mut self, record: &[u8], has_decision: bool) {
        assert!(record.len() <= RECORD_BYTES_MAX, "a record of {} bytes passed the limits of admission", record.len());
        let flag = if has_decision { HAS_DECISION } else { 0 };
        self.bytes.extend_from_slice(&(record.len() as u32 | flag).to_le_bytes());
        self.bytes.extend_from_slice(record);
        self.count += 1;
        self.has_decisions |= has_decision;
    }

    /// How many records it holds.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Its stored size.
    pub fn stored_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Fills in the header; returns the stored form and the CRC that the next block's chain repeats.
    pub(super) fn finish(&mut self, first_lsn: Lsn, chain: u32) -> (&[u8], u32) {
        let payload_crc = crc32c::crc32c(&self.bytes[HEADER_BYTES..]);
        let header = &mut self.bytes[..HEADER_BYTES];
        header[0] = FORMAT;
        header[1] = if self.has_decisions { FLAG_DECISIONS } else { 0 };
        header[4..8].copy_from_slice(&self.count.to_le_bytes());
        header[8..16].copy_from_slice(&first_lsn.0.to_le_bytes());
        header[16..20].copy_from_slice(&chain.to_le_bytes());
        header[20..24].copy_from_slice(&payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&header[..24]);
        header[24..28].copy_from_slice(&crc.to_le_bytes());
        (&self.bytes, crc)
    }
}

/// Committed records, checked, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub first_lsn: Lsn,
    bytes: Vec<u8>,
    /// Where the first record starts.
    start: u32,
    /// Where each record ends in `bytes`; it starts [`LENGTH_BYTES`] behind the end of the one before.
    ends: Vec<u32>,
    /// Which records hold a decision, by their place.
    decided: Vec<u32>,
}

impl Block {
    /// Checks `bytes`, whose header is `header`, and takes it over.
    pub(super) fn decode(header: &BlockHeader, bytes: Vec<u8>) -> Result<Self, BlockError> {
        let payload = bytes.get(header.payload_at..).ok_or(BlockError::Short(bytes.len()))?;
        if crc32c::crc32c(payload) != header.payload_crc {
            return Err(BlockError::PayloadCrc);
        }
        // The count is bounded by the bytes that are there before room is made for it.
        let count = header.count as usize;
        if count > payload.len() / LENGTH_BYTES || u32::try_from(bytes.len()).is_err() {
            return Err(BlockError::Lengths);
        }
        let mut ends = Vec::with_capacity(count);
        let mut decided = Vec::new();
        let mut rest = payload;
        for nth in 0..count {
            let (length, behind) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or(BlockError::Lengths)?;
            let length = u32::from_le_bytes(*length);
            if length & HAS_DECISION != 0 {
                decided.push(nth as u32);
            }
            rest = behind.get((length & !HAS_DECISION) as usize..).ok_or(BlockError::Lengths)?;
            ends.push((bytes.len() - rest.len()) as u32);
        }
        let are_as_told = if header.payload_at == HEADER_BYTES {
            header.has_decisions != decided.is_empty()
        } else {
            // All that held some may be blank.
            header.has_decisions || decided.is_empty()
        };
        if !rest.is_empty() || !are_as_told {
            return Err(BlockError::Lengths);
        }
        Ok(Block { first_lsn: header.first_lsn, bytes, start: header.payload_at as u32, ends, decided })
    }

    /// How many records it holds, at least one; blank ones count.
    pub fn count(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Position of its last record.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0 + self.count() - 1)
    }

    /// Its records with their positions, in order, without those that are blank.
    pub fn records(&self) -> impl Iterator<Item = (Lsn, &[u8])> {
        (0..self.ends.len()).map(|nth| self.record(nth)).filter(|(_, bytes)| !bytes.is_empty())
    }

    /// Those of its records that hold decisions.
    pub fn decisions(&self) -> impl Iterator<Item = (Lsn, &[u8])> {
        self.decided.iter().map(|nth| self.record(*nth as usize)).filter(|(_, bytes)| !bytes.is_empty())
    }

    /// The record at `lsn`, which must be one of this block's; `None` if it is blank.
    pub fn at(&self, lsn: Lsn) -> Option<&[u8]> {
        let nth = usize::try_from(lsn.0.checked_sub(self.first_lsn.0)?).ok().filter(|nth| *nth < self.ends.len())?;
        Some(self.record(nth).1).filter(|bytes| !bytes.is_empty())
    }

    /// Whether the record at place `nth` holds a decision.
    pub(super) fn is_decided(&self, nth: usize) -> bool {
        self.decided.binary_search(&(nth as u32)).is_ok()
    }

    /// The record at place `nth` of [`Block::count`]; without bytes if it is blank.
    pub(super) fn record(&self, nth: usize) -> (Lsn, &[u8]) {
        let start = nth.checked_sub(1).map_or(self.start, |before| self.ends[before]) as usize;
        (self.first_lsn.plus(nth as u64), &self.bytes[start + LENGTH_BYTES..self.ends[nth] as usize])
    }
}

/// Reads `bytes` as a block, once as they are and once with checksums that fit, and shows `look` its records; how often
/// it could be read. For fuzzing: what lies behind the checksums must hold without them, too.
///
/// # Panics
/// If a block that was read is not the one that its records make.
#[doc(hidden)]
pub fn try_block(bytes: &[u8], mut look: impl FnMut(&[u8])) -> usize {
    let mut fitting = bytes.to_vec();
    if bytes.first() == Some(&blank::FORMAT) {
        blank::fit(&mut fitting);
    } else if let Some((header, payload)) = fitting.split_first_chunk_mut::<HEADER_BYTES>() {
        header[20..24].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        let crc = crc32c::crc32c(&header[..24]);
        header[24..].copy_from_slice(&crc.to_le_bytes());
    }
    let mut read = 0;
    for bytes in [bytes, &fitting] {
        let Ok(header) = BlockHeader::decode(bytes) else { continue };
        let Ok(block) = Block::decode(&header, bytes.to_vec()) else { continue };
        let mut again = BlockBuilder::with_capacity(bytes.len());
        for nth in 0..block.ends.len() {
            let (_, record) = block.record(nth);
            look(record);
            again.push(record, block.is_decided(nth));
        }
        if header.payload_at == HEADER_BYTES {
            assert_eq!(again.finish(block.first_lsn, header.chain).0, bytes);
        }
        read += 1;
    }
    read
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn build(records: &[(Vec<u8>, bool)]) -> BlockBuilder {
        let mut builder = BlockBuilder::with_capacity(0);
        for (record, has_decision) in records {
            builder.push(record, *has_decision);
        }
        builder
    }

    fn decode(bytes: &[u8]) -> Result<Block, BlockError> {
        Block::decode(&BlockHeader::decode(bytes)?, bytes.to_vec())
    }

    /// The stored form is a promise to every journal on disk.
    #[test]
    fn stored_form_is_frozen() {
        let mut builder = build(&[(b"ab".to_vec(), false), (b"".to_vec(), true)]);
        let (bytes, crc) = builder.finish(Lsn(0x0102), 7);
        let golden = [
            2, 1, 0, 0, 2, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 118, 108, 112, 202, 3, 70, 197, 84, 2, 0, 0, 0,
            b'a', b'b', 0, 0, 0, 128,
        ];
        assert_eq!(bytes, golden);
        assert_eq!(crc.to_le_bytes(), golden[24..28]);
    }

    /// A CRC alone does not make a block: what a header claims must also hold.
    #[test]
    fn senseless_headers_are_refused() {
        fn check(change: impl FnOnce(&mut [u8]), expected: &BlockError) {
            let mut bytes = build(&[(vec![1, 2, 3], false)]).finish(Lsn(5), 0).0.to_vec();
            change(&mut bytes);
            let crc = crc32c::crc32c(&bytes[..24]);
            bytes[24..28].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(decode(&bytes).unwrap_err(), *expected);
        }
        check(|bytes| bytes[0] = 4, &BlockError::Format(4));
        check(|bytes| bytes[1] = 1, &BlockError::Lengths);
        check(|bytes| bytes[1] = 2, &BlockError::Header);
        check(|bytes| bytes[2] = 1, &BlockError::Header);
        check(|bytes| bytes[4] = 0, &BlockError::Header);
        check(|bytes| bytes[8..16].fill(0), &BlockError::Header);
        check(|bytes| bytes[8..16].fill(255), &BlockError::Header);
        check(|bytes| bytes[4..8].fill(255), &BlockError::Lengths);
        check(|bytes| bytes[4] = 2, &BlockError::Lengths);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            records in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), any::<bool>()), 1..50),
            first in 1..u64::MAX / 2,
            chain: u32,
        ) {
            let mut builder = build(&records);
            let (bytes, crc) = builder.finish(Lsn(first), chain);
            let header = BlockHeader::decode(bytes).unwrap();
            prop_assert_eq!((header.chain, header.crc), (chain, crc));
            let block = decode(bytes).unwrap();
            let decided = (first..).zip(&records).filter(|(_, (_, has_decision))| *has_decision);
            prop_assert!(block.decisions().eq(decided.map(|(lsn, (bytes, _))| (Lsn(lsn), &bytes[..]))));
            prop_assert_eq!(block.last_lsn(), header.last_lsn());
            let read: Vec<_> = block.records().map(|(lsn, bytes)| (lsn.0, bytes.to_vec())).collect();
            let expected: Vec<_> = (first..).zip(records.into_iter().map(|(bytes, _)| bytes)).collect();
            prop_assert_eq!(read, expected);
        }

        /// Damage anywhere is noticed, also a single bit of it.
        #[test]
        fn a_flipped_bit_is_noticed(at in 0usize..38, bit in 0u32..8) {
            let mut bytes = build(&[(vec![9; 6], true)]).finish(Lsn(3), 4).0.to_vec();
            prop_assert_eq!(bytes.len(), 38);
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes).is_err());
        }

        /// Neither panics nor makes room for what is not there, whatever the bytes say.
        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), count: u32) {
            prop_assert!(decode(&bytes).is_err());
            let header = BlockHeader {
                first_lsn: Lsn(1), count, has_decisions: false, chain: 0, crc: 0, payload_at: HEADER_BYTES,
                payload_crc: crc32c::crc32c(bytes.get(HEADER_BYTES..).unwrap_or_default()),
            };
            if let Ok(block) = Block::decode(&header, bytes) {
                prop_assert_eq!(block.count(), u64::from(count));
            }
        }
    }
}
