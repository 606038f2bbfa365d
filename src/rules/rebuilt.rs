//! What other rules make of an entity. Fields read events only, so they, and which events count, are made anew from the
//! accepted events; all else the entity has are facts, which stay. Then everything is concluded once.

use std::sync::Arc;

use super::admit::Taken;
use super::conclude::{Moment, conclude};
use super::decide::count;
use super::decision::{Numbering, withdrawn};
use super::entity_rules::{EntityRules, FieldRules};
use super::evolve::evolve;
use crate::model::dealings::Dealings;
use crate::model::identities::Seen;
use crate::model::ids::{EntityKey, IdentityHash, Version};
use crate::model::life::EXPIRE;
use crate::model::packed::Packed;
use crate::model::record::{DeadlineSet, Input, Notice, Record, ReferenceSet, Take};
use crate::model::state::{FieldState, State};
use crate::model::time::Timestamp;
use crate::model::value::{Map, Value};

/// What an entity's events come to, without anything that was concluded from them.
#[derive(Debug, Default)]
pub struct Rebuilt(State);

impl Rebuilt {
    /// Counts an event that was accepted at `now`, unless it is a duplicate or conflicts; returns whether it did.
    pub fn count(&mut self, taken: Box<Taken>, now: Timestamp) -> bool {
        count(&mut self.0, taken, now)
    }

    /// How many events count.
    pub fn events(&self) -> u64 {
        self.0.events
    }

    /// The entity with these events, and everything else as it was.
    pub fn carrying(self, old: &State) -> State {
        let State { now, events, correlation, fields, mut identities, .. } = self.0;
        for held in old.pause().iter().flat_map(|pause| &pause.held) {
            let id = IdentityHash::of(&held.event.source, held.id());
            let at_ms = old.identities.get(id).map_or(old.now.millis(), |seen| seen.at_ms);
            identities.push(Seen { id, payload: held.payload, at_ms });
        }
        let mut state = State {
            version: old.version,
            now: old.now.max(now),
            events,
            correlation: if events > 0 { correlation } else { old.correlation.clone() },
            fields,
            ledger: old.ledger.clone(),
            missing: old.missing,
            identities,
            dealings: old.dealings.clone(),
            system: old.system.clone(),
        };
        if events > 0 {
            state.begin_life();
        }
        state
    }
}

/// The state with each field in the slot that it has now, `names` being those its slots stood for. A field whose form the
/// rules' operator does not have is left out.
pub fn moved(rules: &EntityRules, mut state: State, names: &[String]) -> State {
    let mut old: Vec<Option<FieldState>> = std::mem::take(&mut state.fields);
    let mut find = |field: &FieldRules| {
        let slot = names.iter().position(|name| **name == *field.name)?;
        old.get_mut(slot)?.take().filter(|found| fits(field, found))
    };
    state.fields = rules.fields.iter().map(&mut find).collect();
    while state.fields.last().is_some_and(Option::is_none) {
        state.fields.pop();
    }
    state
}

/// Whether a field's operator goes on from this form.
fn fits(rules: &FieldRules, field: &FieldState) -> bool {
    let single = |field: &FieldState| match rules.take {
        Take::First | Take::Latest => matches!(field, FieldState::Register { .. }),
        Take::Min | Take::Max => matches!(field, FieldState::Extreme { .. }),
        Take::Sum => matches!(field, FieldState::Sum(_)),
        Take::Count => matches!(field, FieldState::Count(_)),
        Take::Set => matches!(field, FieldState::Set(_)),
        Take::List { .. } => matches!(field, FieldState::List(_)),
    };
    match field {
        FieldState::By(entries) => rules.by.is_some() && entries.iter().all(|(_, entry)| single(entry)),
        field => rules.by.is_none() && single(field),
    }
}

/// An entity under its new rules.
#[derive(Debug)]
pub struct Ruled {
    pub state: State,
    /// What is to be journaled, if anything follows from the rules; the state has it already.
    pub record: Option<Record>,
    /// Names of rules that go wrong in this state.
    pub errors: Vec<Box<str>>,
}

