//! A record: one input and all that the entity concluded from it. The unit of the journal; `evolve` needs nothing else.

use bincode::{Decode, Encode};

use super::codec::{self, CodecError};
use super::dealings::{DeadlineTimes, EffectOutcome, Watch};
use super::event::{PackedEvent, Sequence};
use super::ids::{EntityKey, PayloadHash, Revision, Version};
use super::life::{EXPIRE, Ending};
use super::mandate::Mandate;
use super::packed::Packed;
use super::system::{Closing, DeadLetter, Forget, RulesInForce, SinkProgress, SinkWindow, SourceCursor};
use super::time::Timestamp;
use super::value::Value;

/// Format of encoded records.
pub const RECORD_FORMAT: u8 = 3;

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
    /// References that point elsewhere; who is concerned hears of it after the commit.
    pub references: Vec<ReferenceSet>,
    /// What those who watch the entity see from now on; they hear of it after the commit.
    pub notices: Vec<Notice>,
    /// Effects requested, started after the commit.
    pub effects: Vec<EffectRequest>,
    /// Deadlines set, moved or taken away.
    pub deadlines: Vec<DeadlineSet>,
    /// Decisions that are made once the key has been quiet: all of them, after this record.
    pub settling: Vec<Box<str>>,
    /// Of `decisions` those that come back as events, by place, after the commit.
    pub feedback: Vec<u16>,
    /// Decisions that do so no more, since they came one out of the other too often.
    pub stopped: Vec<Box<str>>,
    /// Bit n is set while the n-th field of `complete` is missing.
    pub missing: u64,
    /// Identities last seen before this time are forgotten (`dedupe` windows only).
    pub forget_before: Option<Timestamp>,
}

impl Record {
    /// A record of which nothing follows but that the input is known.
    pub fn of_input(entity: EntityKey, version: Version, now: Timestamp, input: Input) -> Self {
        Record {
            entity,
            version,
            now,
            input,
            merges: Vec::new(),
            decisions: Vec::new(),
            references: Vec::new(),
            notices: Vec::new(),
            effects: Vec::new(),
            deadlines: Vec::new(),
            settling: Vec::new(),
            feedback: Vec::new(),
            stopped: Vec::new(),
            missing: 0,
            forget_before: None,
        }
    }

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
    /// From another entity.
    Message(Box<Received>),
    /// A deadline's time has come.
    Due {
        name: Box<str>,
        at: Timestamp,
    },
    /// Nothing has come for the key for as long as a decision asked for, since the record of this version.
    Quiet {
        decision: Box<str>,
        since: Version,
    },
    /// An effect's attempt begins.
    Started {
        effect: Box<str>,
        run: u32,
        attempt: u32,
    },
    /// What became of an effect.
    Ended {
        effect: Box<str>,
        run: u32,
        outcome: Box<EffectOutcome>,
    },
    /// Somebody asks that the entity be forgotten.
    Forgotten(Mandate),
    /// How far the forgetting of an entity has come; an input of the system's own.
    Forget(Box<Forget>),
    /// By hand, of an entity or of an entity type: events are held from now on.
    Paused(Mandate),
    /// By hand: what is held is released, one event after the other.
    Resumed(Mandate),
    /// An event that came while the entity or its type was paused: its identity counts, nothing else follows yet.
    Held(EventInput),
    /// The event that was held first is applied.
    Released(EventInput),
    /// By hand: a dead letter is dealt with.
    Closed(Mandate, Closing),
    /// By hand: a dead letter was tried again, in vain.
    Tried {
        mandate: Mandate,
        reason: Box<str>,
        detail: Box<str>,
    },
    /// By hand: what became of an effect.
    Resolved {
        effect: Box<str>,
        run: u32,
        outcome: Box<EffectOutcome>,
        mandate: Mandate,
    },
    /// By hand: an effect whose request is over is asked for again, as the same request.
    AskedAgain {
        effect: Box<str>,
        run: u32,
        mandate: Mandate,
    },
    /// The entity's rules are others from now on, those with this fingerprint. Its fields are what they make of its events,
    /// so nothing is merged; the record holds what else is different.
    Rules {
        fingerprint: [u8; 32],
    },
    /// All entities of a type are by these rules from now on; an input of the system's own.
    RulesNoted(RulesInForce),
}

impl Input {
    /// How many decisions that came back to their entities led to it.
    pub fn hops(&self) -> u8 {
        match self {
            Input::Event(input) | Input::Released(input) => input.hops,
            Input::Message(received) => received.hops,
            _ => 0,
        }
    }

    /// How the entity's life ends with it, if it does.
    pub fn ending(&self) -> Option<Ending> {
        match self {
            Input::Due { name, .. } if **name == *EXPIRE => Some(Ending::Expired),
            Input::Forgotten(_) => Some(Ending::Forgotten),
            _ => None,
        }
    }

    /// The event that came, if one did, applied or not.
    pub fn arrived(&self) -> Option<&EventInput> {
        match self {
            Input::Event(input) | Input::Held(input) => Some(input),
            _ => None,
        }
    }

    /// The event that is applied, if one is.
    pub fn event(&self) -> Option<&EventInput> {
        match self {
            Input::Event(input) | Input::Released(input) => Some(input),
            _ => None,
        }
    }
}

/// A message from another entity.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Received {
    pub from: EntityKey,
    /// The sender's version that says so.
    pub version: Version,
    /// What the sender's record was caused by.
    pub cause: Box<str>,
    /// What correlates what follows, if the sender was told.
    pub correlation: Option<Box<str>>,
    /// As in [`EventInput::hops`]: what went from entity to entity is no way around the limit.
    pub hops: u8,
    pub content: Content,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Content {
    /// The sender looks at the receiver through this reference of its own.
    Watch { reference: Box<str> },
    /// It does so no more.
    Unwatch { reference: Box<str> },
    /// What the receiver's reference to the sender shows.
    Notice { reference: Box<str>, shown: Packed },
    /// The receiver's reference shows nothing any more: the sender's life has ended.
    Gone { reference: Box<str> },
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
    /// How many decisions led to it, each as an event to its own entity; 0 for what came from outside.
    pub hops: u8,
    /// Its number, at the first of the entities that took it.
    pub sequence: Option<Box<Sequence>>,
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

/// A reference that shows another entity from now on, or none.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ReferenceSet {
    pub reference: Box<str>,
    /// Its place among the references of the entity type.
    pub place: u16,
    /// The entity type that the reference is to.
    pub kind: Box<str>,
    /// The key it referred to until now.
    pub from: Option<Box<str>>,
    pub to: Option<Box<str>>,
}

/// What the watchers of an entity see.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Notice {
    pub by: Watch,
    pub shown: Packed,
}

/// A call to the outside that the rules ask for.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct EffectRequest {
    pub name: Box<str>,
    /// Counts the effect's requests, from 1.
    pub run: u32,
    /// Method, URL, headers without secrets, body.
    pub request: Packed,
}

/// A deadline set or moved, or taken away.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct DeadlineSet {
    pub name: Box<str>,
    /// Its time and when it is noticed, which is not before; none: there is no such deadline any more.
    pub to: Option<DeadlineTimes>,
}

#[cfg(test)]
mod tests;
