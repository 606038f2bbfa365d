//! What the system keeps about its own work, as small entities that are journaled, checkpointed and replayed like all
//! others: how far sinks have come, and what could not be delivered.

use bincode::{Decode, Encode};

use super::ids::{EntityKey, Lsn, Version};
use super::mandate::Mandate;
use super::outgoing::encode;
use super::packed::Packed;
use super::pause::ByHand;
use super::time::Timestamp;

/// The entity type of sinks' progress.
pub const SINK_KIND: &str = "$sink";
/// The entity type of sources' cursors.
pub const SOURCE_KIND: &str = "$source";
/// The entity type of dead letters.
pub const DEAD_LETTER_KIND: &str = "$dead_letter";
/// The entity type of what is to be forgotten, or was.
pub const FORGET_KIND: &str = "$forget";
/// The entity type of pauses of whole entity types; the key is the type's name.
pub const PAUSE_KIND: &str = "$pause";

/// The entity type of what is known of the entity types themselves: by which rules they are.
pub const RULES_KIND: &str = "$rules";

/// The state of one of the system's own entities.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum SystemState {
    Progress(SinkProgress),
    Window(SinkWindow),
    DeadLetter(DeadLetter),
    Cursor(SourceCursor),
    Forget(Forget),
    /// Whether an entity type is paused, and who said so.
    TypePause(TypePause),
    ClosedLetter(Box<Closed>),
    Rules(RulesInForce),
}

/// By which rules the entities of a type are, once those it began with were changed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RulesInForce {
    pub fingerprint: [u8; 32],
    /// Entities were made anew from the journal; otherwise they kept the values they had.
    pub is_rebuilt: bool,
}

/// What was last said of an entity type.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TypePause {
    pub is_paused: bool,
    pub by_hand: ByHand,
}

/// The forgetting of an entity: asked for by somebody, carried on after every start until it is done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Forget {
    pub entity: EntityKey,
    pub mandate: Mandate,
    /// When it was asked for.
    pub asked: Timestamp,
    pub stage: ForgetStage,
}

/// How far a forgetting has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ForgetStage {
    Asked,
    /// The entity's life has ended with its record of this version; the journal still holds those before it.
    Ended {
        version: Version,
    },
    /// So many of the journal's records were made blank, or changed, with those of others that were forgotten at that time.
    Done {
        at: Timestamp,
        records: u64,
    },
}

impl Forget {
    /// What names the forgetting of an entity.
    pub fn key(entity: &EntityKey) -> String {
        let mut key = String::new();
        encode(&mut key, entity.kind());
        key.push('/');
        encode(&mut key, entity.key());
        key
    }
}

/// How far a source has come that asks for its events.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct SourceCursor {
    /// What it needs to go on from there; only the source knows what it means.
    pub position: Packed,
}

/// How far a sink has come that delivers in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SinkProgress {
    /// Everything up to here is delivered.
    pub delivered: Lsn,
    /// File sinks: the file's length after that.
    pub offset: u64,
}

/// How far a sink has come that sends several keys' decisions at a time: everything up to `read` is finished but what is
/// open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SinkWindow {
    pub read: Lsn,
    /// Records with unfinished decisions, in order.
    pub open: Vec<OpenRecord>,
}

/// A record of which the first `finished` decisions are finished, and not all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OpenRecord {
    pub lsn: Lsn,
    pub finished: u32,
}

impl SinkWindow {
    /// The window of a sink that has delivered everything up to `read`.
    pub fn through(read: Lsn) -> Self {
        SinkWindow { read, open: Vec::new() }
    }

    /// Everything up to here is finished; the journal is needed beyond.
    pub fn delivered(&self) -> Lsn {
        self.open.first().map_or(self.read, |first| Lsn(first.lsn.0.saturating_sub(1)))
    }

