//! A block of which some records were made blank: what they held is to be read by nobody any more.
//!
//! ```text
//! 0  format u8 = 3      4  payload CRC u32   12 the 28 bytes of the block's header, as they were written
//! 1  zero u8[3]         8  CRC u32, over bytes 0..8 and 12..40
//! 40 payload: as in a block; a blank record has the length 0
//! ```
//!
//! The header stays as it was, since the chain of header CRCs goes through it; what it says of the payload is no longer so,
//! which is why there is a second CRC. How many records there are, and where, is unchanged.

use super::block::{Block, BlockError, HAS_DECISION, HEADER_BYTES, LENGTH_BYTES};
use crate::model::ids::Lsn;

/// The format byte of this form.
pub(super) const FORMAT: u8 = 3;
/// Where the header that was written begins.
const WRITTEN_AT: usize = 12;
/// Where the records begin.
pub(super) const PAYLOAD_AT: usize = WRITTEN_AT + HEADER_BYTES;

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Keep,
    /// Nothing of it is left.
    Blank,
    /// It says this from now on.
    Replace(Vec<u8>),
}

/// Checks what stands around the header that was written; returns that, and the payload's CRC.
pub(super) fn header(bytes: &[u8]) -> Result<(&[u8], u32), BlockError> {
    let Some(around) = bytes.first_chunk::<PAYLOAD_AT>() else { return Err(BlockError::Short(bytes.len())) };
    let number = |at: usize| u32::from_le_bytes([around[at], around[at + 1], around[at + 2], around[at + 3]]);
    if number(8) != around_crc(around) {
        return Err(BlockError::HeaderCrc);
    }
    if around[1..4] != [0; 3] {
        return Err(BlockError::Header);
    }
    Ok((&bytes[WRITTEN_AT..PAYLOAD_AT], number(4)))
}

fn around_crc(around: &[u8; PAYLOAD_AT]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&around[..8]), &around[WRITTEN_AT..])
}

/// The stored form of `block`, which is stored as `bytes`, after `fate` has befallen its records. None if none changes.
/// Records that are blank stay so.
pub(super) fn rewritten(bytes: &[u8], block: &Block, fate: &mut dyn FnMut(Lsn, &[u8]) -> Fate) -> Option<Vec<u8>> {
    let written_at = if bytes.first() == Some(&FORMAT) { WRITTEN_AT } else { 0 };
    let mut out = vec![0; PAYLOAD_AT];
    out[WRITTEN_AT..].copy_from_slice(bytes.get(written_at..written_at + HEADER_BYTES)?);
    let mut is_changed = false;
    for nth in 0..block.count() as usize {
        let (lsn, record) = block.record(nth);
        let fate = if record.is_empty() { Fate::Keep } else { fate(lsn, record) };
        is_changed |= fate != Fate::Keep;
        let left: &[u8] = match &fate {
            Fate::Keep => record,
            Fate::Blank => &[],
            Fate::Replace(bytes) => bytes,
        };
        let flag = if block.is_decided(nth) && !left.is_empty() { HAS_DECISION } else { 0 };
        out.reserve(LENGTH_BYTES + left.len());
        out.extend_from_slice(&(left.len() as u32 | flag).to_le_bytes());
        out.extend_from_slice(left);
    }
    is_changed.then(|| {
        fit(&mut out);
        out
    })
}

/// Gives bytes of this form the format byte and the checksums that fit.
pub(super) fn fit(bytes: &mut [u8]) {
    let Some((around, payload)) = bytes.split_first_chunk_mut::<PAYLOAD_AT>() else { return };
    around[0] = FORMAT;
    around[4..8].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    let crc = around_crc(around);
    around[8..12].copy_from_slice(&crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::block::{BlockBuilder, BlockHeader};
    use super::*;

    fn written(records: &[(&[u8], bool)]) -> Vec<u8> {
        let mut builder = BlockBuilder::with_capacity(0);
        for (record, has_decision) in records {
            builder.push(record, *has_decision);
        }
        builder.finish(Lsn(0x0102), 7).0.to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<(BlockHeader, Block), BlockError> {
        let header = BlockHeader::decode(bytes)?;
        Ok((header, Block::decode(&header, bytes.to_vec())?))
    }

    fn rewrite(bytes: &[u8], fate: impl Fn(&[u8]) -> Fate) -> Option<Vec<u8>> {
        let (_, block) = decode(bytes).unwrap();
        rewritten(bytes, &block, &mut |_, record| fate(record))
    }

    fn blank(of: &'static [u8]) -> impl Fn(&[u8]) -> Fate {
        move |record| if record == of { Fate::Blank } else { Fate::Keep }
    }

    /// The stored form is a promise to every journal on disk.
    #[test]
    fn stored_form_is_frozen() {
        let bytes = rewrite(&written(&[(b"ab", false), (b"c", true)]), blank(b"ab")).unwrap();
        #[rustfmt::skip]
        let golden = [
            3, 0, 0, 0, 96, 157, 161, 10, 61, 136, 193, 177,
            2, 1, 0, 0, 2, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 226, 159, 9, 79, 169, 30, 65, 37,
            0, 0, 0, 0, 1, 0, 0, 128, b'c',
        ];
        assert_eq!(bytes, golden);
    }

    /// If this failed, the journal would not be read past a block with blank records, or positions would shift.
    #[test]
    fn what_is_not_blank_is_where_it_was_and_the_chain_holds() {
        let records: [(&[u8], bool); 4] = [(b"a", true), (b"secret", true), (b"b", false), (b"c", true)];
        let before = written(&records);
        let (header, _) = decode(&before).unwrap();
        let bytes = rewrite(&before, blank(b"secret")).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        let (after, block) = decode(&bytes).unwrap();
        assert_eq!((after.crc, after.chain, after.last_lsn()), (header.crc, header.chain, header.last_lsn()));
        let records: Vec<_> = block.records().map(|(lsn, bytes)| (lsn.0 - 0x0102, bytes)).collect();
        assert_eq!(records, [(0, &b"a"[..]), (2, b"b"), (3, b"c")]);
        let decided: Vec<_> = block.decisions().map(|(lsn, _)| lsn.0 - 0x0102).collect();
        assert_eq!(decided, [0, 3]);
        assert_eq!((block.at(Lsn(0x0103)), block.at(Lsn(0x0104))), (None, Some(&b"b"[..])));

        assert_eq!(rewrite(&bytes, blank(b"secret")), None, "what is blank stays so and does not count again");
        let replace = |record: &[u8]| if record == b"b" { Fate::Replace(b"new".to_vec()) } else { Fate::Blank };
        let again = rewrite(&bytes, replace).unwrap();
        let (last, block) = decode(&again).unwrap();
        assert_eq!((last.crc, block.count()), (header.crc, 4));
        assert_eq!(block.records().collect::<Vec<_>>(), [(Lsn(0x0104), &b"new"[..])]);
        assert_eq!(block.decisions().count(), 0);
    }

    /// Damage anywhere is noticed, also a single bit of it.
    #[test]
    fn a_flipped_bit_is_noticed() {
        let bytes = rewrite(&written(&[(b"ab", false), (b"c", true)]), blank(b"ab")).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut to {length}");
        }
    }
}
