//! What other rules would change, counted by type, with a few examples.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reading::Refused;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::json;
use crate::model::record::{DecisionState, Record};
use crate::model::state::{LsnBook, State};
use crate::model::value::{Map, Value};
use crate::rules::{Document, EntityRules, Ruled};

/// So many entities of a type are shown.
const EXAMPLES_MAX: usize = 5;

/// What would change.
pub struct Report {
    through: Lsn,
    removed: Vec<String>,
    pub(super) refused: Refused,
    types: BTreeMap<String, Tally>,
    failures: Vec<String>,
}

/// Counts of a type.
#[derive(Default)]
struct Tally {
    entities: u64,
    changed: u64,
    new: u64,
    gone: u64,
    /// By what is counted, then by name (of decisions, with what they say after it).
    counts: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// Watchers' views of entities that would show something else.
    notices: u64,
    examples: Vec<Value>,
}

impl Tally {
    fn count(&mut self, what: &'static str, name: &str) {
        *self.counts.entry(what).or_default().entry(name.to_owned()).or_default() += 1;
    }
}

impl Report {
    pub(super) fn new(through: Lsn, removed: Vec<String>) -> Self {
        Report { through, removed, refused: Refused::default(), types: BTreeMap::new(), failures: Vec::new() }
    }

    /// Whether anything would change.
    pub fn is_change(&self) -> bool {
        !self.removed.is_empty() || self.types.values().any(|tally| tally.changed > 0)
    }

    /// An entity as it is, and as it would be.
    pub(super) fn add(
        &mut self,
        key: &EntityKey,
        old: Option<&Arc<EntityRules>>,
        before: &State,
        rules: &EntityRules,
        Ruled { state: after, record, errors }: &Ruled,
    ) {
        let tally = self.types.entry(key.kind().to_owned()).or_default();
        tally.entities += 1;
        let was = if before.exists() { old.map(|old| document(old, key, before)) } else { None };
        let is = after.exists().then(|| document(rules, key, after));
        let mut example = map([("type", text(key.kind())), ("key", text(key.key()))]);
        let how = match (&was, &is) {
            (None, _) => "new",
            (_, None) => "gone",
            _ => "changed",
        };
        example.insert("entity", text(how));
        let mut is_changed = how != "changed";
        for what in ["fields", "derived"] {
            let differences = differences(member(was.as_ref(), what), member(is.as_ref(), what));
            differences.iter().for_each(|(name, _)| tally.count(what, name));
            is_changed |= !differences.is_empty();
            if !differences.is_empty() {
                example.insert(what, Value::Map(differences));
            }
        }
        if let Some(record) = record {
            is_changed = true;
            concluded(tally, &mut example, before, record);
        }
        for rule in errors {
            tally.count("errors", rule);
        }
        tally.new += u64::from(how == "new");
        tally.gone += u64::from(how == "gone");
        if is_changed {
            tally.changed += 1;
            if tally.examples.len() < EXAMPLES_MAX {
                tally.examples.push(Value::Map(example));
            }
        }
    }

    pub(super) fn panicked(&mut self, key: &EntityKey, why: &str) {
        self.failures.push(format!("a rule panics for {key}: {why}"));
    }

    /// The report as a document.
    pub fn document(&self) -> Value {
        let mut types = Map::default();
        for (kind, tally) in &self.types {
            let mut shown = map([
                ("entities", count(tally.entities)),
                ("changed", count(tally.changed)),
                ("new", count(tally.new)),
                ("gone", count(tally.gone)),
                ("notices", count(tally.notices)),
            ]);
            for (what, counts) in &tally.counts {
                let counts = counts.iter().map(|(name, n)| (name.as_str().into(), count(*n)));
                shown.insert(*what, Value::Map(counts.collect()));
            }
            shown.insert("examples", Value::List(tally.examples.clone()));
            types.insert(kind.as_str(), Value::Map(shown));
        }
        let list = |texts: &[String]| Value::List(texts.iter().map(|it| text(it)).collect());
        let refused = map([
            ("events", count(self.refused.count)),
            ("first", self.refused.first.as_deref().map_or(Value::Null, text)),
        ]);
        Value::Map(map([
            ("changes", Value::Bool(self.is_change())),
            ("through", count(self.through.0)),
            ("types", Value::Map(types)),
            ("removed_types", list(&self.removed)),
            ("refused", Value::Map(refused)),
            ("failures", list(&self.failures)),
        ]))
    }
}

/// What would be journaled.
fn concluded(tally: &mut Tally, example: &mut Map, before: &State, record: &Record) {
    let mut decisions = Vec::new();
    for made in &record.decisions {
        tally.count("decisions", &format!("{} {}", made.name, made.state.as_str()));
        let last = before.decision(&made.name, made.element.as_deref());
        let stood = last.filter(|last| last.state != DecisionState::Withdrawn);
        let mut shown = map([
            ("name", text(&made.name)),
            ("revision", count(u64::from(made.revision.0))),
            ("state", text(made.state.as_str())),
            ("old", stood.map_or(Value::Null, |last| last.data.unpack())),
            ("new", made.data.unpack()),
        ]);
        if let Some(element) = &made.element {
            shown.insert("element", text(element));
        }
        decisions.push(Value::Map(shown));
    }
    if !decisions.is_empty() {
        example.insert("decisions", Value::List(decisions));
    }
    let effects = record.effects.iter().map(|effect| {
        tally.count("effects", &effect.name);
        Value::Map(map([("name", text(&effect.name)), ("request", effect.request.unpack())]))
    });
    let effects: Vec<Value> = effects.collect();
    if !effects.is_empty() {
        example.insert("effects", Value::List(effects));
    }
    record.deadlines.iter().for_each(|deadline| tally.count("deadlines", &deadline.name));
    record.references.iter().for_each(|reference| tally.count("references", &reference.reference));
    record.settling.iter().for_each(|decision| tally.count("settling", decision));
    tally.notices += record.notices.len() as u64;
}

fn document(rules: &EntityRules, key: &EntityKey, state: &State) -> Document {
    Document::new(rules, key.key(), state, &LsnBook::default())
}

fn member<'d>(document: Option<&'d Document>, name: &str) -> Option<&'d Map> {
    match document?.get(name)? {
        Value::Map(members) => Some(members),
        _ => None,
    }
}

/// By name, what differs: `old` and `new`, each only where there is one.
fn differences(old: Option<&Map>, new: Option<&Map>) -> Map {
    let names = old.iter().chain(new.iter()).flat_map(|map| map.iter()).map(|(name, _)| name);
    let mut found = Map::default();
    for name in names {
        let get = |map: Option<&Map>| map.and_then(|map| map.get(name)).cloned();
        let (old, new) = (get(old), get(new));
        if old.as_ref().map(json::to_string) == new.as_ref().map(json::to_string) {
            continue;
        }
        let mut difference = Map::default();
        for (which, value) in [("old", old), ("new", new)] {
            if let Some(value) = value {
                difference.insert(which, value);
            }
        }
        found.insert(name, Value::Map(difference));
    }
    found
}

fn map<const N: usize>(members: [(&str, Value); N]) -> Map {
    members.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

fn text(text: &str) -> Value {
    Value::string(text)
}

fn count(count: u64) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}
