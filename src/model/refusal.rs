//! Saying no to an event: a stable code for programs, a message for people.

use bincode::{Decode, Encode};

/// Why an event was refused. The names are part of the interface and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Code {
    InvalidJson,
    TooLarge,
    TooDeep,
    MissingId,
    MissingType,
    InvalidTime,
    MissingTime,
    MissingKey,
    InvalidKey,
    InvalidValue,
    Unmatched,
    Conflict,
    Unauthorized,
    Busy,
    Internal,
}

impl Code {
    /// Every code, for metrics and documentation.
    pub const ALL: [Code; 15] = [
        Code::InvalidJson,
        Code::TooLarge,
        Code::TooDeep,
        Code::MissingId,
        Code::MissingType,
        Code::InvalidTime,
        Code::MissingTime,
        Code::MissingKey,
        Code::InvalidKey,
        Code::InvalidValue,
        Code::Unmatched,
        Code::Conflict,
        Code::Unauthorized,
        Code::Busy,
        Code::Internal,
    ];

    /// The code as it is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidJson => "invalid_json",
            Code::TooLarge => "too_large",
            Code::TooDeep => "too_deep",
            Code::MissingId => "missing_id",
            Code::MissingType => "missing_type",
            Code::InvalidTime => "invalid_time",
            Code::MissingTime => "missing_time",
            Code::MissingKey => "missing_key",
            Code::InvalidKey => "invalid_key",
            Code::InvalidValue => "invalid_value",
            Code::Unmatched => "unmatched",
            Code::Conflict => "conflict",
            Code::Unauthorized => "unauthorized",
            Code::Busy => "busy",
            Code::Internal => "internal",
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: the code and what to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    pub code: Code,
    pub message: String,
}

impl Refusal {
    /// A refusal with a message for the sender.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into() }
    }
}
