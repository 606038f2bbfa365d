//! What a record changed, field by field, and why fields that its event is for were left as they are.

use std::collections::HashMap;
use std::sync::Arc;

use super::{object, some, text};
use crate::model::record::{EventInput, Merge, Record, Take};
use crate::model::state::{FieldState, LsnBook, State};
use crate::model::value::{Map, Value};
use crate::rules::admit::{Asked, asked};
use crate::rules::document::Document;
use crate::rules::entity_rules::EntityRules;
use crate::rules::merge::resolve;

/// What is known of what fields held before a record.
#[derive(Clone, Copy)]
pub enum Before<'a> {
    Nothing,
    /// As earlier records of the entity tell.
    Earlier(&'a Earlier),
    /// The entity before and after it.
    States {
        before: &'a AtVersion,
        after: &'a AtVersion,
    },
}

/// An entity at one version.
#[derive(Debug)]
pub struct AtVersion {
    state: State,
    document: Document,
}

impl AtVersion {
    /// The entity `key` with `state`.
    pub fn new(rules: &EntityRules, key: &str, state: State) -> Self {
        let document = Document::new(rules, key, &state, &LsnBook::default());
        AtVersion { state, document }
    }

    fn derived(&self, name: &str) -> Value {
        match self.document.get("derived") {
            Some(Value::Map(derived)) => derived.get(name).cloned().unwrap_or(Value::Null),
            _ => Value::Null,
        }
    }
}

/// What fields that hold one value were given by the records that were looked at, of one entity.
#[derive(Debug, Default)]
pub struct Earlier(HashMap<(u16, Option<Box<str>>), Value>);

impl Earlier {
    /// Notes what a record gave; they are shown in their order.
    pub fn note(&mut self, record: &Record) {
        let Some(input) = record.input.event() else { return };
        for merge in record.merges.iter().filter(|merge| holds_one(merge.take)) {
            let value = resolve(merge, input).value.unpack();
            self.0.insert((merge.slot, merge.by.clone()), value);
        }
    }

    fn before(&self, merge: &Merge) -> Option<Value> {
        self.0.get(&(merge.slot, merge.by.clone())).cloned()
    }
}

/// Whether a field that takes so holds the value of a single event.
fn holds_one(take: Take) -> bool {
    matches!(take, Take::First | Take::Latest | Take::Min | Take::Max)
}

/// What became of each field that changed: `old` and `new`, or what was `added` to it.
pub(super) fn changes(rules: &EntityRules, record: &Record, before: Before<'_>) -> Vec<Value> {
    let Some(input) = record.input.event() else { return Vec::new() };
    let change = |merge: &Merge| {
        let given = resolve(merge, input).value.unpack();
        let is_one = holds_one(merge.take);
        let (old, new) = match before {
            Before::Nothing => (None, is_one.then(|| given.clone())),
            Before::Earlier(earlier) => (earlier.before(merge), is_one.then(|| given.clone())),
            Before::States { before, after } if is_one || is_number(merge.take) => {
                (Some(held(&before.state, merge)), Some(held(&after.state, merge)))
            }
            Before::States { .. } => (None, None),
        };
        let added = match merge.take {
            Take::Count => Some(Value::Int(1)),
            _ => (!is_one).then_some(given),
        };
        object([
            ("field", text(rules.fields.get(usize::from(merge.slot)).map_or("?", |field| &*field.name))),
            ("by", merge.by.clone().map(Value::String)),
            ("take", text(take_name(merge.take))),
            ("old", old),
            ("new", new),
            ("added", added),
        ])
    };
    record.merges.iter().map(change).collect()
}

fn is_number(take: Take) -> bool {
    matches!(take, Take::Sum | Take::Count)
}

fn take_name(take: Take) -> &'static str {
    match take {
        Take::First => "first",
        Take::Latest => "latest",
        Take::Min => "min",
        Take::Max => "max",
        Take::Sum => "sum",
        Take::Count => "count",
        Take::Set => "set",
        Take::List { .. } => "list",
    }
}

/// What a field, or one entry of it, holds in a state; null where that is nothing.
fn held(state: &State, merge: &Merge) -> Value {
    let field = state.fields.get(usize::from(merge.slot)).and_then(Option::as_ref);
    let field = match (field, merge.by.as_deref()) {
        (Some(FieldState::By(entries)), Some(by)) => entries.iter().find(|(name, _)| &**name == by).map(|(_, it)| it),
        (field, _) => field,
    };
    let empty = if is_number(merge.take) && merge.by.is_none() { Value::Int(0) } else { Value::Null };
    field.and_then(FieldState::value).unwrap_or(empty)
}

/// A field that an event is for and that it left as it is.
pub(super) struct Unchanged<'a> {
    field: &'a str,
    why: &'static str,
}

const STALE: &str = "stale";
const FILTERED: &str = "filtered";
const NO_VALUE: &str = "no_value";

impl Unchanged<'_> {
    /// The field, and why: `stale` (what is there is newer, or the same), `filtered` (its `if` says no), `no_value` (the
    /// event has nothing for it).
    pub(super) fn value(&self) -> Value {
        object([("field", text(self.field)), ("why", text(self.why))])
    }
}

/// The fields that the event is for and that it left as they are.
pub(super) fn unchanged<'a>(rules: &'a Arc<EntityRules>, record: &Record, input: &EventInput) -> Vec<Unchanged<'a>> {
    let event = input.event.unpack();
    let fields = rules.fields.iter().zip(0..).filter(|(field, _)| field.takes(&event.kind));
    let others = fields.filter(|(_, slot)| record.merges.iter().all(|merge| merge.slot != *slot));
    let why = |slot| match asked(rules, &event, input.time, slot) {
        Asked::Merge => STALE,
        Asked::Filtered => FILTERED,
        Asked::Nothing => NO_VALUE,
    };
    others.map(|(field, slot)| Unchanged { field: &field.name, why: why(slot) }).collect()
}

/// What an event came to as a whole.
pub(super) fn outcome(record: &Record, unchanged: &[Unchanged<'_>]) -> &'static str {
    let is = |why| unchanged.iter().any(|it| it.why == why);
    match () {
        () if !record.merges.is_empty() => "merged",
        () if is(STALE) => STALE,
        () if is(FILTERED) => FILTERED,
        () => NO_VALUE,
    }
}

/// Derived values that are others now.
pub(super) fn of_derived(rules: &EntityRules, before: &AtVersion, after: &AtVersion) -> Option<(&'static str, Value)> {
    let change = |name: &str| {
        let (old, new) = (before.derived(name), after.derived(name));
        (old != new).then(|| object([("derived", text(name)), ("old", Some(old)), ("new", Some(new))]))
    };
    some("derived", rules.derived.iter().filter_map(|it| change(&it.name)).collect())
}

/// What was still waited for afterwards: entities that references point to and that are not there, and what each decision
/// that was never made needs.
pub(super) fn open_ends(after: &AtVersion) -> Vec<(&'static str, Value)> {
    let document = &after.document;
    let is_any = |value: &&Value| matches!(value, Value::List(items) if !items.is_empty());
    let waiting = document.get("waiting_for").filter(is_any);
    let mut needs = Map::default();
    if let Some(Value::Map(decisions)) = document.get("decisions") {
        for (name, decision) in decisions.iter() {
            let Value::Map(decision) = decision else { continue };
            if let Some(items) = decision.get("needs").filter(is_any) {
                needs.insert(name, items.clone());
            }
        }
    }
    let needs = (!needs.is_empty()).then_some(("needs", Value::Map(needs)));
    waiting.map(|it| ("waiting_for", it.clone())).into_iter().chain(needs).collect()
}
