//! What is known of one entity: merged fields, the ledger of decisions, and the identities that counted.
//! Compact, because a live entity keeps it in memory; changed by `rules::evolve` alone.

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};

pub use super::book::LsnBook;
use super::codec::{self, CodecError};
use super::dealings::Dealings;
use super::identities::Identities;
use super::ids::{Revision, Version};
use super::number::Decimal;
use super::packed::Packed;
use super::pause::Pause;
use super::record::DecisionState;
use super::sort_key::SortKey;
use super::system::SystemState;
use super::time::Timestamp;
use super::value::{Map, Value};

/// Format of encoded states.
pub const STATE_FORMAT: u8 = 3;

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
    /// With others and with time; boxed, since most have none.
    pub dealings: Option<Box<Dealings>>,
    /// For the system's own entities; boxed, since all others have a place for it and nothing in it.
    pub system: Option<Box<SystemState>>,
}

/// A merged value.
#[derive(Clone, Debug, PartialEq, Encode)]
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
    /// `by`: entries sorted by name, which are no `by` themselves.
    By(Vec<(Box<str>, FieldState)>),
}

/// The number of [`FieldState::By`], as it is encoded.
const BY: u32 = 6;

/// One level of `by` and no more, or made-up bytes could nest as deep as they are long.
impl<Context> Decode<Context> for FieldState {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            BY => {
                let entries = Vec::<(Box<str>, Entry)>::decode(decoder)?;
                Ok(FieldState::By(entries.into_iter().map(|(name, Entry(entry))| (name, entry)).collect()))
            }
            variant => Entry::of(variant, decoder).map(|Entry(single)| single),
        }
    }
}

bincode::impl_borrow_decode!(FieldState);

/// A field without `by`, or one entry of a field with it.
struct Entry(FieldState);

impl Entry {
    fn of<D: Decoder>(variant: u32, decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Entry(match variant {
            0 => FieldState::Register { stamp: Decode::decode(decoder)?, value: Decode::decode(decoder)? },
            1 => FieldState::Extreme { key: Decode::decode(decoder)?, value: Decode::decode(decoder)? },
            2 => FieldState::Sum(Decode::decode(decoder)?),
            3 => FieldState::Count(Decode::decode(decoder)?),
            4 => FieldState::Set(Decode::decode(decoder)?),
            5 => FieldState::List(Decode::decode(decoder)?),
            _ => return Err(DecodeError::Other("no such field state, or `by` within `by`")),
        }))
    }
}

impl<Context> Decode<Context> for Entry {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Entry::of(u32::decode(decoder)?, decoder)
    }
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
    /// The merged value, if it is a single one.
    pub fn packed(&self) -> Option<&Packed> {
        match self {
            FieldState::Register { value, .. } | FieldState::Extreme { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Whether there is a value: something was merged and has not been taken away since.
    pub fn is_present(&self) -> bool {
        match self {
            FieldState::Register { value, .. } => !value.is_null(),
            FieldState::By(entries) => entries.iter().any(|(_, entry)| entry.is_present()),
            _ => true,
        }
    }
}

/// What an entity that is there still lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Bit n is set while the n-th field of `complete` is missing.
    pub missing: u64,
    /// Bit n is set while the n-th reference points to an entity that is not there yet.
    pub waiting: u64,
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

impl State {
    /// Whether anything is known of the entity itself: one that others only wait for is not there yet. One that is paused is
    /// there to be seen, even before its first event is applied.
    pub fn exists(&self) -> bool {
        self.events > 0 || self.system.is_some() || self.pause().is_some()
    }

    /// Its pause, while it is paused or holds events.
    pub fn pause(&self) -> Option<&Pause> {
        self.dealings.as_deref()?.paused.as_deref()
    }

    /// What is counted of it over its type; none while it is not there itself.
    pub fn gaps(&self) -> Option<Gaps> {
        let waiting = self.dealings.as_deref().map_or(0, Dealings::waiting);
        self.exists().then_some(Gaps { missing: self.missing, waiting })
    }

    /// The ledger's entry of a decision.
    pub fn decision(&self, name: &str, element: Option<&str>) -> Option<&LedgerEntry> {
        self.ledger.iter().find(|entry| &*entry.name == name && entry.element.as_deref() == element)
    }

    /// A copy that keeps only the identities with a place in the state's row.
    #[must_use]
    pub fn without_overflow(&self) -> State {
        State {
            version: self.version,
            now: self.now,
            events: self.events,
            correlation: self.correlation.clone(),
            fields: self.fields.clone(),
            ledger: self.ledger.clone(),
            missing: self.missing,
            identities: self.identities.without_overflow(),
            dealings: self.dealings.clone(),
            system: self.system.clone(),
        }
    }

    /// The versions of the records that made the decisions as they stand, if the last record made any.
    pub fn standing(&self) -> Option<Box<[Version]>> {
        let is_last = |entry: &LedgerEntry| entry.version == self.version;
        self.ledger.iter().any(is_last).then(|| self.ledger.iter().map(|entry| entry.version).collect())
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

#[cfg(test)]
mod tests;