    /// How many of a record's first decisions are finished; `None` if it is not known to be open.
    pub fn open_at(&self, lsn: Lsn) -> Option<u32> {
        let at = self.open.binary_search_by_key(&lsn, |open| open.lsn).ok()?;
        Some(self.open[at].finished)
    }
}

/// What nobody could be told no about, and could not be brought where it belongs.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct DeadLetter {
    pub origin: Origin,
    /// A stable word, such as `exhausted`.
    pub reason: Box<str>,
    /// What the last attempt came to, for people.
    pub detail: Box<str>,
    /// How often it was tried.
    pub attempts: u32,
    /// What it is about, if that is known.
    pub entity: Option<EntityKey>,
    /// Its id: a decision's, an event's.
    pub id: Box<str>,
    /// The bytes that were to be delivered.
    pub body: Vec<u8>,
    /// What the bytes are.
    pub form: Form,
    /// Who last had something done to it by hand.
    pub mandate: Option<Mandate>,
}

/// What the bytes of a dead letter are: what has to be known to try it again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Form {
    /// A decision as a CloudEvent in JSON.
    Decision,
    /// A row's columns as JSON, of which these, by their places, are times.
    Row { times: Vec<u16> },
    /// A message that was published under this subject: its headers, if it had some, then its payload.
    Message { subject: Box<str> },
    /// Not all of what came, so that it cannot be tried again.
    Partial,
}

/// A dead letter that somebody has dealt with. Its bytes are in the journal only.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Closed {
    pub letter: DeadLetter,
    pub how: Closing,
    pub by_hand: ByHand,
}

/// How a dead letter was dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Closing {
    /// It was tried again and went where it belongs.
    Retried,
    /// Nobody wants it any more.
    Dropped,
}

impl Closing {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Closing::Retried => "retried",
            Closing::Dropped => "dropped",
        }
    }
}

impl SystemState {
    /// The dead letter, if it is an open one.
    pub fn open_letter(&self) -> Option<&DeadLetter> {
        match self {
            SystemState::DeadLetter(letter) => Some(letter),
            _ => None,
        }
    }
}

/// Where a dead letter lay when it was given up.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Origin {
    /// The decision of a record, by its place among the record's decisions.
    Sink { name: Box<str>, lsn: Lsn, place: u32 },
    /// Something that a source was given, by what the source calls its place.
    Source { name: Box<str>, position: Box<str> },
}

impl Origin {
    /// What names the dead letter. The same origin always gives the same key, so that nothing is recorded twice; keys of
    /// one sink are in the order of the journal.
    pub fn key(&self) -> String {
        match self {
            Origin::Sink { name, lsn, place } => format!("sink.{name}.{:020}.{place:04}", lsn.0),
            Origin::Source { name, position } => format!("source.{name}.{position}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a restart would skip decisions, or the journal would be trimmed under a sink.
    #[test]
    fn a_window_is_delivered_up_to_its_first_open_record() {
        let mut window = SinkWindow::through(Lsn(9));
        assert_eq!((window.delivered(), window.open_at(Lsn(9))), (Lsn(9), None));
        window.open = vec![OpenRecord { lsn: Lsn(4), finished: 0 }, OpenRecord { lsn: Lsn(7), finished: 2 }];
        assert_eq!(window.delivered(), Lsn(3));
        let open: Vec<_> = (3..9).filter_map(|lsn| window.open_at(Lsn(lsn))).collect();
        assert_eq!(open, [0, 2]);
    }

    /// If this failed, dead letters would be listed out of order, or one would be recorded twice.
    #[test]
    fn keys_of_dead_letters_are_in_the_order_of_the_journal() {
        let key = |lsn, place| Origin::Sink { name: "hook".into(), lsn: Lsn(lsn), place }.key();
        assert_eq!(key(7, 1), "sink.hook.00000000000000000007.0001");
        let keys = [key(7, 1), key(7, 2), key(7, 10), key(10, 0), key(u64::MAX, 0)];
        assert!(keys.is_sorted(), "{keys:?}");
    }
}
