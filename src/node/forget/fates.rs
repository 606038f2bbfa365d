//! What becomes of the journal's records when entities are forgotten: theirs are blank from then on, and so is what others were
//! told of them. Until they are, nobody takes anything from them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::actors::Kept;
use crate::journal::Fate;
use crate::model::codec::CodecError;
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::record::{Content, Input, Record};
use crate::model::record_head::RecordHead;
use crate::model::system::{DeadLetter, FORGET_KIND, ForgetStage, Origin, SystemState};
use crate::store::{Store, StoreError};

/// So many requests are looked up at a time.
const KEYS_AT_ONCE: usize = 500;

/// Entities, and how their last life ended.
#[derive(Default)]
pub struct Fates {
    ended: HashMap<EntityKey, End>,
}

/// The record with which a life ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub version: Version,
    pub lsn: Lsn,
}

impl Fates {
    pub(super) fn new(ended: HashMap<EntityKey, End>) -> Self {
        Fates { ended }
    }

    /// What is asked for in a store and not done: what the entities had until now is as good as gone.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn pending(store: &Store) -> Result<Self, StoreError> {
        let (mut fates, mut after) = (Fates::default(), None::<Arc<str>>);
        loop {
            let keys = store.keys(FORGET_KIND, after.as_deref(), "", KEYS_AT_ONCE)?;
            let Some(last) = keys.last().cloned() else { return Ok(fates) };
            for key in keys {
                let kept = Kept::load(store, &EntityKey::new(FORGET_KIND, key))?;
                let system = kept.as_ref().and_then(|kept| kept.entity.state().system.as_deref());
                let Some(SystemState::Forget(forget)) = system else { continue };
                let version = match forget.stage {
                    ForgetStage::Asked => Version(u64::MAX),
                    ForgetStage::Ended { version } => version,
                    ForgetStage::Done { .. } => continue,
                };
                fates.ended.insert(forget.entity.clone(), End { version, lsn: Lsn::ZERO });
            }
            after = Some(last);
        }
    }

    /// Whether a record is of a life that is forgotten.
    pub fn hides(&self, entity: &EntityKey, version: Version) -> bool {
        self.ended.get(entity).is_some_and(|ended| version < ended.version)
    }

    /// Whether a dead letter holds what one of them decided.
    pub fn concerns(&self, letter: &DeadLetter) -> bool {
        let Some(end) = letter.entity.as_ref().and_then(|entity| self.ended.get(entity)) else { return false };
        matches!(&letter.origin, Origin::Sink { lsn, .. } if *lsn <= end.lsn)
    }

    /// What becomes of a record. The one with which a life ended is kept: it says who asked for it, and nothing else.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn of(&self, bytes: &[u8]) -> Result<Fate, CodecError> {
        let head = RecordHead::of(bytes)?;
        if self.hides(&head.entity, head.version) {
            return Ok(Fate::Blank);
        }
        if !head.may_quote() {
            return Ok(Fate::Keep);
        }
        let mut record = Record::decode(bytes)?;
        match &mut record.input {
            Input::DeadLetter(letter) if self.concerns(letter) => return Ok(Fate::Blank),
            Input::Message(received) => {
                let Content::Notice { reference, .. } = &received.content else { return Ok(Fate::Keep) };
                if !self.hides(&received.from, received.version) {
                    return Ok(Fate::Keep);
                }
                let reference = reference.clone();
                received.content = Content::Gone { reference };
                // What was decided from it was told with its cause, and is told so again.
                if record.decisions.is_empty() && record.effects.is_empty() {
                    received.correlation = None;
                    received.cause = Box::default();
                }
            }
            _ => return Ok(Fate::Keep),
        }
        Ok(Fate::Replace(record.encode()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mandate::Mandate;
    use crate::model::packed::Packed;
    use crate::model::record::Received;
    use crate::model::time::Timestamp;
    use crate::model::value::Value;

    fn record(key: &str, version: u64, input: Input) -> Vec<u8> {
        Record::of_input(EntityKey::new("t", key), Version(version), Timestamp::default(), input).encode()
    }

    fn notice(from: &str, version: u64) -> Input {
        let content = Content::Notice { reference: "r".into(), shown: Packed::new(&Value::string("secret")) };
        let (from, cause, correlation) = (EntityKey::new("t", from), "secret".into(), Some("secret".into()));
        Input::Message(Box::new(Received { from, version: Version(version), cause, correlation, hops: 0, content }))
    }

    fn letter(key: &str, lsn: u64) -> Input {
        Input::DeadLetter(Box::new(DeadLetter {
            origin: Origin::Sink { name: "s".into(), lsn: Lsn(lsn), place: 0 },
            reason: "exhausted".into(),
            detail: "secret".into(),
            attempts: 1,
            entity: Some(EntityKey::new("t", key)),
            id: "i".into(),
            body: b"secret".to_vec(),
            form: crate::model::system::Form::Decision,
            mandate: None,
        }))
    }

    /// If this failed, a secret would stay in the journal, or others, or the next life, would lose what is theirs.
    #[test]
    fn only_what_the_forgotten_life_held_goes() {
        let end = End { version: Version(9), lsn: Lsn(50) };
        let fates = Fates::new(HashMap::from([(EntityKey::new("t", "a"), end)]));
        let forgotten = || Input::Forgotten(Mandate::default());
        for (record, expected) in [
            (record("a", 8, notice("b", 1)), "blank"),
            (record("a", 9, forgotten()), "keep"),
            (record("a", 10, notice("b", 1)), "keep"),
            (record("b", 3, notice("a", 8)), "replace"),
            (record("b", 3, notice("a", 10)), "keep"),
            (record("b", 3, notice("c", 1)), "keep"),
            (record("b", 3, letter("a", 50)), "blank"),
            (record("b", 3, letter("a", 51)), "keep"),
            (record("b", 3, letter("b", 1)), "keep"),
        ] {
            let fate = match fates.of(&record).unwrap() {
                Fate::Keep => "keep",
                Fate::Blank => "blank",
                Fate::Replace(bytes) => {
                    assert!(!bytes.windows(6).any(|window| window == b"secret"));
                    assert!(Record::decode(&bytes).is_ok());
                    "replace"
                }
            };
            assert_eq!(fate, expected, "{:?}", Record::decode(&record));
        }
    }
}
