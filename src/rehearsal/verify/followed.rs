//! One entity's records, followed: whether each continues the one before, and what all of its events together come to.

use std::collections::HashMap;
use std::sync::Arc;

use super::adopted::Under;
use super::findings::{Findings, Kind, named};
use super::oracle::Field;
use crate::model::ids::{EntityKey, IdentityHash, Incarnation, Lsn, Revision, Version};
use crate::model::json;
use crate::model::life::Ending;
use crate::model::record::{DecisionRevision, DecisionState, EventInput, Input, Record};
use crate::model::state::{FieldState, LedgerEntry, State};
use crate::model::time::Timestamp;
use crate::model::value::Value;
use crate::rules::{EntityRules, Ruleset, Taken, anew};

/// A longer text of a value is cut.
const VALUE_CHARS_MAX: usize = 120;

/// What was followed of an entity so far.
#[derive(Debug)]
pub(super) struct Followed {
    /// None for the system's own entities.
    rules: Option<Arc<EntityRules>>,
    /// Records are gone that may have told of decisions.
    is_told_in_part: bool,
    extent: Extent,
    /// An event that was taken again may count once more.
    is_lenient: bool,
    /// No event has come since its last life ended.
    has_ended: bool,
    pub version: Version,
    now: Timestamp,
    events: u64,
    fields: Vec<Field>,
    /// When each counted.
    identities: HashMap<IdentityHash, Timestamp>,
    revisions: Vec<Told>,
    /// Since when it lacks something it should have.
    pub incomplete_since: Option<Timestamp>,
}

/// How much is there of the events of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Whole,
    /// It was made anew by other rules, of events that records of other entities may have had alone.
    Borrowed,
    /// Some may be gone.
    Cut,
}

/// The last revision of a decision.
#[derive(Debug)]
struct Told {
    name: Box<str>,
    element: Option<Box<str>>,
    revision: Revision,
    state: DecisionState,
    data: u64,
    time: Timestamp,
    /// It was made in an earlier life.
    is_past: bool,
}

impl Followed {
    /// An entity of which that of `version` is the first record that there is.
    pub fn new(ruleset: &Ruleset, entity: &EntityKey, version: Version) -> Self {
        let rules = ruleset.get(entity.kind()).cloned();
        let fields = rules.iter().flat_map(|rules| &rules.fields).map(|_| Field::default()).collect();
        Followed {
            rules,
            is_told_in_part: version > Version(1),
            extent: if version > Version(1) { Extent::Cut } else { Extent::Whole },
            is_lenient: false,
            has_ended: false,
            version: Version(version.0.saturating_sub(1)),
            now: Timestamp::default(),
            events: 0,
            fields,
            identities: HashMap::new(),
            revisions: Vec::new(),
            incomplete_since: None,
        }
    }

    /// Whether records of its life are gone, so that not all can be told.
    pub fn is_cut(&self) -> bool {
        self.extent == Extent::Cut
    }

    /// Somebody is or was forgotten: what it was made anew of may have been left out, or be blank since. Returns whether that
    /// is why it is other than its events.
    pub fn allow_for_forgotten(&mut self, state: Option<&State>) -> bool {
        let is_excused = self.extent == Extent::Borrowed && state.is_none_or(|state| state.events != self.events);
        if is_excused {
            self.extent = Extent::Cut;
        }
        is_excused
    }

    /// An event that it took again may have been left out when it was made anew.
    pub fn be_lenient(&mut self) {
        self.is_lenient = true;
        if self.extent == Extent::Whole {
            self.extent = Extent::Borrowed;
        }
    }

    /// Whether it is not there itself: others only wait for it, or its life has ended.
    pub fn is_not_there(&self) -> bool {
        self.has_ended || self.rules.is_some() && self.events == 0 && !self.is_cut()
    }

