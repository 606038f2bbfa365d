//! What is told of a record: what came, what it changed or why it changed nothing, and what followed. For people who ask
//! what happened to an entity, and for whoever follows its changes.
//!
//! Everything is taken from the record itself; what fields held before is told as far as the caller knows it.

mod changes;
mod followed;
mod input;

use std::sync::Arc;

pub use changes::{AtVersion, Before, Earlier};

use super::document::write_members;
use super::entity_rules::EntityRules;
use crate::model::ids::Lsn;
use crate::model::outgoing::cause_of;
use crate::model::record::{Input, Record};
use crate::model::value::{Map, Value};

/// What is told of a record: members in the order they are written.
#[derive(Clone, Debug)]
pub struct Account(Vec<(&'static str, Value)>);

impl Account {
    /// Tells of the record at `lsn`, which is one of an entity with these rules.
    ///
    /// Always there: `lsn`, `version`, `type`, `key`, `time` (when it arrived), `input`, `changes`. The other members are
    /// there where there is something to tell.
    pub fn new(rules: &Arc<EntityRules>, lsn: Lsn, record: &Record, before: Before<'_>) -> Self {
        let changes = changes::changes(rules, record, before);
        let mut members = vec![
            ("lsn", number(lsn.0)),
            ("version", number(record.version.0)),
            ("type", Value::string(record.entity.kind())),
            ("key", Value::string(record.entity.key())),
            ("time", Value::Timestamp(record.now)),
        ];
        members.extend(cause_of(record).map(|cause| ("cause", Value::string(&*cause))));
        members.push(("input", input::input(record)));
        if let Some(input) = record.input.event() {
            let unchanged = changes::unchanged(rules, record, input);
            members.push(("outcome", Value::string(changes::outcome(record, &unchanged))));
            members.push(("changes", Value::List(changes)));
            members.extend(some("unchanged", unchanged.iter().map(changes::Unchanged::value).collect()));
        } else {
            if matches!(record.input, Input::Held(_)) {
                members.push(("outcome", Value::string("held")));
            }
            members.push(("changes", Value::List(changes)));
        }
        if let Before::States { before, after } = before {
            members.extend(changes::of_derived(rules, before, after));
            if record.input.ending().is_none() {
                members.extend(changes::open_ends(after));
            }
        }
        members.extend(followed::followed(rules, record));
        Account(members)
    }

    /// Adds what the record itself does not say.
    pub fn add(&mut self, name: &'static str, told: Value) {
        self.0.push((name, told));
    }

    /// The account as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        write_members(&self.0)
    }

    /// A member.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// A list that is told where it is not empty.
fn some(name: &'static str, items: Vec<Value>) -> Option<(&'static str, Value)> {
    (!items.is_empty()).then_some((name, Value::List(items)))
}

/// An object with the members that there are.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    Value::Map(members.into_iter().filter_map(|(name, value)| Some((name.into(), value?))).collect::<Map>())
}

fn number(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A member that is there.
#[expect(clippy::unnecessary_wraps, reason = "beside members that may be absent")]
fn text(text: &str) -> Option<Value> {
    Some(Value::string(text))
}
