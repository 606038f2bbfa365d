//! The lives of an entity: one ends when it expires or when somebody asks that it be forgotten, and the next begins with
//! the next event. What outlives it keeps the promises that were made: revisions go on counting, calls that were begun are
//! not repeated, whoever watches is still told.

use bincode::{Decode, Encode};

use super::dealings::{Effect, EffectOutcome, EffectStage};
use super::identities::Identities;
use super::ids::{Revision, Version};
use super::packed::Packed;
use super::state::{LedgerEntry, State};
use super::time::Timestamp;
use super::value::Value;

/// The deadline at which an entity expires, among those that its rules declare; none of them can be called so.
pub const EXPIRE: &str = "$expire";

/// What is kept of earlier lives.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct Past {
    /// The version of the record with which the last one ended.
    pub ended: Version,
    /// How it ended, while no new one has begun.
    pub end: Option<End>,
    /// Last revisions, of decisions and elements each one.
    pub decisions: Vec<PastDecision>,
}

/// The end of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct End {
    pub at: Timestamp,
    pub how: Ending,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Ending {
    /// Nothing was heard of it for long enough.
    Expired,
    /// Somebody asked for it; nothing of what it held is left.
    Forgotten,
}

impl Ending {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Expired => "expired",
            Ending::Forgotten => "forgotten",
        }
    }
}

/// The last revision of a decision that an earlier life made; without what it said.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct PastDecision {
    pub name: Box<str>,
    pub element: Option<Box<str>>,
    pub revision: Revision,
    pub time: Timestamp,
}

impl PastDecision {
    fn of(entry: LedgerEntry) -> Self {
        let LedgerEntry { name, element, revision, time, .. } = entry;
        PastDecision { name, element, revision, time }
    }

    fn is(&self, name: &str, element: Option<&str>) -> bool {
        &*self.name == name && self.element.as_deref() == element
    }
}

impl State {
    /// What is kept of earlier lives, if there were any.
    pub fn past(&self) -> Option<&Past> {
        self.dealings.as_deref()?.past.as_deref()
    }

    /// The version of the record with which the last life ended; what was sent or stored up to there is of that one.
    pub fn ended(&self) -> Version {
        self.past().map_or(Version(0), |past| past.ended)
    }

    /// How it ended, if it was there once and is not now.
    pub fn end(&self) -> Option<End> {
        self.past()?.end
    }

    /// The last revision of a decision in an earlier life.
    pub fn past_decision(&self, name: &str, element: Option<&str>) -> Option<&PastDecision> {
        self.past()?.decisions.iter().find(|past| past.is(name, element))
    }

    /// Ends its life with the record that made it as it is.
    pub fn end_life(&mut self, how: Ending) {
        self.events = 0;
        self.correlation = Box::default();
        self.fields = Vec::new();
        self.missing = 0;
        self.identities = Identities::default();
        let ledger = std::mem::take(&mut self.ledger);
        let dealings = self.dealings.get_or_insert_default();
        dealings.views.clear();
        dealings.deadlines.clear();
        dealings.settling.clear();
        dealings.stopped.clear();
        for watched in &mut dealings.watched {
            (watched.content, watched.version) = (None, self.version);
        }
        if how == Ending::Forgotten {
            dealings.effects.iter_mut().for_each(Effect::forget);
        }
        let past = dealings.past.get_or_insert_default();
        past.ended = self.version;
        past.end = Some(End { at: self.now, how });
        for entry in ledger {
            past.decisions.retain(|known| !known.is(&entry.name, entry.element.as_deref()));
            past.decisions.push(PastDecision::of(entry));
        }
    }

    /// A new life begins, if one has ended.
    pub fn begin_life(&mut self) {
        if let Some(past) = self.dealings.as_deref_mut().and_then(|dealings| dealings.past.as_deref_mut()) {
            past.end = None;
        }
    }
}

impl Effect {
    /// Keeps only that it was asked for, and how far it came. One that is under way ends here: what comes of it is not noted.
    fn forget(&mut self) {
        self.request = Packed::new(&Value::Null);
        self.stage = match self.stage {
            EffectStage::Requested => EffectStage::Failed,
            EffectStage::Started => EffectStage::Unknown,
            ended => ended,
        };
        let status = self.outcome.as_ref().and_then(|outcome| outcome.status);
        self.outcome = Some(EffectOutcome { stage: self.stage, status, response: None, error: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dealings::Dealings;
    use crate::model::record::DecisionState;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(i128::from(seconds) * 1_000_000_000).unwrap()
    }

    fn text(text: &str) -> Packed {
        Packed::new(&Value::string(text))
    }

    /// A state with a decision of this revision, a call that was answered and two that were not.
    fn state(revision: u32) -> State {
        let mut dealings = Dealings::default();
        for name in ["asked", "begun", "answered"] {
            dealings.request(name, 1, text("secret"), time(1));
        }
        dealings.start("begun", 1, 1);
        dealings.start("answered", 1, 1);
        let (response, error) = (Some(text("secret")), Some("secret".into()));
        let outcome = EffectOutcome { stage: EffectStage::Succeeded, status: Some(200), response, error };
        dealings.end("answered", 1, &outcome, time(2));
        let entry = LedgerEntry {
            name: "Made".into(),
            element: None,
            revision: Revision(revision),
            state: DecisionState::Made,
            data: text("secret"),
            time: time(3),
            version: Version(4),
        };
        State {
            version: Version(5),
            now: time(9),
            events: 3,
            correlation: "secret".into(),
            ledger: vec![entry],
            dealings: Some(Box::new(dealings)),
            ..State::default()
        }
    }

    /// If this failed, what somebody asked to be forgotten would stay, or a call that was begun could be made again.
    #[test]
    fn of_what_is_forgotten_only_how_far_it_came_is_left() {
        for (how, left) in [(Ending::Expired, true), (Ending::Forgotten, false)] {
            let mut state = state(2);
            state.end_life(how);
            let bytes = state.encode();
            assert_eq!(bytes.windows(6).any(|window| window == b"secret"), left, "{how:?}");
            let stages: Vec<_> = state.dealings.iter().flat_map(|it| &it.effects).map(|it| it.stage).collect();
            let expected = if left {
                [EffectStage::Requested, EffectStage::Started, EffectStage::Succeeded]
            } else {
                [EffectStage::Failed, EffectStage::Unknown, EffectStage::Succeeded]
            };
            assert_eq!(stages, expected, "{how:?}");
            assert_eq!(state.end(), Some(End { at: time(9), how }));
            assert_eq!((state.exists(), state.ended()), (false, Version(5)));
            assert_eq!(State::decode(&bytes).unwrap(), state);
        }
    }

    /// If this failed, a second life's revisions would be lost with it, and its numbers be given again.
    #[test]
    fn the_last_revision_of_any_life_is_kept() {
        let mut first = state(2);
        first.end_life(Ending::Expired);
        let mut second = State { dealings: first.dealings, ..state(3) };
        second.begin_life();
        assert_eq!(second.end(), None);
        second.end_life(Ending::Expired);
        assert_eq!(second.past().unwrap().decisions.len(), 1);
        assert_eq!(second.past_decision("Made", None).unwrap().revision, Revision(3));
        assert_eq!(second.past_decision("Made", Some("x")), None);
    }
}
