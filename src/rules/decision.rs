//! One decision: what it comes to in a state, and the revisions that follow.

use super::entity_bindings::{ElementBindings, EntityBindings};
use super::entity_rules::{DataRules, DecisionRules};
use super::expr::{Bindings, Expr, Fault};
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

/// The revisions that follow.
///
/// # Errors
/// What is wrong; then the decision stays as it is.
pub(super) fn revisions(
    decision: &DecisionRules,
    bindings: &EntityBindings<'_>,
    state: &State,
    now: Timestamp,
) -> Result<Vec<DecisionRevision>, String> {
    let Some(by) = &decision.by else {
        let last = Last::of(state, decision, None);
        return Ok(revision(decision, None, bindings, &last, now)?.into_iter().collect());
    };
    let elements = elements(by, bindings)?.unwrap_or_default();
    let mut revisions = Vec::new();
    for (name, element) in &elements {
        let bindings = ElementBindings { entity: bindings, element };
        let last = Last::of(state, decision, Some(name));
        revisions.extend(revision(decision, Some(name), &bindings, &last, now)?);
    }
    if decision.policy == Policy::Revise {
        let gone = state.ledger.iter().filter(|entry| {
            let is_there = |name: &str| elements.binary_search_by(|(known, _)| (**known).cmp(name)).is_ok();
            entry.name == decision.name
                && entry.state != DecisionState::Withdrawn
                && entry.element.as_deref().is_some_and(|name| !is_there(name))
        });
        let null = || Packed::new(&Value::Null);
        revisions.extend(
            gone.map(|it| {
                next(decision, it.element.as_deref(), &Last::here(it), DecisionState::Withdrawn, null(), now)
            }),
        );
    }
    Ok(revisions)
}

/// The revision that follows, if one does.
fn revision(
    decision: &DecisionRules,
    element: Option<&str>,
    bindings: &dyn Bindings,
    last: &Last<'_>,
    now: Timestamp,
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
    Ok(Some(next(decision, element, last, state, data, now)))
}

/// The last revision.
struct Last<'a> {
    /// As the entity has it now; none if only an earlier life made any.
    entry: Option<&'a LedgerEntry>,
    /// Its number and time, in whatever life.
    number: Option<(Revision, Timestamp)>,
}

impl<'a> Last<'a> {
    fn of(state: &'a State, decision: &DecisionRules, element: Option<&str>) -> Self {
        let past = || state.past_decision(&decision.name, element).map(|past| (past.revision, past.time));
        let entry = state.decision(&decision.name, element);
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
    now: Timestamp,
) -> DecisionRevision {
    DecisionRevision {
        name: decision.name.clone(),
        element: element.map(Box::from),
        revision: Revision(last.number.map_or(1, |(revision, _)| revision.0 + 1)),
        state,
        data,
        time: last.number.map_or(now, |(_, time)| now.max(time.just_after())),
        correlation: Box::default(),
    }
}
