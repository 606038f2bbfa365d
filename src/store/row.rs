//! The bytes of a row: a format byte, the body, and a CRC-32C over table, key, format and body.
//!
//! redb does not verify checksums when it reads, so each row carries its own; the key is part of it, so that a sound
//! row under a wrong key is found out too. The two rows of the hot path have fixed layouts, little-endian, that are
//! read without copying; the rest goes through the model's codec.

use bincode::{Decode, Encode};

use super::error::StoreError;
use crate::model::book::LsnChunk;
use crate::model::codec::{self, CodecError};
use crate::model::ids::{Lsn, PayloadHash, Version};
use crate::model::state::Gaps;

/// Format byte of every row this version writes.
const ROW_FORMAT: u8 = 1;
const CRC_BYTES: usize = 4;
/// Format, payload hash, time seen, CRC.
pub(super) const IDENTITY_ROW_BYTES: usize = 1 + 8 + 8 + CRC_BYTES;
/// What a state row holds at most besides the state: format, version, LSN, which of the following there are, masks, time to
/// wake, CRC.
pub(super) const STATE_ROW_OVERHEAD_BYTES: usize = 1 + 8 + 8 + 1 + 8 + 8 + 8 + CRC_BYTES;

/// Bits of the byte that says what a state row holds.
const EXISTS: u8 = 1;
const WAITS: u8 = 2;
const WAKES: u8 = 4;

/// When an entity is to be looked at though nothing comes for it: in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wake(pub i64);

impl Wake {
    /// As soon as the process starts.
    pub const AT_START: Wake = Wake(i64::MIN);
    /// Later than any time there is.
    pub const NEVER: Wake = Wake(i64::MAX);
}

/// An entity as it is stored: the state's bytes, and what the store itself must know of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    pub version: Version,
    /// LSN of the last record in the state; [`Lsn::ZERO`] if it was not known when the state was copied.
    pub lsn: Lsn,
    /// What is counted over its type; none for what only others wait for.
    pub gaps: Option<Gaps>,
    /// When it is to be looked at, if anything is ahead of it.
    pub wake: Option<Wake>,
    /// The caller's encoding of the state.
    pub state: Vec<u8>,
}

/// An identity that no longer fits into its entity's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredIdentity {
    pub payload: PayloadHash,
    /// When it was first seen, in milliseconds since 1970.
    pub seen_ms: i64,
}

/// A state row in place, its checksum verified.
pub(super) struct RowView<'a> {
    pub version: Version,
    pub lsn: Lsn,
    pub gaps: Option<Gaps>,
    pub wake: Option<Wake>,
    pub state: &'a [u8],
}

impl RowView<'_> {
    pub(super) fn to_owned(&self) -> StoredRow {
        let RowView { version, lsn, gaps, wake, state } = *self;
        StoredRow { version, lsn, gaps, wake, state: state.to_vec() }
    }
}

/// The state row of the entity with row key `key`.
pub(super) fn encode_state(key: &[u8], row: &StoredRow) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(STATE_ROW_OVERHEAD_BYTES + row.state.len());
    bytes.push(ROW_FORMAT);
    bytes.extend_from_slice(&row.version.0.to_le_bytes());
    bytes.extend_from_slice(&row.lsn.0.to_le_bytes());
    let Gaps { missing, waiting } = row.gaps.unwrap_or_default();
    let mut holds = 0;
    holds |= if row.gaps.is_some() { EXISTS } else { 0 };
    holds |= if waiting == 0 { 0 } else { WAITS };
    holds |= if row.wake.is_some() { WAKES } else { 0 };
    bytes.push(holds);
    if row.gaps.is_some() {
        bytes.extend_from_slice(&missing.to_le_bytes());
    }
    if waiting != 0 {
        bytes.extend_from_slice(&waiting.to_le_bytes());
    }
    if let Some(Wake(at)) = row.wake {
        bytes.extend_from_slice(&at.to_le_bytes());
    }
    bytes.extend_from_slice(&row.state);
    seal("entities", key, &mut bytes);
    bytes
}

/// Reads what [`encode_state`] made.
pub(super) fn view_state<'a>(key: &[u8], bytes: &'a [u8]) -> Result<RowView<'a>, StoreError> {
    let body = unseal("entities", key, bytes)?;
    let parts = || {
        let (version, rest) = split_u64(body)?;
        let (lsn, rest) = split_u64(rest)?;
        let (&holds, rest) = rest.split_first()?;
        let optional = |bit: u8, rest| if holds & bit == 0 { Some((0, rest)) } else { split_u64(rest) };
        let (missing, rest) = optional(EXISTS, rest)?;
        let (waiting, rest) = optional(WAITS, rest)?;
        let (wake, state) = optional(WAKES, rest)?;
        let gaps = (holds & EXISTS != 0).then_some(Gaps { missing, waiting });
        let wake = (holds & WAKES != 0).then_some(Wake(wake.cast_signed()));
        Some(RowView { version: Version(version), lsn: Lsn(lsn), gaps, wake, state })
    };
    parts().ok_or_else(|| StoreError::corrupt("entities", key, "the row is too short"))
}

