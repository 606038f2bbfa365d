//! The entity document: what people and programs see of an entity.

use super::bindings::EntityBindings;
use super::compile::EntityRules;
use super::decide::standing;
use super::expr::{Expr, Fault, Part};
use crate::model::json;
use crate::model::record::DecisionState;
use crate::model::state::{LsnBook, State};
use crate::model::value::{Map, Value};

/// An entity as it is shown: members in the order they are written.
#[derive(Clone, Debug)]
pub struct Document(Vec<(&'static str, Value)>);

impl Document {
    /// The document of `key` with `state`.
    pub fn new(rules: &EntityRules, key: &str, state: &State, lsns: &LsnBook) -> Self {
        let bindings = EntityBindings::new(rules, key, state, &[]).explaining();
        let mut errors = Map::default();
        let mut fields = Map::default();
        let mut derived = Map::default();
        for (at, name) in rules.member_names().enumerate() {
            let is_derived = at >= rules.fields.len();
            // Takes that start at zero or empty are shown once something was merged, so that no rule is guessed from a default.
            if !is_derived && bindings.field(at).is_none() {
                continue;
            }
            match bindings.member(at) {
                Ok(value) if is_derived => derived.insert(name, value.clone()),
                Ok(value) => fields.insert(name, value.clone()),
                Err(Fault::Missing(_)) => {}
                Err(Fault::Wrong(why)) => errors.insert(name, Value::string(why)),
            }
        }
        let decisions = decisions(rules, &bindings, state, lsns, &mut errors);
        let missing: Vec<Value> = rules.missing_names(state.missing).map(Value::string).collect();
        let lsn = i64::try_from(lsns.last.0).unwrap_or(i64::MAX);
        let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        Document(vec![
            ("type", Value::string(&*rules.name)),
            ("key", Value::string(key)),
            ("version", int(state.version.0)),
            ("lsn", Value::Int(lsn)),
            ("updated", Value::Timestamp(state.now)),
            ("events", int(state.events)),
            ("fields", Value::Map(fields)),
            ("derived", Value::Map(derived)),
            ("completeness", Value::Double(completeness(rules, state))),
            ("missing", Value::List(missing)),
            ("waiting_for", Value::List(Vec::new())),
            ("decisions", Value::Map(decisions)),
            ("deadlines", Value::Map(Map::default())),
            ("effects", Value::Map(Map::default())),
            ("errors", Value::Map(errors)),
        ])
    }

    /// The document as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = vec![b'{'];
        for (n, (name, value)) in self.0.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            json::write_string(&mut out, name);
            out.push(b':');
            json::write(&mut out, value);
        }
        out.push(b'}');
        out
    }

    /// A member.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// The share of `complete` members that are present; 1 where none is declared.
pub fn completeness(rules: &EntityRules, state: &State) -> f64 {
    match rules.complete.len() {
        0 => 1.0,
        all => (all - state.missing.count_ones() as usize) as f64 / all as f64,
    }
}

/// Whether a filter over the entity is true; what is unknown or wrong is not.
pub fn matches(rules: &EntityRules, key: &str, state: &State, filter: &Expr) -> bool {
    filter.test(&EntityBindings::new(rules, key, state, &[])) == Ok(true)
}

/// What a condition over the entity comes to, and what every path in it leads to.
#[derive(Debug)]
pub struct Explained {
    pub outcome: Result<bool, Fault>,
    pub parts: Vec<Part>,
}

/// Evaluates a condition over the entity and explains it.
pub fn explain(rules: &EntityRules, key: &str, state: &State, condition: &Expr) -> Explained {
    let bindings = EntityBindings::new(rules, key, state, &[]);
    Explained { outcome: condition.test(&bindings), parts: condition.parts(&bindings) }
}

fn decisions(
    rules: &EntityRules,
    bindings: &EntityBindings<'_>,
    state: &State,
    lsns: &LsnBook,
    errors: &mut Map,
) -> Map {
    let mut shown = Map::default();
    for decision in &rules.decisions {
        let _ = bindings.take_missing();
        if let Err(why) = standing(decision, bindings) {
            errors.insert(&*decision.name, Value::string(why));
        }
        let needs = bindings.take_missing();
        let mut entry = Map::default();
        match state.decision(&decision.name, None) {
            None => {
                entry.insert("state", Value::string("pending"));
                let prefix = format!("{}.", rules.name);
                let names = needs.iter().map(|path| Value::string(path.strip_prefix(&prefix).unwrap_or(path)));
                entry.insert("needs", Value::List(names.collect()));
            }
            Some(last) => {
                entry.insert("state", Value::string(last.state.as_str()));
                entry.insert("revision", Value::Int(i64::from(last.revision.0)));
                if last.state != DecisionState::Withdrawn {
                    entry.insert("data", last.data.unpack());
                }
                entry.insert("time", Value::Timestamp(last.time));
                if let Some(lsn) = lsns.lsn_of(last.version) {
                    entry.insert("lsn", Value::Int(i64::try_from(lsn.0).unwrap_or(i64::MAX)));
                }
            }
        }
        shown.insert(&*decision.name, Value::Map(entry));
    }
    shown
}
