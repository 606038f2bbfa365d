//! The entity document: what people and programs see of an entity.

use super::conclude::{HOPS_MAX, wrong};
use super::decision::{elements, standing};
use super::entity_bindings::{ElementBindings, EntityBindings, effect_value};
use super::entity_rules::DecisionRules;
use super::entity_rules::EntityRules;
use super::expr::{Bindings, Expr, Fault, Part};
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
        let bindings = EntityBindings::new(rules, key, state).explaining();
        let mut errors = Map::default();
        let mut fields = Map::default();
        let mut derived = Map::default();
        let values = rules.fields.len() + rules.derived.len();
        for (at, name) in rules.member_names().take(values).enumerate() {
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
        // One that others only wait for has no rules to follow yet.
        if state.exists() {
            wrong(rules, &bindings, state).for_each(|(name, why)| errors.insert(name, Value::string(why)));
        }
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
            ("waiting_for", waiting_for(rules, state)),
            ("decisions", Value::Map(decisions)),
            ("deadlines", deadlines(rules, state)),
            ("effects", effects(rules, state)),
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
    filter.test(&EntityBindings::new(rules, key, state)) == Ok(true)
}

/// What a condition over the entity comes to, and what every path in it leads to.
#[derive(Debug)]
pub struct Explained {
    pub outcome: Result<bool, Fault>,
    pub parts: Vec<Part>,
}

/// Evaluates a condition over the entity and explains it.
pub fn explain(rules: &EntityRules, key: &str, state: &State, condition: &Expr) -> Explained {
    let bindings = EntityBindings::new(rules, key, state);
    Explained { outcome: condition.test(&bindings), parts: condition.parts(&bindings) }
}

/// References whose entity is not there yet, and since when they point to it.
fn waiting_for(rules: &EntityRules, state: &State) -> Value {
    let Some(dealings) = &state.dealings else { return Value::List(Vec::new()) };
    let waiting = rules.references.iter().filter_map(|it| Some((it, dealings.view(&it.name)?)));
    let waiting = waiting.filter(|(_, view)| view.content.is_none());
    let shown = waiting.map(|(it, view)| {
        let mut shown = Map::default();
        shown.insert("reference", Value::string(&*it.name));
        shown.insert("type", Value::string(&*it.kind));
        shown.insert("key", Value::string(&*view.to));
        shown.insert("since", Value::Timestamp(view.since));
        Value::Map(shown)
    });
    Value::List(shown.collect())
}

fn deadlines(rules: &EntityRules, state: &State) -> Value {
    let mut all = Map::default();
    let dealings = state.dealings.as_deref();
    for it in &rules.deadlines {
        let Some(deadline) = dealings.and_then(|dealings| dealings.deadline(&it.name)) else { continue };
        let mut shown = Map::default();
        shown.insert("at", Value::Timestamp(deadline.times.at));
        shown.insert("state", Value::string(if deadline.times.has_passed { "passed" } else { "pending" }));
        all.insert(it.name.clone(), Value::Map(shown));
    }
    Value::Map(all)
}

fn effects(rules: &EntityRules, state: &State) -> Value {
    let mut all = Map::default();
    let dealings = state.dealings.as_deref();
    for it in &rules.effects {
        if let Some(effect) = dealings.and_then(|dealings| dealings.effect(&it.name)) {
            all.insert(it.name.clone(), effect_value(effect));
        }
    }
    Value::Map(all)
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
        let entry = match &decision.by {
            None => {
                let needs = needs(decision, rules, bindings, bindings, errors);
                Value::Map(entry(state, &decision.name, None, needs, lsns))
            }
            Some(by) => Value::Map(by_element(decision, by, rules, bindings, state, lsns, errors)),
        };
        shown.insert(&*decision.name, entry);
    }
    for name in state.dealings.iter().flat_map(|dealings| &dealings.stopped) {
        let why = format!("it led back to itself more than {HOPS_MAX} times on end, and is an event to itself no more");
        errors.insert(&**name, Value::string(why));
    }
    shown
}

/// An entry for each element that there is or that a decision was made for.
fn by_element(
    decision: &DecisionRules,
    by: &Expr,
    rules: &EntityRules,
    bindings: &EntityBindings<'_>,
    state: &State,
    lsns: &LsnBook,
    errors: &mut Map,
) -> Map {
    let mut all = Map::default();
    let elements = match elements(by, bindings) {
        Ok(elements) => elements.unwrap_or_default(),
        Err(why) => {
            errors.insert(&*decision.name, Value::string(why));
            Vec::new()
        }
    };
    for (name, element) in &elements {
        let of_element = ElementBindings { entity: bindings, element };
        let needs = needs(decision, rules, bindings, &of_element, errors);
        all.insert(&**name, Value::Map(entry(state, &decision.name, Some(name), needs, lsns)));
    }
    for last in state.ledger.iter().filter(|last| last.name == decision.name) {
        if let Some(name) = last.element.as_deref().filter(|name| all.get(name).is_none()) {
            all.insert(name, Value::Map(entry(state, &decision.name, Some(name), Vec::new(), lsns)));
        }
    }
    all
}

/// What a decision misses.
fn needs(
    decision: &DecisionRules,
    rules: &EntityRules,
    entity: &EntityBindings<'_>,
    bindings: &dyn Bindings,
    errors: &mut Map,
) -> Vec<Value> {
    let _ = entity.take_missing();
    if let Err(why) = standing(decision, bindings) {
        errors.insert(&*decision.name, Value::string(why));
    }
    let prefix = format!("{}.", rules.name);
    let missing = entity.take_missing();
    missing.iter().map(|path| Value::string(path.strip_prefix(&prefix).unwrap_or(path))).collect()
}

/// A decision as it stands, or what it needs; and its last revision where only an earlier life made any.
fn entry(state: &State, name: &str, element: Option<&str>, needs: Vec<Value>, lsns: &LsnBook) -> Map {
    let mut entry = Map::default();
    match state.decision(name, element) {
        None => {
            entry.insert("state", Value::string("pending"));
            entry.insert("needs", Value::List(needs));
            if let Some(past) = state.past_decision(name, element) {
                entry.insert("past_revision", Value::Int(i64::from(past.revision.0)));
            }
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
    entry
}
