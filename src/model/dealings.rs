//! What an entity has to do with others and with time: whom it refers to, who watches it, its deadlines, its effects.
//! Part of its state, boxed, since most entities have none of it; changed by `rules::evolve` alone.

use bincode::{Decode, Encode};

use super::ids::{EntityKey, Version};
use super::life::Past;
use super::packed::Packed;
use super::record::ReferenceSet;
use super::time::Timestamp;
use super::trace::TraceContext;

/// All of it. The default is none.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct Dealings {
    /// References that point somewhere, by name.
    pub views: Vec<View>,
    /// What others watch of it, by who they are.
    pub watched: Vec<Watched>,
    /// Deadlines that stand, by name.
    pub deadlines: Vec<Deadline>,
    /// Effects that were ever requested, by name.
    pub effects: Vec<Effect>,
    /// Decisions that are made once the key has been quiet.
    pub settling: Vec<Box<str>>,
    /// The version of the last record that was no rest after such a wait: what quiet is counted from.
    pub noise: Version,
    /// Decisions that came back to the entity too often, one out of the other, and do so no more.
    pub stopped: Vec<Box<str>>,
    /// What is kept of earlier lives.
    pub past: Option<Box<Past>>,
}

/// What a reference shows.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct View {
    pub reference: Box<str>,
    /// The reference's place among those of its entity type.
    pub place: u16,
    /// The key it refers to.
    pub to: Box<str>,
    /// Since when.
    pub since: Timestamp,
    /// The version of the entity it shows; 0 until that is known to exist.
    pub version: Version,
    /// What it shows; none until that entity exists.
    pub content: Option<Packed>,
}

/// What entities of one type see through one of their references.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Watched {
    pub by: Watch,
    /// What they were told last; none while there is nothing to tell of, since this entity does not exist yet.
    pub content: Option<Packed>,
    /// The version that made it so.
    pub version: Version,
    /// Sorted by key.
    pub watchers: Vec<Watcher>,
}

impl Watched {
    /// Whether this word of a watcher, or a later one, has come.
    pub fn has_heard(&self, key: &str, version: Version) -> bool {
        let known = self.watchers.binary_search_by(|watcher| (*watcher.key).cmp(key));
        known.is_ok_and(|at| self.watchers[at].version >= version)
    }
}

/// A reference of an entity type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Watch {
    pub kind: Box<str>,
    pub reference: Box<str>,
}

/// An entity that watches, or did.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Watcher {
    pub key: Box<str>,
    /// Its version when it last said which; earlier words that come later say nothing.
    pub version: Version,
    pub is_watching: bool,
}

/// A deadline that stands.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Deadline {
    pub name: Box<str>,
    pub times: DeadlineTimes,
}

/// When a deadline is, and when it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DeadlineTimes {
    pub at: Timestamp,
    /// When it is noticed; not before `at`.
    pub due: Timestamp,
    /// It was noticed.
    pub has_passed: bool,
}

/// The last request of an effect, and how it went.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Effect {
    pub name: Box<str>,
    /// Counts its requests, from 1.
    pub run: u32,
    pub request: Packed,
    pub stage: EffectStage,
    /// Attempts begun.
    pub attempts: u32,
    /// Of the request, then of the outcome.
    pub at: Timestamp,
    pub outcome: Option<EffectOutcome>,
}

/// How far an effect's request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EffectStage {
    Requested,
    Started,
    Succeeded,
    Failed,
    /// It was started, and nobody knows what became of it.
    Unknown,
}

impl EffectStage {
    /// The state as it is shown and read by rules.
    pub fn as_str(self) -> &'static str {
        match self {
            EffectStage::Requested | EffectStage::Started => "requested",
            EffectStage::Succeeded => "succeeded",
            EffectStage::Failed => "failed",
            EffectStage::Unknown => "unknown",
        }
    }

    /// Whether its outcome is still to come.
    pub fn is_open(self) -> bool {
        matches!(self, EffectStage::Requested | EffectStage::Started)
    }
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct EffectOutcome {
    /// [`EffectStage::Succeeded`], `Failed` or `Unknown`.
    pub stage: EffectStage,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The answer's body: JSON as it is, other text as a string.
    pub response: Option<Packed>,
    /// What went wrong where there was no answer.
    pub error: Option<Box<str>>,
}

/// A request that has no outcome yet, to be brought about.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub entity: EntityKey,
    pub effect: Box<str>,
    pub run: u32,
    /// A map: `method`, `url`, `headers`, `json`.
    pub request: Packed,
    /// Attempts that were begun before, in this process or an earlier one.
    pub attempts: u32,
    /// What the entity's records are correlated by.
    pub correlation: Box<str>,
    /// Where the request belongs, as long as the process knows: it is in no state.
    pub trace: Option<Box<TraceContext>>,
}

