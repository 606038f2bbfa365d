//! A record: one input and all that the entity concluded from it. The unit of the journal; `evolve` needs nothing else.

use bincode::{Decode, Encode};

use super::codec::{self, CodecError};
use super::event::PackedEvent;
use super::ids::{EntityKey, PayloadHash, Revision, Version};
use super::packed::Packed;
use super::system::{DeadLetter, SinkProgress, SinkWindow, SourceCursor};
use super::time::Timestamp;
use super::value::Value;

/// Format of encoded records.
pub const RECORD_FORMAT: u8 = 1;

/// One input and all that the entity concluded from it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Record {
    pub entity: EntityKey,
    /// The entity's version after this record.
    pub version: Version,
    /// The time `decide` was given; never before the entity's last.
    pub now: Timestamp,
    pub input: Input,
    /// The merges that change the state, in the order they are applied.
    pub merges: Vec<Merge>,
    /// Decision revisions made, withdrawals first.
    pub decisions: Vec<DecisionRevision>,
    /// Messages to other entities, sent after the commit.
    pub messages: Vec<Message>,
    /// Effects requested, started after the commit.
    pub effects: Vec<EffectRequest>,
    /// Deadlines set or moved.
    pub deadlines: Vec<DeadlineSet>,
    /// Bit n is set while the n-th field of `complete` is missing.
    pub missing: u64,
    /// Identities last seen before this time are forgotten (`dedupe` windows only).
    pub forget_before: Option<Timestamp>,
}

impl Record {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(RECORD_FORMAT, self)
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(RECORD_FORMAT, bytes)
    }

    /// Which entity the record in stored form is of; the rest of it is not looked at.
    pub fn entity_of(bytes: &[u8]) -> Result<EntityKey, CodecError> {
        codec::decode_first(RECORD_FORMAT, bytes)
    }
}

/// What an entity was given to handle.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Input {
    Event(EventInput),
    /// How far a sink has come; like all that follow, an input of the system's own entities.
    Progress(SinkProgress),
    Window(SinkWindow),
    DeadLetter(Box<DeadLetter>),
    Cursor(SourceCursor),
}

/// An event, and what the entity type's `id` and `time` made of it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct EventInput {
    pub event: PackedEvent,
    pub payload: PayloadHash,
    /// The identity's id, where the entity type's `id` overrides the event's.
    pub id: Option<Box<str>>,
    /// The event time, where the entity type's `time` overrides the event's.
    pub time: Option<Timestamp>,
}

impl EventInput {
    /// The id that counts for this entity.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.event.id)
    }

    /// The event time that counts for this entity.
    pub fn time(&self) -> Timestamp {
        self.time.unwrap_or(self.event.time)
    }
}

/// One value merged into one field.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Merge {
    /// The field, by its place among the entity type's fields in name order.
    pub slot: u16,
    pub take: Take,
    /// The entry, for fields with `by`.
    pub by: Option<Box<str>>,
    /// What `order_by` gave; `None` stands for the event time.
    pub order: Option<Value>,
    pub value: MergeValue,
}

/// Merge operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Take {
    First,
    Latest,
    Min,
    Max,
    Sum,
    Count,
    Set,
    /// Ordered; the newest `keep`, or all.
    List {
        keep: Option<u32>,
    },
}

/// A merged value, or where in the input it is.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum MergeValue {
    /// The event's whole `data`.
    Data,
    /// The event time that counts for the entity.
    Time,
    Inline(Packed),
}

/// One revision of a decision.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct DecisionRevision {
    /// The decision's name.
    pub name: Box<str>,
    /// For decisions with one per element.
    pub element: Option<Box<str>>,
    pub revision: Revision,
    pub state: DecisionState,
    /// The content; null when withdrawn.
    pub data: Packed,
    /// Later than the previous revision's.
    pub time: Timestamp,
    /// The causing event's `correlationid`, else the id of the entity's first event.
    pub correlation: Box<str>,
}

/// What a revision says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum DecisionState {
    Made,
    Revised,
    Withdrawn,
}

impl DecisionState {
    /// The state as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            DecisionState::Made => "made",
            DecisionState::Revised => "revised",
            DecisionState::Withdrawn => "withdrawn",
        }
    }
}

/// A message to another entity.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Message {
    pub to: EntityKey,
    pub content: Packed,
}

/// A call to the outside that the rules ask for.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct EffectRequest {
    pub name: Box<str>,
    /// Method, URL, headers without secrets, body.
    pub request: Packed,
}

