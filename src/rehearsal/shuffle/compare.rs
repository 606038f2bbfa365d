//! What differs between two outcomes of the same events: fields, derived values, what decisions finally say.

use std::collections::BTreeSet;

use crate::model::ids::EntityKey;
use crate::model::json;
use crate::model::packed::Packed;
use crate::model::record::DecisionState;
use crate::model::state::{LsnBook, State};
use crate::model::value::{Map, Value};
use crate::rules::{Document, Machine, Ruleset};

/// The part of an entity that differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Field(String),
    Derived(String),
    Decision(String),
}

/// One part that is not the same in both; none where there is nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub entity: EntityKey,
    pub part: Part,
    pub first: Option<String>,
    pub second: Option<String>,
}

impl Part {
    /// The name in the rules.
    pub fn name(&self) -> &str {
        match self {
            Part::Field(name) | Part::Derived(name) | Part::Decision(name) => name,
        }
    }

    /// What it is, and its name.
    pub fn described(&self) -> String {
        match self {
            Part::Field(name) => format!("field {name}"),
            Part::Derived(name) => format!("derived value {name}"),
            Part::Decision(name) => format!("decision {name}"),
        }
    }
}

/// Whether two outcomes are the same without a close look; what is not may be so all the same.
pub fn are_same(first: &Machine, second: &Machine) -> bool {
    let (first, second) = (first.states(), second.states());
    first.len() == second.len()
        && first.iter().zip(second).all(|((key, state), (other_key, other))| {
            key == other_key && state.fields == other.fields && same_decisions(state, other)
        })
}

fn same_decisions(first: &State, second: &State) -> bool {
    let within = |a: &State, b: &State| {
        a.ledger.iter().all(|entry| standing(a, &entry.name).is_none_or(|data| standing(b, &entry.name) == Some(data)))
    };
    within(first, second) && within(second, first)
}

/// What a decision says, if it stands.
pub fn standing<'s>(state: &'s State, name: &str) -> Option<&'s Packed> {
    let entry = state.decision(name, None)?;
    (entry.state != DecisionState::Withdrawn).then_some(&entry.data)
}

/// Everything that differs: fields first, then derived values, then decisions.
pub fn differences(ruleset: &Ruleset, first: &Machine, second: &Machine) -> Vec<Difference> {
    if are_same(first, second) {
        return Vec::new();
    }
    let entities: BTreeSet<&EntityKey> = first.states().keys().chain(second.states().keys()).collect();
    let mut found = Vec::new();
    let nothing = State::default();
    for entity in entities {
        let Some(rules) = ruleset.get(entity.kind()) else { continue };
        let [one, other] = [first, second].map(|machine| machine.states().get(entity).unwrap_or(&nothing));
        let shown = |state| Document::new(rules, entity.key(), state, &LsnBook::default());
        let documents = [shown(one), shown(other)];
        let mut differ = |part: Part, a: Option<String>, b: Option<String>| {
            if a != b {
                found.push(Difference { entity: entity.clone(), part, first: a, second: b });
            }
        };
        let no_members = Map::default();
        for (member, part) in [("fields", Part::Field as fn(String) -> Part), ("derived", Part::Derived)] {
            let [a, b] = [&documents[0], &documents[1]].map(|document| match document.get(member) {
                Some(Value::Map(members)) => members,
                _ => &no_members,
            });
            let names: BTreeSet<&str> = a.iter().chain(b.iter()).map(|(name, _)| name).collect();
            for name in names {
                differ(part(name.to_owned()), a.get(name).map(json::to_string), b.get(name).map(json::to_string));
            }
        }
        for decision in &rules.decisions {
            let says = |state| standing(state, &decision.name).map(|data| json::to_string(&data.unpack()));
            differ(Part::Decision(decision.name.to_string()), says(one), says(other));
        }
    }
    found
}