/// The row of an identity.
pub(super) fn encode_identity(key: &[u8], identity: StoredIdentity) -> [u8; IDENTITY_ROW_BYTES] {
    let mut bytes = [0; IDENTITY_ROW_BYTES];
    bytes[0] = ROW_FORMAT;
    bytes[1..9].copy_from_slice(&identity.payload.0.to_le_bytes());
    bytes[9..17].copy_from_slice(&identity.seen_ms.to_le_bytes());
    let crc = checksum("identities", key, &bytes[..17]);
    bytes[17..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads what [`encode_identity`] made.
pub(super) fn decode_identity(key: &[u8], bytes: &[u8; IDENTITY_ROW_BYTES]) -> Result<StoredIdentity, StoreError> {
    let body = unseal("identities", key, bytes)?;
    let parts = || {
        let (payload, rest) = split_u64(body)?;
        let (seen_ms, _) = split_u64(rest)?;
        Some(StoredIdentity { payload: PayloadHash(payload), seen_ms: seen_ms.cast_signed() })
    };
    parts().ok_or_else(|| StoreError::corrupt("identities", key, "the row is too short"))
}

/// What a row of the history holds besides the positions.
pub(super) const HISTORY_ROW_OVERHEAD_BYTES: usize = 1 + CRC_BYTES;

/// The row of a chunk of positions; where it begins is in its key.
pub(super) fn encode_chunk(key: &[u8], chunk: &LsnChunk) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HISTORY_ROW_OVERHEAD_BYTES + chunk.deltas().len());
    bytes.push(ROW_FORMAT);
    bytes.extend_from_slice(chunk.deltas());
    seal("history", key, &mut bytes);
    bytes
}

/// Reads what [`encode_chunk`] made of a chunk that begins at `first`.
pub(super) fn decode_chunk(key: &[u8], first: Lsn, bytes: &[u8]) -> Result<LsnChunk, StoreError> {
    let body = unseal("history", key, bytes)?;
    LsnChunk::new(first, body).ok_or_else(|| StoreError::corrupt("history", key, "it holds no positions"))
}

/// A row of one of the small tables.
pub(super) fn encode_record<T: Encode>(table: &'static str, key: &[u8], value: &T) -> Vec<u8> {
    let mut bytes = codec::encode(ROW_FORMAT, value);
    seal(table, key, &mut bytes);
    bytes
}

/// Reads what [`encode_record`] made.
pub(super) fn decode_record<T: Decode<()>>(table: &'static str, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    let body = unseal(table, key, bytes)?;
    codec::decode_bare(body).map_err(|why: CodecError| StoreError::corrupt(table, key, why.to_string()))
}

