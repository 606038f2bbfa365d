//! Who asked for something by hand, and why: part of every record that a person caused.

use bincode::{Decode, Encode};

/// Longest name and longest reason that are kept, in bytes.
pub const MANDATE_BYTES_MAX: usize = 1024;

/// Who asked, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Mandate {
    pub by: Box<str>,
    pub why: Box<str>,
}
