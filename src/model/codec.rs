//! The one place where bincode is used. Every stored structure starts with a format byte, is decoded under a size limit,
//! and must be consumed to its last byte.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{BorrowDecode, Decode, Encode};

/// The largest encoded structure that is accepted, in bytes; guards decoding against lengths made up by bad bytes.
pub const ENCODED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Room for most encoded structures, in bytes; so that few have to grow while they are encoded.
const ENCODED_BYTES_USUAL: usize = 512;

const CONFIG: Configuration<LittleEndian, Varint, Limit<ENCODED_BYTES_MAX>> =
    bincode::config::standard().with_limit::<ENCODED_BYTES_MAX>();

/// Why stored bytes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("format {found} is not one this version can read (it reads {expected}); use a newer turnstile")]
    Format { found: u8, expected: u8 },
    #[error("the bytes are empty")]
    Empty,
    #[error("{0} bytes are left over")]
    Trailing(usize),
    #[error("the bytes do not decode")]
    Malformed(#[from] bincode::error::DecodeError),
}

/// Encodes `value` behind the format byte `format`.
pub fn encode<T: Encode>(format: u8, value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENCODED_BYTES_USUAL);
    bytes.push(format);
    encode_into(&mut bytes, value);
    bytes
}

/// Appends `value`, without a format byte, to `bytes`.
pub fn encode_into<T: Encode>(bytes: &mut Vec<u8>, value: &T) {
    // Writing into a Vec fails only for types that refuse to be encoded; none of ours does.
    bincode::encode_into_std_write(value, bytes, CONFIG).expect("in-memory encoding of own types cannot fail");
}

/// Decodes what [`encode`] made.
pub fn decode<T: Decode<()>>(format: u8, bytes: &[u8]) -> Result<T, CodecError> {
    decode_bare(behind_format(format, bytes)?)
}

/// Decodes what [`encode`] made of a structure that begins with a `T`, and that part only.
pub fn decode_first<'b, T: BorrowDecode<'b, ()>>(format: u8, bytes: &'b [u8]) -> Result<T, CodecError> {
    decode_front(&mut behind_format(format, bytes)?)
}

/// What follows the format byte, which must be `format`.
fn behind_format(format: u8, bytes: &[u8]) -> Result<&[u8], CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((found, _)) if *found != format => Err(CodecError::Format { found: *found, expected: format }),
        Some((_, rest)) => Ok(rest),
    }
}

/// Decodes one value off the front of `bytes`; what follows stays.
pub fn decode_front<'b, T: BorrowDecode<'b, ()>>(bytes: &mut &'b [u8]) -> Result<T, CodecError> {
    let (value, consumed) = bincode::borrow_decode_from_slice(bytes, CONFIG)?;
    *bytes = &bytes[consumed..];
    Ok(value)
}

/// Decodes what [`encode_into`] appended.
pub fn decode_bare<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, consumed) = bincode::decode_from_slice(bytes, CONFIG)?;
    match bytes.len() - consumed {
        0 => Ok(value),
        trailing => Err(CodecError::Trailing(trailing)),
    }
}
