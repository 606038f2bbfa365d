//! Deciding: what follows from an input in a state. Reads no clock, no random number, no socket: `now` is given.

use super::admit::Taken;
use super::conclude::{Moment, conclude, shown};
use super::entity_bindings::EntityBindings;
use super::entity_rules::{EntityRules, Unit};
use super::evolve::{evolve, handle};
use super::expiry;
use super::merge;
use super::pausing::{hold, is_news};
use crate::config::Duplicates;
use crate::model::dealings::{Dealings, Watch};
use crate::model::identities::Seen;
use crate::model::ids::{EntityKey, PayloadHash, Version};
use crate::model::record::{Content, EventInput, Input, Merge, Notice, Received, Record};
use crate::model::state::{FieldState, State};
use crate::model::system::SystemState;
use crate::model::time::Timestamp;

/// What came of an event.
#[derive(Debug)]
pub enum Verdict {
    /// It counts: the record to journal and evolve by.
    Record(Box<Decided>),
    /// The identity counted before.
    Duplicate,
    /// The identity counted before, with another payload.
    Conflict,
}

/// A record, and what is only told to metrics.
#[derive(Debug)]
pub struct Decided {
    pub record: Record,
    pub outcome: Outcome,
    /// Names of rules that went wrong in this state.
    pub errors: Vec<Box<str>>,
}

/// Whether an event that counts changed any field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Merged,
    /// What is there already is newer, or the same.
    Stale,
    /// It waits, since the entity or its type is paused.
    Held,
}

/// Decides an event. `prior` is the payload under which its identity counted before, if it did.
pub fn decide(state: &State, taken: Box<Taken>, prior: Option<PayloadHash>, now: Timestamp) -> Verdict {
    if state.pause().is_some() {
        return hold(state, taken, prior, now);
    }
    let now = now.max(state.now);
    let forget_before = match unknown(&taken, state, prior, now) {
        Ok(forget_before) => forget_before,
        Err(known) => return known,
    };
    let Taken { rules, entity, input, merges, .. } = *taken;
    let mut decided = apply(&rules, entity, state, (Input::Event, input, merges), now);
    decided.record.forget_before = forget_before;
    Verdict::Record(Box::new(decided))
}