    /// Follows the next record, made `under` other rules or these. Returns whether it counts an event that did not count before.
    pub fn follow(
        &mut self,
        ruleset: &Ruleset,
        under: Under,
        lsn: Lsn,
        record: &Record,
        findings: &mut Findings,
    ) -> bool {
        let entity = &record.entity;
        // What came before it is made blank where an entity is forgotten.
        let is_blank = record.input.ending() == Some(Ending::Forgotten) && record.version > self.version;
        let is_next = record.version == self.version.next();
        self.is_told_in_part |= is_blank && !is_next;
        if !is_next && !is_blank {
            let (found, last) = (record.version.0, self.version.0);
            findings.of(Kind::Chain, entity, format!("LSN {lsn} makes version {found}, after version {last}"));
        }
        if record.version > Version(1) && record.now < self.now {
            findings.of(Kind::Chain, entity, format!("the record at LSN {lsn} is earlier than the one before"));
        }
        (self.version, self.now) = (record.version, record.now);
        self.incomplete_since = match record.missing {
            0 => None,
            _ => self.incomplete_since.or(Some(record.now)),
        };
        for decision in &record.decisions {
            self.tell(entity, lsn, decision, findings);
        }
        if record.input.ending().is_some() {
            self.end();
        }
        self.has_ended &= record.input.event().is_none();
        self.extent = match (self.extent, under) {
            (_, Under::Unknown) => Extent::Cut,
            (Extent::Whole, Under::Others) => Extent::Borrowed,
            (extent, _) => extent,
        };
        let Some(rules) = self.rules.clone() else { return false };
        match &record.input {
            Input::Event(_) | Input::Held(_) if under != Under::These => true,
            Input::Event(input) => {
                let is_new = self.recognize(&rules, lsn, record, input, findings);
                self.count(ruleset, lsn, entity, input, findings);
                is_new
            }
            Input::Held(input) => self.recognize(&rules, lsn, record, input, findings),
            Input::Released(input) if under == Under::These => {
                self.events += 1;
                // Rules may have changed since it was held: what they do not take then counts and changes nothing.
                if let Ok(taken) = take(ruleset, entity, input) {
                    self.gather(lsn, &taken);
                }
                false
            }
            _ => false,
        }
    }

    /// Counts an event of before the rules were changed, as they are now, unless it counted already.
    pub fn take_again(&mut self, lsn: Lsn, now: Timestamp, taken: &Taken) {
        let dedupe = taken.rules.dedupe.map(|window| now.nanos() - window.as_nanos().cast_signed());
        let counts_still = |at: &Timestamp| {
            dedupe.is_none_or(|before| at.millis() >= Timestamp::from_nanos(before).unwrap_or_default().millis())
        };
        if self.identities.get(&taken.identity).is_some_and(counts_still) {
            return;
        }
        self.identities.insert(taken.identity, now);
        self.events += 1;
        self.has_ended = false;
        self.gather(lsn, taken);
    }

    /// Its life ends: the next one knows nothing of it but how far revisions have come.
    fn end(&mut self) {
        (self.extent, self.has_ended, self.events, self.incomplete_since) = (Extent::Whole, true, 0, None);
        self.identities.clear();
        self.fields.fill_with(Field::default);
        self.revisions.iter_mut().for_each(|told| told.is_past = true);
    }

    fn tell(&mut self, entity: &EntityKey, lsn: Lsn, decision: &DecisionRevision, findings: &mut Findings) {
        let told = Told {
            name: decision.name.clone(),
            element: decision.element.clone(),
            revision: decision.revision,
            state: decision.state,
            data: hash(&decision.data),
            time: decision.time,
            is_past: false,
        };
        let same = |known: &&mut Told| known.name == told.name && known.element == told.element;
        let Some(known) = self.revisions.iter_mut().find(same) else {
            if told.revision != Revision(1) && !Incarnation::begins_with(told.revision) && !self.is_told_in_part {
                let (found, name) = (told.revision.0, &told.name);
                findings.of(Kind::Revision, entity, format!("{name} begins with revision {found} at LSN {lsn}"));
            }
            self.revisions.push(told);
            return;
        };
        let is_next = told.revision.0 == known.revision.0 + 1
            || told.revision > known.revision && Incarnation::begins_with(told.revision);
        if !is_next || told.time <= known.time {
            let (found, last, name) = (told.revision.0, known.revision.0, &told.name);
            let detail = format!("{name}: revision {found} at LSN {lsn} does not follow revision {last}");
            findings.of(Kind::Revision, entity, detail);
        }
        *known = told;
    }

    /// Notes that an event's identity counts; returns whether it did not before.
    fn recognize(
        &mut self,
        rules: &EntityRules,
        lsn: Lsn,
        record: &Record,
        input: &EventInput,
        findings: &mut Findings,
    ) -> bool {
        let identity = IdentityHash::of(&input.event.source, input.id());
        let is_new = self.identities.insert(identity, record.now).is_none();
        if !is_new && rules.dedupe.is_none() && !self.is_lenient {
            let (id, source) = (input.id(), &input.event.source);
            findings.of(Kind::CountedTwice, &record.entity, format!("event {id:?} of {source:?} again at LSN {lsn}"));
        }
        is_new
    }

    /// Takes an event in again, under the rules as they are.
    fn count(&mut self, ruleset: &Ruleset, lsn: Lsn, entity: &EntityKey, input: &EventInput, findings: &mut Findings) {
        self.events += 1;
        match take(ruleset, entity, input) {
            Ok(taken) => self.gather(lsn, &taken),
            Err(why) => {
                let id = input.id();
                findings.of(Kind::NotTaken, entity, format!("event {id:?} at LSN {lsn}: {why}"));
            }
        }
    }

