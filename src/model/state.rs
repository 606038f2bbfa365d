//! What is known of one entity: merged fields, the ledger of decisions, and the identities that counted.
//! Compact, because a live entity keeps it in memory; changed by `rules::evolve` alone.

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};

use super::codec::{self, CodecError};
use super::dealings::Dealings;
use super::identities::Identities;
use super::ids::{Lsn, Revision, Version};
use super::number::Decimal;
use super::packed::Packed;
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

/// Where in the journal the records are that people ask for: the last one, and those that made standing decisions.
/// Kept beside the state, not in it, since only the commit of a record tells its LSN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct LsnBook {
    pub version: Version,
    pub last: Lsn,
    decisions: Box<[(Version, Lsn)]>,
}

impl LsnBook {
    /// Notes that the record of `version` was committed at `lsn`.
    /// `standing` are the versions of the standing decisions after it, if it made any.
    pub fn note(&mut self, version: Version, lsn: Lsn, standing: Option<&[Version]>) {
        self.version = version;
        self.last = lsn;
        if let Some(standing) = standing {
            // A replay notes what the book may know already.
            let stands = |(known, _): &&(Version, Lsn)| *known != version && standing.contains(known);
            self.decisions = self.decisions.iter().filter(stands).copied().chain([(version, lsn)]).collect();
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
    /// Whether anything is known of the entity itself: one that others only wait for is not there yet.
    pub fn exists(&self) -> bool {
        self.events > 0 || self.system.is_some()
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
mod tests {
    use super::*;
    use crate::model::dealings::{
        Deadline, DeadlineTimes, Effect, EffectOutcome, EffectStage, View, Watch, Watched, Watcher,
    };
    use crate::model::identities::Seen;
    use crate::model::ids::{EntityKey, IdentityHash, PayloadHash};
    use crate::model::life::{End, Ending, Past, PastDecision};
    use crate::model::system::{DeadLetter, OpenRecord, Origin, SinkProgress, SinkWindow};

    fn key(byte: u8) -> SortKey {
        Box::new([byte])
    }

    fn int(value: i64) -> Packed {
        Packed::new(&Value::Int(value))
    }

    /// A state with every part filled.
    fn full() -> State {
        let time = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
        let mut identities = Identities::default();
        identities.push(Seen { id: IdentityHash([1; 16]), payload: PayloadHash(2), at_ms: 3 });
        identities.push(Seen { id: IdentityHash([4; 16]), payload: PayloadHash(u64::MAX), at_ms: -5 });
        identities.spill_through(IdentityHash([1; 16]));
        State {
            version: Version(300),
            now: time,
            events: 299,
            correlation: "c\0é".into(),
            fields: vec![
                None,
                Some(FieldState::Register { stamp: key(1), value: int(1) }),
                Some(FieldState::Extreme { key: key(2), value: int(2) }),
                Some(FieldState::Sum(Decimal::from(-12))),
                Some(FieldState::Count(4)),
                Some(FieldState::Set(vec![(key(5), int(5))])),
                Some(FieldState::List(vec![(key(6), int(6))])),
                Some(FieldState::By(vec![("b".into(), FieldState::Count(7))])),
            ],
            ledger: vec![LedgerEntry {
                name: "Confirmed".into(),
                element: Some("x".into()),
                revision: Revision(2),
                state: DecisionState::Withdrawn,
                data: int(8),
                time,
                version: Version(9),
            }],
            missing: 5,
            identities,
            dealings: Some(Box::new(dealings())),
            system: Some(Box::new(SystemState::Progress(SinkProgress { delivered: Lsn(9), offset: 300 }))),
        }
    }

    fn dealings() -> Dealings {
        let time = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
        let outcome = EffectOutcome {
            stage: EffectStage::Failed,
            status: Some(500),
            response: Some(int(1)),
            error: Some("e".into()),
        };
        Dealings {
            views: vec![View {
                reference: "r".into(),
                place: 2,
                to: "k".into(),
                since: time,
                version: Version(2),
                content: Some(int(3)),
            }],
            watched: vec![Watched {
                by: Watch { kind: "t".into(), reference: "r".into() },
                content: Some(int(4)),
                version: Version(5),
                watchers: vec![Watcher { key: "w".into(), version: Version(6), is_watching: true }],
            }],
            deadlines: vec![Deadline {
                name: "d".into(),
                times: DeadlineTimes { at: time, due: time, has_passed: true },
            }],
            effects: vec![Effect {
                name: "e".into(),
                run: 1,
                request: int(7),
                stage: EffectStage::Failed,
                attempts: 2,
                at: time,
                outcome: Some(outcome),
            }],
            settling: vec!["s".into()],
            noise: Version(8),
            stopped: vec!["x".into()],
            past: Some(Box::new(Past {
                ended: Version(10),
                end: Some(End { at: time, how: Ending::Forgotten }),
                decisions: vec![PastDecision {
                    name: "P".into(),
                    element: Some("e".into()),
                    revision: Revision(11),
                    time,
                }],
            })),
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }

    /// The store's content: a change here makes old folders unreadable.
    #[test]
    fn stored_form_is_frozen() {
        let bytes = full().encode();
        assert_eq!(
            hex(&bytes),
            "03fb2c01fc403400d600fb2b01046300c3a908000100010102020201010102020204010201f400010304010401010502020a010501010602020c010601016203070109436f6e6669726d65640101780202020210fc403400d60009050104040404040404040404040404040404fdffffffffffffffff09010101017202016bfc403400d6000201020206010174017201020208050101770601010164fc403400d600fc403400d600010101650102020e0302fc403400d600010301fbf4010102020201016501017308010178010a01fc403400d600010101500101650bfc403400d600010009fb2c01"
        );
        assert_eq!(State::decode(&bytes).unwrap(), full());
        assert_eq!(hex(&State::default().encode()), "03000000000000000000000000");
        let open = vec![OpenRecord { lsn: Lsn(7), finished: 2 }];
        let of = |system| State { system: Some(Box::new(system)), ..State::default() };
        let window = of(SystemState::Window(SinkWindow { read: Lsn(9), open }));
        assert_eq!(hex(&window.encode()), "030000000000000000000000010109010702");
        assert_eq!(State::decode(&window.encode()).unwrap(), window);
        let letter = DeadLetter {
            origin: Origin::Sink { name: "h".into(), lsn: Lsn(9), place: 1 },
            reason: "r".into(),
            detail: "d".into(),
            attempts: 3,
            entity: Some(EntityKey::new("t", "k")),
            id: "i".into(),
            body: b"{}".to_vec(),
        };
        let letter = of(SystemState::DeadLetter(letter));
        assert_eq!(hex(&letter.encode()), "030000000000000000000000010200016809010172016403010174016b0169027b7d");
        assert_eq!(State::decode(&letter.encode()).unwrap(), letter);
        let mut book = LsnBook::default();
        book.note(Version(9), Lsn(1000), Some(&[Version(9)]));
        book.note(Version(10), Lsn(70_000), None);
        let bytes = codec::encode(STATE_FORMAT, &book);
        assert_eq!(hex(&bytes), "030afc701101000109fbe803");
        assert_eq!(codec::decode::<LsnBook>(STATE_FORMAT, &bytes).unwrap(), book);
    }

    /// If this failed, what only the system's entities have would cost memory in every live entity.
    #[test]
    fn what_the_system_has_takes_one_word() {
        assert_eq!(size_of::<Option<Box<SystemState>>>(), size_of::<usize>());
        assert!(size_of::<State>() <= 168, "{}", size_of::<State>());
    }

    /// If this failed, bytes that nobody vouches for could end the process: each level takes its part of the stack.
    #[test]
    fn entries_of_by_hold_no_others() {
        let one = codec::encode(STATE_FORMAT, &FieldState::By(vec![("b".into(), FieldState::Count(7))]));
        assert!(codec::decode::<FieldState>(STATE_FORMAT, &one).is_ok());
        let nested = [&[STATE_FORMAT][..], &[6, 1, 1, b'b'].repeat(100_000), &[3, 7]].concat();
        assert!(codec::decode::<FieldState>(STATE_FORMAT, &nested).is_err());
    }

    /// If this failed, a damaged row could be taken for another state.
    #[test]
    fn what_is_cut_short_or_has_more_behind_it_is_refused() {
        let bytes = full().encode();
        for length in 0..bytes.len() {
            assert!(State::decode(&bytes[..length]).is_err(), "cut to {length}");
        }
        assert!(matches!(State::decode(&[&bytes[..], &[0]].concat()), Err(CodecError::Trailing(1))));
    }

    #[test]
    fn the_book_knows_the_last_record_and_those_of_standing_decisions() {
        let mut book = LsnBook::default();
        book.note(Version(1), Lsn(10), Some(&[Version(1)]));
        book.note(Version(2), Lsn(20), Some(&[Version(1), Version(2)]));
        book.note(Version(3), Lsn(30), None);
        book.note(Version(4), Lsn(40), Some(&[Version(4), Version(2)]));
        book.note(Version(5), Lsn(50), None);
        let known: Vec<_> = (1..=5).map(|version| book.lsn_of(Version(version)).map(|lsn| lsn.0)).collect();
        assert_eq!(known, [None, Some(20), None, Some(40), Some(50)]);
    }
}