/// Whether the event's identity is new to the entity; then, before when identities are forgotten with the record that counts
/// it.
///
/// # Errors
/// What comes of an event that counted before.
pub(super) fn unknown(
    taken: &Taken,
    state: &State,
    prior: Option<PayloadHash>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Verdict> {
    let Taken { rules, identity, input, .. } = taken;
    let forget_before = lapsed(rules, state, now);
    // An identity whose window is over is forgotten with the record that counts it again.
    let is_over = |seen: Seen| forget_before.is_some_and(|before| seen.at_ms < before.millis());
    match prior.filter(|_| !state.identities.get(*identity).is_some_and(is_over)) {
        Some(payload) if payload == input.payload => Err(Verdict::Duplicate),
        Some(_) if rules.duplicates == Duplicates::Lenient => Err(Verdict::Duplicate),
        Some(_) => Err(Verdict::Conflict),
        None => Ok(forget_before),
    }
}

/// Applies an event with the merges it asks for; `input` says as what.
pub(super) fn apply(
    rules: &EntityRules,
    entity: EntityKey,
    state: &State,
    (as_input, input, merges): (fn(EventInput) -> Input, EventInput, Vec<Merge>),
    now: Timestamp,
) -> Decided {
    let (merges, fields) = effective(rules, state, merges, &input);
    let outcome = if merges.is_empty() { Outcome::Stale } else { Outcome::Merged };
    let mut touched: Vec<Unit> = Vec::with_capacity(merges.len());
    touched.extend(merges.iter().map(|merge| merge.slot));
    let mut record = Record::of_input(entity, state.version.next(), now, as_input(input));
    record.merges = merges;
    let moment = Moment {
        rules,
        state,
        fields: &fields,
        // All of an entity's rules are looked at when it begins to exist.
        is_first: state.events == 0,
    };
    let errors = conclude(&moment, touched, None, &mut record);
    Decided { record, outcome, errors }
}

/// Counts an event of which nothing is concluded, in a state that has all its identities; returns whether it did.
pub(super) fn count(state: &mut State, taken: Box<Taken>, now: Timestamp) -> bool {
    let now = now.max(state.now);
    let prior = state.identities.get(taken.identity).map(|seen| seen.payload);
    let Ok(forget_before) = unknown(&taken, state, prior, now) else { return false };
    let Taken { entity, input, merges, .. } = *taken;
    let mut record = Record::of_input(entity, state.version.next(), now, Input::Event(input));
    record.merges = merges;
    record.forget_before = forget_before;
    evolve(state, &record);
    true
}

/// Before when identities are forgotten; none if there are none as old as that.
fn lapsed(rules: &EntityRules, state: &State, now: Timestamp) -> Option<Timestamp> {
    let window = rules.dedupe?;
    let oldest_ms = state.identities.oldest()?.at_ms;
    let before = Timestamp::from_nanos(now.nanos() - i128::try_from(window.as_nanos()).ok()?)?;
    (oldest_ms < before.millis()).then_some(before)
}

/// Decides an input from inside: a message, a deadline that is due, a rest, a step of an effect. `None` for one that says
/// nothing new, which makes no record.
pub fn decide_inside(
    rules: &EntityRules,
    entity: EntityKey,
    state: &State,
    input: Input,
    now: Timestamp,
) -> Option<Decided> {
    let now = now.max(state.now);
    let mut record = Record::of_input(entity, state.version.next(), now, input);
    record.missing = state.missing;
    if matches!(record.input, Input::Paused(_) | Input::Resumed(_)) {
        let Record { entity, input, .. } = record;
        return is_news(state, &input).then(|| without_conclusions(entity, state, input, now));
    }
    if record.input.ending().is_some() {
        return expiry::end(rules, state, record);
    }
    if let Some(word) = word_of_watcher(&record.input) {
        let record = note_watcher(rules, state, &word, record)?;
        return Some(Decided { record, outcome: Outcome::Merged, errors: Vec::new() });
    }
    let mut dealings: Dealings = state.dealings.as_deref().cloned().unwrap_or_default();
    if !handle(&mut dealings, &record) {
        return None;
    }
    let touched = touched_by(rules, &record.input);
    let moment = Moment { rules, state, fields: &[], is_first: false };
    let errors = conclude(&moment, touched, Some(dealings), &mut record);
    Some(Decided { record, outcome: Outcome::Merged, errors })
}

/// That another entity looks at this one, or does so no more.
struct Word {
    by: Watch,
    key: Box<str>,
    version: Version,
    is_watching: bool,
}

fn word_of_watcher(input: &Input) -> Option<Word> {
    let Input::Message(received) = input else { return None };
    let Received { from, version, content, .. } = &**received;
    let (reference, is_watching) = match content {
        Content::Watch { reference } => (reference, true),
        Content::Unwatch { reference } => (reference, false),
        Content::Notice { .. } | Content::Gone { .. } => return None,
    };
    let by = Watch { kind: from.kind().into(), reference: reference.clone() };
    Some(Word { by, key: from.key().into(), version: *version, is_watching })
}

/// No rule depends on who watches, so nothing is looked at but what the watcher sees: nobody may have been told for long.
/// There may be many watchers; they are left where they are.
fn note_watcher(rules: &EntityRules, state: &State, word: &Word, mut record: Record) -> Option<Record> {
    let dealings = state.dealings.as_deref();
    let watched = dealings.and_then(|dealings| dealings.watched_by(&word.by));
    if watched.is_some_and(|watched| watched.has_heard(&word.key, word.version)) {
        return None;
    }
    record.settling = dealings.map_or(Vec::new(), |dealings| dealings.settling.clone());
    let seen = rules.watches.iter().find(|known| known.by == word.by);
    if let Some(seen) = seen.filter(|_| word.is_watching && state.events > 0) {
        let shown = shown(rules, &seen.shown, &EntityBindings::new(rules, record.entity.key(), state));
        if watched.and_then(|watched| watched.content.as_ref()) != Some(&shown) {
            record.notices.push(Notice { by: word.by.clone(), shown });
        }
    }
    Some(record)
}

/// What a record changed of what its entity's rules read.
pub fn touched(rules: &EntityRules, record: &Record) -> Vec<Unit> {
    let slots = record.merges.iter().map(|merge| merge.slot);
    slots.chain(touched_by(rules, &record.input)).collect()
}

/// An input from inside of which nothing follows, since its rules cannot be followed; the record is its receipt.
pub fn without_conclusions(entity: EntityKey, state: &State, input: Input, now: Timestamp) -> Decided {
    let mut record = Record::of_input(entity, state.version.next(), now.max(state.now), input);
    record.missing = state.missing;
    record.settling = state.dealings.iter().flat_map(|dealings| dealings.settling.iter().cloned()).collect();
    Decided { record, outcome: Outcome::Merged, errors: Vec::new() }
}

/// What an input from inside changes.
fn touched_by(rules: &EntityRules, input: &Input) -> Vec<Unit> {
    let unit = match input {
        Input::Message(received) => match &received.content {
            Content::Notice { reference, .. } | Content::Gone { reference } => {
                let at = rules.references.iter().position(|it| it.name == *reference);
                at.map(|at| rules.reference_unit(at))
            }
            Content::Watch { .. } | Content::Unwatch { .. } => None,
        },
        Input::Due { name, .. } => {
            let at = rules.deadlines.iter().position(|it| it.name == *name);
            at.map(|at| rules.deadline_unit(at))
        }
        Input::Started { effect, .. }
        | Input::Ended { effect, .. }
        | Input::Resolved { effect, .. }
        | Input::AskedAgain { effect, .. } => {
            let at = rules.effects.iter().position(|it| it.name == *effect);
            at.map(|at| rules.effect_unit(at))
        }
        _ => None,
    };
    unit.into_iter().collect()
}

/// Decides an input of the system's own entities. `None` for one that says nothing new.
pub fn decide_system(entity: EntityKey, state: &State, input: Input, now: Timestamp) -> Option<Record> {
    match (&input, state.system.as_deref()) {
        (Input::DeadLetter(_), Some(SystemState::DeadLetter(_) | SystemState::ClosedLetter(_))) => return None,
        (Input::Closed(..) | Input::Tried { .. }, system) if system.and_then(SystemState::open_letter).is_none() => {
            return None;
        }
        (Input::Paused(_) | Input::Resumed(_), _) if !is_news(state, &input) => return None,
        _ => {}
    }
    if matches!((&input, &state.system), (Input::Forgotten(_), None)) {
        return None;
    }
    Some(Record::of_input(entity, state.version.next(), now.max(state.now), input))
}

/// The merges that change something, and the fields that rules read as they will be afterwards.
fn effective(
    rules: &EntityRules,
    state: &State,
    merges: Vec<Merge>,
    input: &EventInput,
) -> (Vec<Merge>, Vec<(u16, FieldState)>) {
    let mut kept = Vec::with_capacity(merges.len());
    let mut changed = Vec::new();
    for merge in merges {
        let current = state.fields.get(usize::from(merge.slot)).and_then(Option::as_ref);
        let resolved = merge::resolve(&merge, input);
        if !merge::changes(current, &resolved) {
            continue;
        }
        let slot = merge.slot;
        if rules.fields[usize::from(slot)].is_read {
            let mut field = current.cloned();
            merge::apply(&mut field, resolved);
            changed.extend(field.map(|field| (slot, field)));
        }
        kept.push(merge);
    }
    (kept, changed)
}
