//! How a stored record begins, for those who look for a few among many: the rest of it is not looked at.

use bincode::{Decode, Encode};

use super::codec::{self, CodecError};
use super::ids::{EntityKey, Version};
use super::record::RECORD_FORMAT;
use super::time::Timestamp;

/// What every record says first.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct RecordHead {
    pub entity: EntityKey,
    pub version: Version,
    pub now: Timestamp,
    /// Which [`super::record::Input`] it is of, by its place among them.
    input: u32,
}

/// The places of [`super::record::Input::DeadLetter`] and [`super::record::Input::Message`].
const DEAD_LETTER: u32 = 3;
const MESSAGE: u32 = 5;
/// Those of [`super::record::Input::Due`], [`super::record::Input::Forgotten`], [`super::record::Input::Held`] and
/// [`super::record::Input::Released`].
const DUE: u32 = 6;
const FORGOTTEN: u32 = 10;
const HELD: u32 = 14;
const RELEASED: u32 = 15;

impl RecordHead {
    /// The beginning of a record in stored form.
    pub fn of(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_first(RECORD_FORMAT, bytes)
    }

    /// Whether what its entity holds may be other than before.
    pub fn may_hold(&self) -> bool {
        matches!(self.input, DUE | FORGOTTEN | HELD | RELEASED)
    }

    /// Whether its input may hold what another entity says.
    pub fn may_quote(&self) -> bool {
        matches!(self.input, DEAD_LETTER | MESSAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::{Content, Input, Received, Record};
    use crate::model::system::{DeadLetter, Origin, SinkProgress};

    /// If this failed, what other entities hold of a forgotten one would be passed over.
    #[test]
    fn what_may_quote_others_is_told_from_its_first_bytes() {
        let entity = EntityKey::new("order", "o");
        let content = Content::Unwatch { reference: "r".into() };
        let (from, cause) = (entity.clone(), "c".into());
        let received = Received { from, version: Version(1), cause, correlation: None, hops: 0, content };
        let letter = DeadLetter {
            origin: Origin::Source { name: "s".into(), position: "1".into() },
            reason: "r".into(),
            detail: "d".into(),
            attempts: 1,
            entity: None,
            id: "i".into(),
            body: Vec::new(),
            form: crate::model::system::Form::Decision,
            mandate: None,
        };
        for (input, expected) in [
            (Input::Message(Box::new(received)), true),
            (Input::DeadLetter(Box::new(letter)), true),
            (Input::Progress(SinkProgress::default()), false),
        ] {
            let now = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
            let record = Record::of_input(entity.clone(), Version(300), now, input);
            let head = RecordHead::of(&record.encode()).unwrap();
            assert_eq!(head.may_quote(), expected, "{:?}", record.input);
            assert_eq!((head.entity, head.version, head.now), (record.entity, record.version, record.now));
        }
    }
}