/// Concludes everything, once, for an entity whose fields are what `rules` make of its events.
pub fn adopt(rules: &Arc<EntityRules>, entity: &EntityKey, state: State, now: Timestamp) -> Ruled {
    let mut state = state;
    renumber(rules, &mut state);
    let input = Input::Rules { fingerprint: rules.fingerprint };
    let mut record = Record::of_input(entity.clone(), state.version.next(), now.max(state.now), input);
    let mut dealings = state.dealings.as_deref().cloned().unwrap_or_default();
    let errors = if state.events > 0 {
        let is_known =
            |name: &str, kind: &str| rules.references.iter().any(|it| *it.name == *name && *it.kind == *kind);
        let expires = rules.expire.is_some();
        let is_deadline =
            |name: &str| (expires && name == EXPIRE) || rules.deadlines.iter().any(|it| *it.name == *name);
        let_go(&mut dealings, &mut record, is_known, is_deadline);
        conclude(&Moment { rules, state: &state, fields: &[], is_first: true }, Vec::new(), Some(dealings), &mut record)
    } else {
        let_go(&mut dealings, &mut record, |_, _| false, |_| false);
        vanish(rules, &state, &dealings, &mut record);
        Vec::new()
    };
    if says_nothing(&record, &state) {
        state.missing = record.missing;
        return Ruled { state, record: None, errors };
    }
    evolve(&mut state, &record);
    Ruled { state, record: Some(record), errors }
}

/// Views know their reference by its place, too.
fn renumber(rules: &EntityRules, state: &mut State) {
    for view in state.dealings.iter_mut().flat_map(|dealings| &mut dealings.views) {
        let place = rules.references.iter().position(|it| it.name == view.reference);
        view.place = place.map_or(u16::MAX, |place| place as u16);
    }
}

/// References and deadlines end whose rules are no more.
fn let_go(
    dealings: &mut Dealings,
    record: &mut Record,
    is_reference: impl Fn(&str, &str) -> bool,
    is_deadline: impl Fn(&str) -> bool,
) {
    for view in dealings.views.iter().filter(|view| !is_reference(&view.reference, &view.kind)) {
        record.references.push(ReferenceSet {
            reference: view.reference.clone(),
            place: view.place,
            kind: view.kind.clone(),
            from: Some(view.to.clone()),
            to: None,
        });
    }
    for deadline in dealings.deadlines.iter().filter(|deadline| !is_deadline(&deadline.name)) {
        record.deadlines.push(DeadlineSet { name: deadline.name.clone(), to: None });
    }
    record.references.iter().for_each(|set| dealings.refer(set, record.now));
    record.deadlines.iter().for_each(|set| dealings.set_deadline(&set.name, None));
}

/// No event makes the entity any more: what stands of it is taken back, and who looks at it sees nothing.
fn vanish(rules: &EntityRules, state: &State, dealings: &Dealings, record: &mut Record) {
    let numbering = Numbering::new(rules, record.now);
    for decision in &rules.decisions {
        record.decisions.extend(withdrawn(decision, state, |_| false, numbering));
    }
    for decision in &mut record.decisions {
        decision.correlation.clone_from(&state.correlation);
    }
    let nothing = Packed::new(&Value::Map(Map::default()));
    for watched in dealings.watched.iter().filter(|it| it.content.as_ref().is_some_and(|content| *content != nothing)) {
        record.notices.push(Notice { by: watched.by.clone(), shown: nothing.clone() });
    }
}

/// An entity that has no record yet gets one: it begins to exist.
fn says_nothing(record: &Record, state: &State) -> bool {
    let settling = state.dealings.as_deref().map_or(&[][..], |dealings| &dealings.settling);
    record.decisions.is_empty()
        && record.references.is_empty()
        && record.notices.is_empty()
        && record.effects.is_empty()
        && record.deadlines.is_empty()
        && record.settling == settling
        && (state.version > Version(0) || state.events == 0)
}
