//! Deciding: what follows from a state and an input, as a record. Reads no clock: `now` is given and pinned in the record.

use super::admit::Taken;
use super::bindings::EntityBindings;
use super::compile::{DataRules, DecisionRules, EntityRules};
use super::evolve::given_correlation;
use super::expr::{Bindings, Expr, Fault};
use super::merge;
use crate::config::{Duplicates, Policy};
use crate::model::event::PackedEvent;
use crate::model::identities::Seen;
use crate::model::ids::{EntityKey, PayloadHash, Revision};
use crate::model::packed::Packed;
use crate::model::record::{DecisionRevision, DecisionState, Input, Merge, Record};
use crate::model::state::{FieldState, LedgerEntry, State};
use crate::model::system::SystemState;
use crate::model::time::Timestamp;
use crate::model::value::{Map, Value};

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
}

/// Decides an event. `prior` is the payload under which its identity counted before, if it did.
pub fn decide(state: &State, taken: Box<Taken>, prior: Option<PayloadHash>, now: Timestamp) -> Verdict {
    let Taken { rules, entity, identity, input, merges } = *taken;
    let now = now.max(state.now);
    let forget_before = lapsed(&rules, state, now);
    // An identity whose window is over is forgotten with the record that counts it again.
    let is_over = |seen: Seen| forget_before.is_some_and(|before| seen.at_ms < before.millis());
    match prior.filter(|_| !state.identities.get(identity).is_some_and(is_over)) {
        Some(payload) if payload == input.payload => return Verdict::Duplicate,
        Some(_) if rules.duplicates == Duplicates::Lenient => return Verdict::Duplicate,
        Some(_) => return Verdict::Conflict,
        None => {}
    }
    let is_first = state.version.0 == 0;
    let (merges, changed) = effective(&rules, state, merges, &input);
    let outcome = if merges.is_empty() { Outcome::Stale } else { Outcome::Merged };
    let touched = |reads: &[u16]| is_first || merges.iter().any(|merge| reads.contains(&merge.slot));

    let bindings = EntityBindings::new(&rules, entity.key(), state, &changed);
    let mut correlation = None;
    let mut errors = Vec::new();
    let mut decisions = Vec::new();
    for decision in rules.decisions.iter().filter(|decision| touched(&decision.reads)) {
        match revision(decision, &bindings, state.decision(&decision.name, None), now) {
            Ok(None) => {}
            Ok(Some(mut revision)) => {
                let given = correlation.get_or_insert_with(|| correlation_of(state, &input.event));
                revision.correlation = given.clone();
                decisions.push(revision);
            }
            Err(_) => errors.push(decision.name.clone()),
        }
    }
    decisions.sort_by_key(|decision| decision.state != DecisionState::Withdrawn);
    let missing = if touched(&rules.complete_reads) { missing(&rules, &bindings) } else { state.missing };
    let record = Record {
        entity,
        version: state.version.next(),
        now,
        input: Input::Event(input),
        merges,
        decisions,
        messages: Vec::new(),
        effects: Vec::new(),
        deadlines: Vec::new(),
        missing,
        forget_before,
    };
    Verdict::Record(Box::new(Decided { record, outcome, errors }))
}

/// Before when identities are forgotten; none if there are none as old as that.
fn lapsed(rules: &EntityRules, state: &State, now: Timestamp) -> Option<Timestamp> {
    let window = rules.dedupe?;
    let oldest_ms = state.identities.oldest()?.at_ms;
    let before = Timestamp::from_nanos(now.nanos() - i128::try_from(window.as_nanos()).ok()?)?;
    (oldest_ms < before.millis()).then_some(before)
}

/// Decides an input of the system's own entities. `None` for a dead letter that is recorded already.
pub fn decide_system(entity: EntityKey, state: &State, input: Input, now: Timestamp) -> Option<Record> {
    if matches!((&input, state.system.as_deref()), (Input::DeadLetter(_), Some(SystemState::DeadLetter(_)))) {
        return None;
    }
    Some(Record {
        entity,
        version: state.version.next(),
        now: now.max(state.now),
        input,
        merges: Vec::new(),
        decisions: Vec::new(),
        messages: Vec::new(),
        effects: Vec::new(),
        deadlines: Vec::new(),
        missing: 0,
        forget_before: None,
    })
}

fn correlation_of(state: &State, event: &PackedEvent) -> Box<str> {
    match given_correlation(event) {
        Some(given) => given,
        None if state.events > 0 => state.correlation.clone(),
        None => event.id.clone(),
    }
}