/// A deadline set, moved (`at` is new) or taken away (`at` is none).
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct DeadlineSet {
    pub name: Box<str>,
    pub at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::TimeGiven;
    use crate::model::ids::Lsn;
    use crate::model::system::{OpenRecord, Origin};

    /// A record with every part filled.
    fn full() -> Record {
        let time = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
        Record {
            entity: EntityKey::new("order", "o\0é"),
            version: Version(3),
            now: time,
            input: Input::Event(EventInput {
                event: PackedEvent {
                    source: "shop".into(),
                    id: "e1".into(),
                    kind: "Paid".into(),
                    time,
                    time_given: TimeGiven::BySender,
                    subject: Some("s".into()),
                    data: Some(Packed::new(&Value::Int(5))),
                    extensions: Some(Packed::new(&Value::Null)),
                },
                payload: PayloadHash(7),
                id: Some("i".into()),
                time: Some(time),
            }),
            merges: vec![Merge {
                slot: 2,
                take: Take::List { keep: Some(3) },
                by: Some("b".into()),
                order: Some(Value::Int(1)),
                value: MergeValue::Inline(Packed::new(&Value::Bool(true))),
            }],
            decisions: vec![DecisionRevision {
                name: "Confirmed".into(),
                element: Some("x".into()),
                revision: Revision(2),
                state: DecisionState::Revised,
                data: Packed::new(&Value::Null),
                time,
                correlation: "c".into(),
            }],
            messages: vec![Message { to: EntityKey::new("a", "b"), content: Packed::new(&Value::Null) }],
            effects: vec![EffectRequest { name: "call".into(), request: Packed::new(&Value::Null) }],
            deadlines: vec![DeadlineSet { name: "late".into(), at: Some(time) }],
            missing: 5,
            forget_before: Some(time),
        }
    }

    /// The journal's content: a change here makes old folders unreadable.
    #[test]
    fn stored_form_is_frozen() {
        let bytes = full().encode();
        let hex: String =
            bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from_digit(n.into(), 16).unwrap()).collect();
        assert_eq!(
            hex,
            "01056f72646572046f00c3a903fc403400d600000473686f700265310450616964fc403400d600000101730102020a0101000701016901fc403400d6000102070103010162010202020201010109436f6e6669726d656401017802010100fc403400d600016301016101620100010463616c6c010001046c61746501fc403400d6000501fc403400d600"
        );
        assert_eq!(Record::decode(&bytes).unwrap(), full());
    }

    /// If this failed, folders would lose how far their sinks are, or their dead letters.
    #[test]
    fn stored_forms_of_the_systems_own_inputs_are_frozen() {
        let origin = Origin::Sink { name: "hook".into(), lsn: Lsn(9), place: 1 };
        let letter = DeadLetter {
            origin,
            reason: "exhausted".into(),
            detail: "HTTP 500".into(),
            attempts: 3,
            entity: Some(EntityKey::new("order", "o")),
            id: "order/o/Made/1".into(),
            body: b"{}".to_vec(),
        };
        let open = vec![OpenRecord { lsn: Lsn(7), finished: 2 }];
        for (input, expected) in [
            (Input::Progress(SinkProgress { delivered: Lsn(9), offset: 300 }), "0109fb2c01"),
            (Input::Window(SinkWindow { read: Lsn(300), open }), "02fb2c01010702"),
            (
                Input::DeadLetter(Box::new(letter)),
                "030004686f6f6b0901096578686175737465640848545450203530300301056f72646572016f0e6f726465722f6f2f4d6164652f31027b7d",
            ),
            (Input::Cursor(SourceCursor { position: Packed::new(&Value::Int(5)) }), "0402020a"),
        ] {
            let record = Record {
                input,
                merges: vec![],
                decisions: vec![],
                messages: vec![],
                effects: vec![],
                deadlines: vec![],
                forget_before: None,
                missing: 0,
                ..full()
            };
            let bytes = record.encode();
            let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            assert_eq!(hex, format!("01056f72646572046f00c3a903fc403400d600{expected}00000000000000"));
            assert_eq!(Record::decode(&bytes).unwrap(), record);
        }
    }

    #[test]
    fn another_format_is_refused() {
        let mut bytes = full().encode();
        bytes[0] = 9;
        assert!(matches!(Record::decode(&bytes), Err(CodecError::Format { found: 9, expected: 1 })));
    }
}