    fn gather(&mut self, lsn: Lsn, taken: &Taken) {
        for merge in &taken.merges {
            self.fields[usize::from(merge.slot)].gather(lsn, &taken.input, merge);
        }
    }

    /// Compares what the events come to with how the entity is, which must be of the same version.
    pub fn compare(&self, entity: &EntityKey, state: &State, findings: &mut Findings) {
        for entry in &state.ledger {
            self.compare_entry(entity, entry, findings);
        }
        let Some(rules) = self.rules.as_ref().filter(|_| !self.is_cut()) else { return };
        if state.events != self.events {
            let detail = format!("it has counted {}, {} are journaled", state.events, self.events);
            findings.of(Kind::Events, entity, detail);
        }
        let mut here = self.revisions.iter().filter(|told| !told.is_past);
        let missing = here.find(|told| state.decision(&told.name, told.element.as_deref()).is_none());
        if let Some(told) = missing {
            findings.of(Kind::Decision, entity, format!("{} was made and is not known", told.name));
        }
        let mut is_right = true;
        for (slot, (field, of)) in self.fields.iter().zip(&rules.fields).enumerate() {
            let found = state.fields.get(slot).and_then(Option::as_ref).and_then(FieldState::value);
            if !field.is(found.as_ref()) {
                is_right = false;
                let (found, expected) = (shown(found.as_ref()), shown(field.value().as_ref()));
                findings.of(Kind::Field, entity, format!("{}: is {found}, its events make it {expected}", of.name));
            }
        }
        // What follows from fields that are wrong is not looked at, too.
        if is_right && state.exists() {
            compare_anew(rules, entity, state, findings);
        }
    }

    /// Compares a decision as it stands with the last revision that was journaled.
    fn compare_entry(&self, entity: &EntityKey, entry: &LedgerEntry, findings: &mut Findings) {
        let told = self.revisions.iter().find(|told| told.name == entry.name && told.element == entry.element);
        let is_right = match told {
            Some(told) => {
                (told.revision, told.state, told.time) == (entry.revision, entry.state, entry.time)
                    && told.data == hash(&entry.data)
            }
            None => self.is_cut(),
        };
        if !is_right {
            let journaled = told.map_or_else(|| "never".to_owned(), |told| format!("in revision {}", told.revision.0));
            let detail = format!("{} stands in revision {}, was journaled {journaled}", entry.name, entry.revision.0);
            findings.of(Kind::Decision, entity, detail);
        }
    }
}

/// Compares what follows from the fields with what is noted and what stands.
fn compare_anew(rules: &EntityRules, entity: &EntityKey, state: &State, findings: &mut Findings) {
    let anew = anew(rules, entity.key(), state);
    if anew.missing.is_some_and(|missing| missing != state.missing) {
        let names = |mask| rules.missing_names(mask).collect::<Vec<_>>().join(", ");
        let (noted, found) = (names(state.missing), names(anew.missing.unwrap_or_default()));
        findings.of(Kind::Missing, entity, format!("noted as missing: {noted:?}; missing: {found:?}"));
    }
    for (name, mut content) in anew.decisions {
        let stands = |entry: &&LedgerEntry| &*entry.name == name && entry.state != DecisionState::Withdrawn;
        for entry in state.ledger.iter().filter(stands) {
            let expected = content.remove(&entry.element);
            if expected.as_ref() != Some(&entry.data) {
                let (says, should) = (entry.data.unpack(), expected.map(|data| data.unpack()));
                let detail = format!("{name}: says {}, should say {}", shown(Some(&says)), shown(should.as_ref()));
                findings.of(Kind::Decision, entity, detail);
            }
        }
        if let Some((_, data)) = content.first_key_value() {
            let detail = format!("{name}: should say {} and was not made", shown(Some(&data.unpack())));
            findings.of(Kind::Decision, entity, detail);
        }
    }
}

/// What the entity makes of the event now; none where it would not take it, and why.
fn take(ruleset: &Ruleset, entity: &EntityKey, input: &EventInput) -> Result<Box<Taken>, String> {
    let event = input.event.unpack();
    let left_out = || "no rule is for it".to_owned();
    if input.hops > 0 {
        let taken = ruleset.take_back(entity, &event, input.hops);
        return taken.map_err(|refusal| refusal.message)?.ok_or_else(left_out);
    }
    let takers = ruleset.admit(&event).map_err(|refusal| refusal.message)?;
    let other = takers.iter().find(|taken| taken.entity.kind() == entity.kind()).map(|taken| named(&taken.entity));
    let taken = takers.into_iter().find(|taken| taken.entity == *entity);
    taken.ok_or_else(|| other.map_or_else(left_out, |other| format!("it is about {other}")))
}

fn hash(data: &crate::model::packed::Packed) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = json::to_string(value);
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