/// Appends the checksum.
fn seal(table: &'static str, key: &[u8], bytes: &mut Vec<u8>) {
    let crc = checksum(table, key, bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
}

/// Verifies the checksum, then the format, in this order: a damaged row must not pass for one of the future.
pub(super) fn unseal<'a>(table: &'static str, key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let Some((sealed, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else {
        return Err(StoreError::corrupt(table, key, "the row is too short"));
    };
    if checksum(table, key, sealed) != u32::from_le_bytes(*crc) {
        return Err(StoreError::corrupt(table, key, "the row's checksum does not match"));
    }
    match sealed.split_first() {
        Some((&ROW_FORMAT, body)) => Ok(body),
        Some((&found, _)) => {
            Err(StoreError::NewerFormat { what: table, found: found.into(), expected: ROW_FORMAT.into() })
        }
        None => Err(StoreError::corrupt(table, key, "the row is empty")),
    }
}

/// The key's length goes in too, so that bytes cannot move between key and value unnoticed.
fn checksum(table: &'static str, key: &[u8], sealed: &[u8]) -> u32 {
    let mut crc = crc32c::crc32c(table.as_bytes());
    crc = crc32c::crc32c_append(crc, &(key.len() as u64).to_le_bytes());
    crc = crc32c::crc32c_append(crc, key);
    crc32c::crc32c_append(crc, sealed)
}

fn split_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{TypeGauges, TypeMark};

    fn row() -> StoredRow {
        let gaps = Some(Gaps { missing: 5, waiting: 0 });
        StoredRow { version: Version(3), lsn: Lsn(258), gaps, wake: None, state: b"st".to_vec() }
    }

    /// These bytes are on people's disks; were they to change, FORMAT bytes must too.
    #[test]
    fn golden_bytes() {
        let key = b"order\0a";
        #[rustfmt::skip]
        let state = [1,  3, 0, 0, 0, 0, 0, 0, 0,  2, 1, 0, 0, 0, 0, 0, 0,  1,  5, 0, 0, 0, 0, 0, 0, 0,  b's', b't'];
        check("state", &encode_state(key, &row()), &state, 0x6b6c_8892);

        let gaps = Some(Gaps { missing: 5, waiting: 6 });
        let full = StoredRow { gaps, wake: Some(Wake(-2)), ..row() };
        #[rustfmt::skip]
        let state = [1,  3, 0, 0, 0, 0, 0, 0, 0,  2, 1, 0, 0, 0, 0, 0, 0,  7,  5, 0, 0, 0, 0, 0, 0, 0,
            6, 0, 0, 0, 0, 0, 0, 0,  254, 255, 255, 255, 255, 255, 255, 255,  b's', b't'];
        check("full state", &encode_state(key, &full), &state, 0x5de2_5fe8);
        assert_eq!(view_state(key, &encode_state(key, &full)).expect("a sound row").to_owned(), full);
        let unheard_of = StoredRow { gaps: None, ..row() };
        assert_eq!(view_state(key, &encode_state(key, &unheard_of)).expect("a sound row").to_owned(), unheard_of);

        let identity = StoredIdentity { payload: PayloadHash(0x0102), seen_ms: -2 };
        #[rustfmt::skip]
        let bytes = [1,  2, 1, 0, 0, 0, 0, 0, 0,  254, 255, 255, 255, 255, 255, 255, 255];
        check("identity", &encode_identity(&[9; 32], identity), &bytes, 0x45fe_d124);

        let chunk = LsnChunk::new(Lsn(7), &[1, 0x80, 1]).expect("positions");
        check("chunk", &encode_chunk(&[9; 24], &chunk), &[1, 1, 0x80, 1], 0x4566_b703);
        assert_eq!(decode_chunk(&[9; 24], Lsn(7), &encode_chunk(&[9; 24], &chunk)).expect("a sound row"), chunk);

        check("mark", &encode_record("meta", b"watermark", &Lsn(300)), &[1, 251, 44, 1], 0xe4c6_d2c3);
        check("uuid", &encode_record("meta", b"uuid", &[7_u8; 16]), &[&[1][..], &[7; 16]].concat(), 0xf03a_9029);

        let gauges = TypeGauges { entities: 4, missing: vec![0, 2], waiting: vec![1] };
        check("gauges", &encode_record("gauges", b"order", &gauges), &[1, 4, 2, 0, 2, 1, 1], 0x5eb4_5632);

        let mark = TypeMark::settled([8; 32], vec!["pay".into()]);
        let bytes = [&[1][..], &[8; 32], &[1, 0, 1, 3], b"pay"].concat();
        check("type", &encode_record("types", b"order", &mark), &bytes, 0xb816_648d);
    }

    fn check(what: &str, row: &[u8], body: &[u8], crc: u32) {
        assert_eq!(row, [body, &crc.to_le_bytes()].concat(), "{what}: {:#x}", {
            let (_, crc) = row.split_last_chunk::<4>().expect("a row has a checksum");
            u32::from_le_bytes(*crc)
        });
    }

    /// A row that was changed, cut, or put under another key or table must not be taken for a state.
    #[test]
    fn damage_is_found() {
        let key = b"order\0a";
        let sound = encode_state(key, &row());
        assert_eq!(view_state(key, &sound).expect("a sound row").to_owned(), row());
        for at in 0..sound.len() {
            for bit in 0..8 {
                let mut damaged = sound.clone();
                damaged[at] ^= 1 << bit;
                assert!(matches!(view_state(key, &damaged), Err(StoreError::Corrupt { .. })), "byte {at} bit {bit}");
            }
            assert!(matches!(view_state(key, &sound[..at]), Err(StoreError::Corrupt { .. })), "cut to {at}");
        }
        assert!(matches!(view_state(b"order\0b", &sound), Err(StoreError::Corrupt { .. })), "another key");
        assert!(matches!(unseal("gauges", key, &sound), Err(StoreError::Corrupt { .. })), "another table");
    }

    /// A sound row of a later format says so, instead of looking damaged.
    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut bytes = vec![ROW_FORMAT + 1, 0, 0];
        seal("entities", b"k", &mut bytes);
        assert!(matches!(view_state(b"k", &bytes), Err(StoreError::NewerFormat { found: 2, expected: 1, .. })));
    }
}