impl Effect {
    /// The call that its request asks for.
    pub fn call(&self, entity: &EntityKey, correlation: &str) -> Call {
        let (entity, effect, request) = (entity.clone(), self.name.clone(), self.request.clone());
        let (run, attempts, correlation) = (self.run, self.attempts, correlation.into());
        Call { entity, effect, run, request, attempts, correlation, trace: None }
    }
}

impl Dealings {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
            && self.watched.is_empty()
            && self.deadlines.is_empty()
            && self.effects.is_empty()
            && self.settling.is_empty()
            && self.stopped.is_empty()
            && self.past.is_none()
    }

    pub fn view(&self, reference: &str) -> Option<&View> {
        self.views.iter().find(|view| &*view.reference == reference)
    }

    pub fn deadline(&self, name: &str) -> Option<&Deadline> {
        self.deadlines.iter().find(|deadline| &*deadline.name == name)
    }

    pub fn effect(&self, name: &str) -> Option<&Effect> {
        self.effects.iter().find(|effect| &*effect.name == name)
    }

    pub fn watched_by(&self, by: &Watch) -> Option<&Watched> {
        self.watched.iter().find(|watched| watched.by == *by)
    }

    /// The next time at which a deadline is to be noticed.
    pub fn next_due(&self) -> Option<Timestamp> {
        let standing = self.deadlines.iter().map(|deadline| deadline.times);
        standing.filter(|times| !times.has_passed).map(|times| times.due).min()
    }

    /// Bit n is set while the n-th reference points to an entity that is not there yet.
    pub fn waiting(&self) -> u64 {
        let waiting = self.views.iter().filter(|view| view.content.is_none() && u32::from(view.place) < u64::BITS);
        waiting.fold(0, |mask, view| mask | 1 << view.place)
    }

    /// Whether something was begun that goes on without any event: it is looked at when the process starts.
    pub fn is_under_way(&self) -> bool {
        !self.settling.is_empty() || self.effects.iter().any(|effect| effect.stage.is_open())
    }

    /// Points a reference at another entity, or at none.
    pub fn refer(&mut self, set: &ReferenceSet, now: Timestamp) {
        self.views.retain(|view| view.reference != set.reference);
        if let Some(to) = set.to.clone() {
            let (reference, place) = (set.reference.clone(), set.place);
            self.views.push(View { reference, place, to, since: now, version: Version(0), content: None });
        }
    }

    /// Notes what `from`, at its `version`, shows through a reference, unless the reference has moved on or newer is known.
    /// Returns whether it is news.
    pub fn see(&mut self, reference: &str, from: &EntityKey, version: Version, content: &Packed) -> bool {
        let view = self.views.iter_mut().find(|view| &*view.reference == reference && *view.to == *from.key());
        match view {
            Some(view) if version > view.version => {
                view.version = version;
                view.content = Some(content.clone());
                true
            }
            _ => false,
        }
    }

    /// Notes that `from`, at its `version`, is not there any more. Returns whether it was shown until now.
    pub fn miss(&mut self, reference: &str, from: &EntityKey, version: Version) -> bool {
        let view = self.views.iter_mut().find(|view| &*view.reference == reference && *view.to == *from.key());
        match view {
            Some(view) if version > view.version && view.content.is_some() => {
                view.version = version;
                view.content = None;
                true
            }
            _ => false,
        }
    }

    /// Notes that an entity watches, or does so no more, as of its own `version`. Returns whether that is news.
    pub fn watch(&mut self, by: &Watch, key: &str, version: Version, is_watching: bool) -> bool {
        let known = self.watched.iter().position(|watched| watched.by == *by);
        let at = known.unwrap_or(self.watched.len());
        if known.is_none() {
            let new = Watched { by: by.clone(), content: None, version: Version(0), watchers: Vec::new() };
            self.watched.push(new);
        }
        let watchers = &mut self.watched[at].watchers;
        match watchers.binary_search_by(|watcher| (*watcher.key).cmp(key)) {
            Ok(found) if watchers[found].version >= version => return false,
            Ok(found) => {
                watchers[found].version = version;
                watchers[found].is_watching = is_watching;
            }
            Err(place) => watchers.insert(place, Watcher { key: key.into(), version, is_watching }),
        }
        true
    }

    /// Notes what watchers see from now on.
    pub fn show(&mut self, by: &Watch, content: Packed, version: Version) {
        if let Some(watched) = self.watched.iter_mut().find(|watched| watched.by == *by) {
            watched.content = Some(content);
            watched.version = version;
        }
    }

    /// Sets a deadline, or takes it away.
    pub fn set_deadline(&mut self, name: &str, to: Option<DeadlineTimes>) {
        self.deadlines.retain(|deadline| &*deadline.name != name);
        if let Some(times) = to {
            self.deadlines.push(Deadline { name: name.into(), times });
        }
    }

    /// Notes that a deadline has passed. Returns whether it still stood at that time and had not.
    pub fn pass(&mut self, name: &str, at: Timestamp) -> bool {
        let stands =
            |deadline: &&mut Deadline| &*deadline.name == name && deadline.times.at == at && !deadline.times.has_passed;
        let Some(deadline) = self.deadlines.iter_mut().find(stands) else { return false };
        deadline.times.has_passed = true;
        true
    }

    /// Notes that an effect is asked for again, or for the first time.
    pub fn request(&mut self, name: &str, run: u32, request: Packed, at: Timestamp) {
        self.effects.retain(|effect| &*effect.name != name);
        let (name, stage) = (name.into(), EffectStage::Requested);
        self.effects.push(Effect { name, run, request, stage, attempts: 0, at, outcome: None });
    }

    /// Notes that an attempt begins. Returns whether it is the next one of an open request.
    pub fn start(&mut self, name: &str, run: u32, attempt: u32) -> bool {
        let next = |effect: &&mut Effect| {
            &*effect.name == name && effect.run == run && effect.stage.is_open() && effect.attempts + 1 == attempt
        };
        let Some(effect) = self.effects.iter_mut().find(next) else { return false };
        effect.stage = EffectStage::Started;
        effect.attempts = attempt;
        true
    }

    /// Notes what became of a request. Returns whether that was not known yet.
    pub fn end(&mut self, name: &str, run: u32, outcome: &EffectOutcome, at: Timestamp) -> bool {
        let open = |effect: &&mut Effect| &*effect.name == name && effect.run == run && effect.stage.is_open();
        let Some(effect) = self.effects.iter_mut().find(open) else { return false };
        effect.stage = outcome.stage;
        effect.at = at;
        effect.outcome = Some(outcome.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::Value;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(i128::from(seconds) * 1_000_000_000).unwrap()
    }

    fn packed(value: i64) -> Packed {
        Packed::new(&Value::Int(value))
    }

    /// If this failed, a message that was overtaken would bring back what is over.
    #[test]
    fn words_that_come_late_say_nothing() {
        let mut child = Dealings::default();
        let refer = |from: Option<&str>, to: &str| ReferenceSet {
            reference: "parent".into(),
            place: 0,
            kind: "p".into(),
            from: from.map(Box::from),
            to: Some(to.into()),
        };
        child.refer(&refer(None, "a"), time(1));
        assert_eq!(child.waiting(), 1);
        let (a, b) = (EntityKey::new("p", "a"), EntityKey::new("p", "b"));
        assert!(!child.see("parent", &b, Version(9), &packed(9)), "from one it does not refer to");
        assert!(child.see("parent", &a, Version(2), &packed(2)));
        assert!(!child.see("parent", &a, Version(2), &packed(7)), "the same again");
        assert!(!child.see("parent", &a, Version(1), &packed(1)), "an earlier one");
        assert_eq!(child.view("parent").unwrap().content, Some(packed(2)));
        assert_eq!(child.waiting(), 0);
        child.refer(&refer(Some("a"), "b"), time(2));
        assert_eq!(child.view("parent").unwrap().content, None, "another entity, of which nothing is known");

        let mut parent = Dealings::default();
        let by = Watch { kind: "c".into(), reference: "parent".into() };
        assert!(parent.watch(&by, "x", Version(3), true));
        assert!(!parent.watch(&by, "x", Version(2), false), "an earlier word");
        assert!(parent.watch(&by, "x", Version(4), false));
        assert!(!parent.watch(&by, "x", Version(3), true), "the first word again");
        let watcher = &parent.watched_by(&by).unwrap().watchers[0];
        assert_eq!((watcher.version, watcher.is_watching), (Version(4), false));
    }

    /// If this failed, a deadline that was moved would be noticed at its old time, or one be noticed twice.
    #[test]
    fn a_deadline_passes_once_and_only_at_its_time() {
        let mut dealings = Dealings::default();
        let times = DeadlineTimes { at: time(5), due: time(6), has_passed: false };
        dealings.set_deadline("late", Some(times));
        assert_eq!(dealings.next_due(), Some(time(6)));
        assert!(!dealings.pass("late", time(4)));
        assert!(dealings.pass("late", time(5)));
        assert!(!dealings.pass("late", time(5)));
        assert_eq!(dealings.next_due(), None);
    }

    /// If this failed, a call that was made could be made again.
    #[test]
    fn a_step_counts_once() {
        let outcome = EffectOutcome { stage: EffectStage::Succeeded, status: Some(200), response: None, error: None };
        let mut dealings = Dealings::default();
        assert!(!dealings.start("call", 1, 1), "never asked for");
        dealings.request("call", 1, packed(1), time(1));
        assert!(!dealings.start("call", 1, 2), "the first attempt comes first");
        assert!(dealings.start("call", 1, 1));
        assert!(!dealings.start("call", 1, 1), "begun already");
        assert!(dealings.start("call", 1, 2) && dealings.is_under_way());
        assert!(!dealings.end("call", 2, &outcome, time(2)), "another request's");
        assert!(dealings.end("call", 1, &outcome, time(2)));
        assert!(!dealings.end("call", 1, &outcome, time(3)) && !dealings.start("call", 1, 3), "it is over");
        assert!(!dealings.is_under_way());
    }
}
