//! One decision: what it comes to in a state, and the revisions that follow.

use super::entity_bindings::{ElementBindings, EntityBindings};
use super::entity_rules::{DataRules, DecisionRules, EntityRules};
use super::expr::{Bindings, Expr, Fault};
use std::collections::HashMap;

use crate::config::Policy;
use crate::model::ids::Revision;
use crate::model::packed::Packed;
use crate::model::record::{DecisionRevision, DecisionState};
use crate::model::state::{LedgerEntry, State};
use crate::model::time::Timestamp;
use crate::model::value::{Map, Value};

/// A decision is made for at most so many elements of its `by`.
const ELEMENTS_MAX: usize = 10_000;

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

/// An element of a decision's `by`, with its name.
pub(super) type Element = (Box<str>, Value);

/// The elements of a decision with `by`, each with its name, in order; `None` while they are not known.
///
/// # Errors
/// Why there are none.
pub(super) fn elements(by: &Expr, bindings: &dyn Bindings) -> Result<Option<Vec<Element>>, String> {
    let value = match by.evaluate(bindings) {
        Ok(value) => value.into_owned(),
        Err(Fault::Missing(_)) => return Ok(None),
        Err(Fault::Wrong(why)) => return Err(why),
    };
    let items: Vec<Value> = match value {
        Value::List(items) => items,
        Value::Map(members) => members.into_iter().map(|(name, _)| Value::String(name)).collect(),
        other => return Err(format!("`by` must be a list or a map, this is {}", other.described())),
    };
    if items.len() > ELEMENTS_MAX {
        return Err(format!("`by` has {} elements, at most {ELEMENTS_MAX} are possible", items.len()));
    }
    let mut named: Vec<Element> = Vec::with_capacity(items.len());
    for item in items {
        let name = match &item {
            Value::String(text) => text.clone(),
            Value::Bool(truth) => truth.to_string().into(),
            other => other.whole_text().ok_or_else(|| {
                format!("an element of `by` is a string, integer or bool, this is {}", other.described())
            })?,
        };
        named.push((name, item));
    }
    named.sort_by(|a, b| a.0.cmp(&b.0));
    named.dedup_by(|a, b| a.0 == b.0);
    Ok(Some(named))
}

/// What new revisions are numbered and timed by.
#[derive(Clone, Copy)]
pub(super) struct Numbering {
    now: Timestamp,
    /// None is below this.
    first: Revision,
}

impl Numbering {
    pub fn new(rules: &EntityRules, now: Timestamp) -> Self {
        Numbering { now, first: rules.first_revision() }
    }
}

/// The revisions that follow.
///
/// # Errors
/// What is wrong; then the decision stays as it is.
pub(super) fn revisions(
    decision: &DecisionRules,
    bindings: &EntityBindings<'_>,
    state: &State,
    numbering: Numbering,
) -> Result<Vec<DecisionRevision>, String> {
    let Some(by) = &decision.by else {
        let last = Last::of(state, decision, None, state.decision(&decision.name, None));
        let mut revisions: Vec<_> = revision(decision, None, bindings, &last, numbering)?.into_iter().collect();
        revisions.extend(withdrawn(decision, state, |element| element.is_none(), numbering));
        return Ok(revisions);
    };
    let elements = elements(by, bindings)?.unwrap_or_default();
    // There may be many: the ledger is gone through once for all.
    let of_this = state.ledger.iter().filter(|entry| entry.name == decision.name);
    let entries: HashMap<&str, &LedgerEntry> =
        of_this.filter_map(|entry| Some((entry.element.as_deref()?, entry))).collect();
    let mut revisions = Vec::new();
    for (name, element) in &elements {
        let bindings = ElementBindings { entity: bindings, element };
        let last = Last::of(state, decision, Some(name), entries.get(&**name).copied());
        revisions.extend(revision(decision, Some(name), &bindings, &last, numbering)?);
    }
    let is_there = |name: &str| elements.binary_search_by(|(known, _)| (**known).cmp(name)).is_ok();
    revisions.extend(withdrawn(decision, state, |element| element.is_some_and(is_there), numbering));
    Ok(revisions)
}

/// The withdrawals of what stands of a decision and is no more: for elements that are gone, or, since the rules changed, of one
/// that had none and has some, or the other way round.
pub(super) fn withdrawn(
    decision: &DecisionRules,
    state: &State,
    is_there: impl Fn(Option<&str>) -> bool,
    numbering: Numbering,
) -> impl Iterator<Item = DecisionRevision> {
    let stands = |entry: &&LedgerEntry| {
        decision.policy == Policy::Revise
            && entry.name == decision.name
            && entry.state != DecisionState::Withdrawn
            && !is_there(entry.element.as_deref())
    };
    let null = || Packed::new(&Value::Null);
    let withdraw = move |last: &LedgerEntry| {
        next(decision, last.element.as_deref(), &Last::here(last), DecisionState::Withdrawn, null(), numbering)
    };
    state.ledger.iter().filter(stands).map(withdraw).collect::<Vec<_>>().into_iter()
}

/// The revision that follows, if one does.
fn revision(
    decision: &DecisionRules,
    element: Option<&str>,
    bindings: &dyn Bindings,
    last: &Last<'_>,
    numbering: Numbering,
) -> Result<Option<DecisionRevision>, String> {
    if decision.policy == Policy::Once && last.number.is_some() {
        return Ok(None);
    }
    let stands = last.entry.filter(|last| last.state != DecisionState::Withdrawn);
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
    Ok(Some(next(decision, element, last, state, data, numbering)))
}

/// The last revision.
struct Last<'a> {
    /// As the entity has it now; none if only an earlier life made any.
    entry: Option<&'a LedgerEntry>,
    /// Its number and time, in whatever life.
    number: Option<(Revision, Timestamp)>,
}

impl<'a> Last<'a> {
    fn of(state: &State, decision: &DecisionRules, element: Option<&str>, entry: Option<&'a LedgerEntry>) -> Self {
        let past = || state.past_decision(&decision.name, element).map(|past| (past.revision, past.time));
        Last { entry, number: entry.map_or_else(past, |entry| Some((entry.revision, entry.time))) }
    }

    fn here(entry: &'a LedgerEntry) -> Self {
        Last { entry: Some(entry), number: Some((entry.revision, entry.time)) }
    }
}

fn next(
    decision: &DecisionRules,
    element: Option<&str>,
    last: &Last<'_>,
    state: DecisionState,
    data: Packed,
    numbering: Numbering,
) -> DecisionRevision {
    DecisionRevision {
        name: decision.name.clone(),
        element: element.map(Box::from),
        revision: numbering.first.max(Revision(last.number.map_or(1, |(revision, _)| revision.0 + 1))),
        state,
        data,
        time: last.number.map_or(numbering.now, |(_, time)| numbering.now.max(time.just_after())),
        correlation: Box::default(),
    }
}
