//! What differs between two outcomes of the same events: fields, derived values, what decisions finally say.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::dealings::{Deadline, Dealings};
use crate::model::ids::EntityKey;
use crate::model::json;
use crate::model::life::EXPIRE;
use crate::model::record::DecisionState;
use crate::model::state::{LedgerEntry, LsnBook, State};
use crate::model::value::{Map, Value};
use crate::rules::{Document, EntityRules, Fickle, Machine, Ruleset};

/// The part of an entity that differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Field(String),
    Derived(String),
    Deadline(String),
    Decision(String),
    /// What is called, not what comes of it.
    Effect(String),
}

/// A part of one entity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub entity: EntityKey,
    pub part: Part,
}

/// One part that is not the same in both; none where there is nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub subject: Subject,
    pub first: Option<String>,
    pub second: Option<String>,
}

impl Part {
    /// The name in the rules.
    pub fn name(&self) -> &str {
        match self {
            Part::Field(name)
            | Part::Derived(name)
            | Part::Deadline(name)
            | Part::Decision(name)
            | Part::Effect(name) => name,
        }
    }

    /// What it is, and its name.
    pub fn described(&self) -> String {
        match self {
            Part::Field(name) => format!("field {name}"),
            Part::Derived(name) => format!("derived value {name}"),
            Part::Deadline(name) => format!("deadline {name}"),
            Part::Decision(name) => format!("decision {name}"),
            Part::Effect(name) => format!("effect {name}"),
        }
    }
}

/// Whether two outcomes are the same without a close look; what is not may be so all the same.
pub fn are_same(first: &Machine, second: &Machine) -> bool {
    // Those that others only wait for are there or not as it happens.
    let [mut one, mut other] = [first, second].map(|it| it.states().iter().filter(|(_, state)| state.exists()));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if same((one, other)) => {}
            _ => return false,
        }
    }
}

type Entry<'s> = (&'s EntityKey, &'s State);

fn same(((key, state), (other_key, other)): (Entry<'_>, Entry<'_>)) -> bool {
    key == other_key && state.fields == other.fields && same_decisions(state, other) && same_dealings(state, other)
}

fn same_decisions(first: &State, second: &State) -> bool {
    let within = |a: &State, b: &State| {
        let stands = |entry: &&LedgerEntry| entry.state != DecisionState::Withdrawn;
        a.ledger.iter().filter(stands).all(|entry| {
            let other = b.decision(&entry.name, entry.element.as_deref()).filter(stands);
            other.is_some_and(|other| other.data == entry.data)
        })
    };
    within(first, second) && within(second, first)
}

fn same_dealings(first: &State, second: &State) -> bool {
    let no_dealings = Dealings::default();
    let [first, second] = [first, second].map(|state| state.dealings.as_deref().unwrap_or(&no_dealings));
    let within = |a: &Dealings, b: &Dealings| {
        declared(a).all(|it| b.deadline(&it.name).is_some_and(|other| other.times.at == it.times.at))
            && a.effects.iter().all(|it| b.effect(&it.name).is_some_and(|other| other.request == it.request))
            && a.views.iter().all(|it| b.view(&it.reference).is_some_and(|other| other.content == it.content))
    };
    within(first, second) && within(second, first)
}

/// Deadlines of the rules: when an entity expires depends on when its events came.
fn declared(dealings: &Dealings) -> impl Iterator<Item = &Deadline> {
    dealings.deadlines.iter().filter(|it| *it.name != *EXPIRE)
}

/// What a decision says, if it stands; of one with elements, what it says of each.
pub fn says(state: &State, name: &str) -> Option<String> {
    let entries = state.ledger.iter().filter(|it| *it.name == *name && it.state != DecisionState::Withdrawn);
    let mut of_elements = Map::default();
    for entry in entries {
        match &entry.element {
            None => return Some(json::to_string(&entry.data.unpack())),
            Some(element) => of_elements.insert(element.clone(), entry.data.unpack()),
        }
    }
    let is_any = of_elements.iter().next().is_some();
    is_any.then(|| json::to_string(&Value::Map(of_elements)))
}

/// Everything that differs: fields first, then derived values, then deadlines, decisions and effects; but for what depends
/// on when things happen, by design.
pub fn differences(ruleset: &Ruleset, fickle: &Fickle, first: &Machine, second: &Machine) -> Vec<Difference> {
    if are_same(first, second) {
        return Vec::new();
    }
    let there = |machine: &'_ Machine| machine.states().keys().cloned().collect::<BTreeSet<EntityKey>>();
    let mut found = Vec::new();
    let nothing = State::default();
    for entity in there(first).union(&there(second)) {
        let Some(rules) = ruleset.get(entity.kind()) else { continue };
        let [one, other] = [first, second].map(|machine| machine.states().get(entity).unwrap_or(&nothing));
        if !one.exists() && !other.exists() || same(((entity, one), (entity, other))) {
            continue;
        }
        let parts = [one, other].map(|state| parts(rules, entity, state));
        let all: BTreeSet<&Part> = parts.iter().flat_map(BTreeMap::keys).collect();
        for part in all {
            let is_fickle = match part {
                Part::Effect(name) => fickle.asks(rules, name),
                part => fickle.has(entity.kind(), part.name()),
            };
            let [first, second] = [0, 1].map(|side| parts[side].get(part).cloned());
            if first != second && !is_fickle {
                found.push(Difference {
                    subject: Subject { entity: entity.clone(), part: part.clone() },
                    first,
                    second,
                });
            }
        }
    }
    found
}

/// What there is of an entity, each as its text.
fn parts(rules: &EntityRules, entity: &EntityKey, state: &State) -> BTreeMap<Part, String> {
    let document = Document::new(rules, entity.key(), state, &LsnBook::default());
    let mut parts = BTreeMap::new();
    for (member, part) in [("fields", Part::Field as fn(String) -> Part), ("derived", Part::Derived)] {
        if let Some(Value::Map(members)) = document.get(member) {
            parts.extend(members.iter().map(|(name, value)| (part(name.to_owned()), json::to_string(value))));
        }
    }
    for decision in &rules.decisions {
        parts.extend(says(state, &decision.name).map(|says| (Part::Decision(decision.name.to_string()), says)));
    }
    for deadline in state.dealings.iter().flat_map(|dealings| declared(dealings)) {
        parts.insert(Part::Deadline(deadline.name.to_string()), deadline.times.at.to_string());
    }
    for effect in state.dealings.iter().flat_map(|dealings| &dealings.effects) {
        parts.insert(Part::Effect(effect.name.to_string()), json::to_string(&effect.request.unpack()));
    }
    parts
}