/// The merges that change something, and the fields that rules read as they will be afterwards.
fn effective(
    rules: &EntityRules,
    state: &State,
    merges: Vec<Merge>,
    input: &crate::model::record::EventInput,
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
        if rules.decisions.iter().any(|decision| decision.reads.contains(&slot)) || rules.complete_reads.contains(&slot)
        {
            let mut field = current.cloned();
            merge::apply(&mut field, resolved);
            changed.extend(field.map(|field| (slot, field)));
        }
        kept.push(merge);
    }
    (kept, changed)
}

/// The mask of `complete` members that are missing.
pub(super) fn missing(rules: &EntityRules, bindings: &EntityBindings<'_>) -> u64 {
    let absent = rules.complete.iter().enumerate().filter(|(_, at)| !bindings.is_present(**at));
    absent.fold(0, |mask, (bit, _)| mask | 1 << bit)
}

/// What a decision comes to in the state.
#[derive(Debug)]
pub(super) enum Standing {
    /// It is to be made, with this content.
    Holds(Value),
    /// Its `when` is not true, or what it needs is not there.
    Pending,
}

/// Evaluates a decision.
pub(super) fn standing(decision: &DecisionRules, bindings: &dyn Bindings) -> Result<Standing, String> {
    let holds = match decision.when.as_ref().map(|when| when.test(bindings)) {
        None => true,
        Some(Ok(holds)) => holds,
        Some(Err(Fault::Missing(_))) => false,
        Some(Err(Fault::Wrong(why))) => return Err(why),
    };
    if !holds {
        if bindings.missing().is_some() {
            note_data(decision, bindings);
        }
        return Ok(Standing::Pending);
    }
    let mut all_known = true;
    let mut value = |expr: &Expr| match expr.evaluate(bindings) {
        Ok(value) => Ok(Some(value.into_owned())),
        Err(Fault::Missing(_)) => {
            all_known = false;
            Ok(None)
        }
        Err(Fault::Wrong(why)) => Err(why),
    };
    let data = match &decision.data {
        DataRules::None => Value::Map(Map::default()),
        DataRules::Value(expr) => match value(expr)? {
            Some(value) => value,
            // A decision that is one expression says nothing until that is known.
            None => return Ok(Standing::Pending),
        },
        DataRules::Table(entries) => {
            let mut members = Map::default();
            for (name, expr) in entries {
                if let Some(value) = value(expr)? {
                    members.insert(name.clone(), value);
                }
            }
            Value::Map(members)
        }
    };
    if decision.policy == Policy::Once && !all_known {
        return Ok(Standing::Pending);
    }
    Ok(Standing::Holds(data))
}

/// Has the bindings note what the data misses, if the decision would wait for it. What is wrong there is not wrong until
/// the decision holds.
fn note_data(decision: &DecisionRules, bindings: &dyn Bindings) {
    match &decision.data {
        DataRules::Value(expr) => {
            let _ = expr.evaluate(bindings);
        }
        DataRules::Table(entries) if decision.policy == Policy::Once => {
            for (_, expr) in entries {
                let _ = expr.evaluate(bindings);
            }
        }
        DataRules::None | DataRules::Table(_) => {}
    }
}

/// The revision that follows, if one does.
fn revision(
    decision: &DecisionRules,
    bindings: &dyn Bindings,
    last: Option<&LedgerEntry>,
    now: Timestamp,
) -> Result<Option<DecisionRevision>, String> {
    if decision.policy == Policy::Once && last.is_some() {
        return Ok(None);
    }
    let stands = last.filter(|last| last.state != DecisionState::Withdrawn);
    let (state, data) = match (standing(decision, bindings)?, stands) {
        (Standing::Pending, None) => return Ok(None),
        (Standing::Pending, Some(_)) => (DecisionState::Withdrawn, Packed::new(&Value::Null)),
        (Standing::Holds(data), None) => (DecisionState::Made, Packed::new(&data)),
        (Standing::Holds(data), Some(last)) => {
            let data = Packed::new(&data);
            if data == last.data {
                return Ok(None);
            }
            (DecisionState::Revised, data)
        }
    };
    Ok(Some(DecisionRevision {
        name: decision.name.clone(),
        element: None,
        revision: Revision(last.map_or(1, |last| last.revision.0 + 1)),
        state,
        data,
        time: last.map_or(now, |last| now.max(last.time.just_after())),
        correlation: Box::default(),
    }))
}
