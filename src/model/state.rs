//! What is known of one entity: merged fields, the ledger of decisions, and the identities that counted.
//! Compact, because a live entity keeps it in memory; changed by `rules::evolve` alone.

use bincode::{Decode, Encode};

use super::codec::{self, CodecError};
use super::identities::Identities;
use super::ids::{Lsn, Revision, Version};
use super::number::Decimal;
use super::record::{DecisionState, SinkProgress};
use super::sort_key::SortKey;
use super::time::Timestamp;
use super::value::{Map, Packed, Value};

/// Format of encoded states.
pub const STATE_FORMAT: u8 = 1;

/// The state of one entity. The default is the entity nothing was heard of yet.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct State {
    /// How many records made it.
    pub version: Version,
    /// The last record's time.
    pub now: Timestamp,
    /// Distinct events.
    pub events: u64,
    /// What correlates its decisions unless the causing event says otherwise: the first event's id.
    pub correlation: Box<str>,
    /// One a declared field, in name order; none until an event contributed.
    pub fields: Vec<Option<FieldState>>,
    pub ledger: Vec<LedgerEntry>,
    /// As in [`super::record::Record::missing`].
    pub missing: u64,
    pub identities: Identities,
    /// For the system's own entities.
    pub progress: Option<SinkProgress>,
}

/// A merged value.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum FieldState {
    /// `first`, `latest`: the value with the winning stamp. A null under `latest` is remembered as such.
    Register {
        stamp: SortKey,
        value: Packed,
    },
    /// `min`, `max`.
    Extreme {
        key: SortKey,
        value: Packed,
    },
    Sum(Decimal),
    Count(u64),
    /// Sorted by key, each key once.
    Set(Vec<(SortKey, Packed)>),
    /// Sorted by stamp.
    List(Vec<(SortKey, Packed)>),
    /// `by`: entries sorted by name.
    By(Vec<(Box<str>, FieldState)>),
}

impl FieldState {
    /// The value as rules and documents see it; `None` where it was taken away.
    pub fn value(&self) -> Option<Value> {
        match self {
            FieldState::Register { value, .. } | FieldState::Extreme { value, .. } => match value.unpack() {
                Value::Null => None,
                value => Some(value),
            },
            FieldState::Sum(sum) => Some(Value::decimal(sum.clone())),
            FieldState::Count(count) => Some(Value::Int(i64::try_from(*count).unwrap_or(i64::MAX))),
            FieldState::Set(items) | FieldState::List(items) => {
                Some(Value::List(items.iter().map(|(_, value)| value.unpack()).collect()))
            }
            FieldState::By(entries) => Some(Value::Map(
                entries.iter().filter_map(|(name, state)| Some((name.clone(), state.value()?))).collect::<Map>(),
            )),
        }
    }
}

impl FieldState {
    /// Whether there is a value: something was merged and has not been taken away since.
    pub fn is_present(&self) -> bool {
        match self {
            FieldState::Register { value, .. } => !matches!(value.unpack(), Value::Null),
            FieldState::By(entries) => entries.iter().any(|(_, entry)| entry.is_present()),
            _ => true,
        }
    }
}

/// The last revision of one decision.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct LedgerEntry {
    pub name: Box<str>,
    pub element: Option<Box<str>>,
    pub revision: Revision,
    pub state: DecisionState,
    pub data: Packed,
    pub time: Timestamp,
    /// The record that made it.
    pub version: Version,
}

/// Where in the journal the records are that people ask for: the last one, and those that made standing decisions.
/// Kept beside the state, not in it, since only the commit of a record tells its LSN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct LsnBook {
    pub version: Version,
    pub last: Lsn,
    decisions: Vec<(Version, Lsn)>,
}

impl LsnBook {
    /// Notes that the record of `version` was committed at `lsn`.
    pub fn note(&mut self, version: Version, lsn: Lsn, ledger: &[LedgerEntry]) {
        self.version = version;
        self.last = lsn;
        if ledger.iter().any(|entry| entry.version == version) {
            self.decisions.retain(|(version, _)| ledger.iter().any(|entry| entry.version == *version));
            self.decisions.push((version, lsn));
        }
    }

    /// Where the record of `version` is, if it is the last one or made a standing decision.
    pub fn lsn_of(&self, version: Version) -> Option<Lsn> {
        if version == self.version {
            return Some(self.last);
        }
        self.decisions.iter().find(|(known, _)| *known == version).map(|(_, lsn)| *lsn)
    }
}

impl State {
    /// The ledger's entry of a decision.
    pub fn decision(&self, name: &str, element: Option<&str>) -> Option<&LedgerEntry> {
        self.ledger.iter().find(|entry| &*entry.name == name && entry.element.as_deref() == element)
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(STATE_FORMAT, self)
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(STATE_FORMAT, bytes)
    }
}
