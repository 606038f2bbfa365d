//! What a test found not to be as expected, part by part.

use serde_json::{Value as Json, json};

use crate::config::{DecisionState, ExpectedDecision, Files, Located};
use crate::model::ids::EntityKey;
use crate::model::refusal::{Code, Refusal};
use crate::model::state::LedgerEntry;
use crate::model::value::{Map, Value};
use crate::model::{json, record};
use crate::rules::{Explained, Fault};

/// Deeper than any event may be, so that what a decision says can be read back.
const DATA_DEPTH_MAX: usize = 1_000;

/// Something that is not as expected.
#[derive(Debug)]
pub enum Failure {
    /// Other events were refused than expected.
    Refused {
        expected: Vec<Code>,
        actual: Vec<RefusedInput>,
    },
    /// Nothing was heard of the entity.
    NoEntity {
        entity: EntityKey,
        there: Vec<String>,
    },
    /// A condition is not true.
    That {
        entity: EntityKey,
        text: Located<String>,
        explained: Explained,
    },
    Decision {
        entity: EntityKey,
        name: String,
        differences: Vec<Difference>,
    },
    /// Other references wait for their entities than expected.
    Waiting {
        entity: EntityKey,
        expected: Vec<String>,
        actual: Vec<String>,
    },
    /// One thing followed from the other without an end.
    NoRest,
}

/// An event that was refused.
#[derive(Clone, Debug)]
pub struct RefusedInput {
    /// "line 7", "event 7".
    pub input: String,
    pub refusal: Refusal,
}

/// One part of a decision that is not as expected; none where there is nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub part: String,
    pub expected: Option<String>,
    pub actual: Option<String>,
}

impl Failure {
    /// For programs.
    pub fn to_json(&self, files: &Files) -> Json {
        match self {
            Failure::Refused { expected, actual } => json!({
                "what": "refused",
                "expected": expected.iter().map(|code| code.as_str()).collect::<Vec<_>>(),
                "actual": actual.iter().map(|refused| json!({
                    "input": refused.input,
                    "code": refused.refusal.code.as_str(),
                    "message": refused.refusal.message,
                })).collect::<Vec<_>>(),
            }),
            Failure::NoEntity { entity, there } => {
                json!({"what": "entity", "entity": entity_name(entity), "there": there})
            }
            Failure::That { entity, text, explained } => json!({
                "what": "that",
                "entity": entity_name(entity),
                "at": files.place(text.at),
                "expression": text.value,
                "is": outcome_text(&explained.outcome),
                "parts": explained.parts.iter().map(|(path, value)| json!({"path": path, "value": value_text(value)}))
                    .collect::<Vec<_>>(),
            }),
            Failure::Waiting { entity, expected, actual } => {
                json!({"what": "waiting_for", "entity": entity_name(entity), "expected": expected, "actual": actual})
            }
            Failure::NoRest => json!({"what": "rest"}),
            Failure::Decision { entity, name, differences } => json!({
                "what": "decision",
                "entity": entity_name(entity),
                "decision": name,
                "differences": differences.iter().map(|difference| json!({
                    "part": difference.part,
                    "expected": difference.expected,
                    "actual": difference.actual,
                })).collect::<Vec<_>>(),
            }),
        }
    }
}

/// An entity as tests write it: "order/order-123".
pub fn entity_name(entity: &EntityKey) -> String {
    format!("{}/{}", entity.kind(), entity.key())
}

/// What a condition came to, in words.
pub fn outcome_text(outcome: &Result<bool, Fault>) -> String {
    match outcome {
        Ok(truth) => truth.to_string(),
        Err(Fault::Missing(path)) if path.is_empty() => "unknown".to_owned(),
        Err(Fault::Missing(path)) => format!("unknown: there is no {path}"),
        Err(Fault::Wrong(why)) => format!("wrong: {why}"),
    }
}

/// What a path leads to, in words.
pub fn value_text(value: &Result<Value, Fault>) -> String {
    match value {
        Ok(value) => json::to_string(value),
        Err(Fault::Missing(_)) => "not there".to_owned(),
        Err(Fault::Wrong(why)) => format!("wrong: {why}"),
    }
}

/// What of a decision is not as expected.
pub(super) fn compare_decision(expected: &ExpectedDecision, actual: Option<&LedgerEntry>) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut compare = |part: &str, expected: Option<String>, actual: Option<String>| {
        if expected != actual {
            differences.push(Difference { part: part.to_owned(), expected, actual });
        }
    };
    if let Some(state) = expected.state {
        let is = actual.map_or(DecisionState::Pending, |entry| entry.state.into());
        compare("state", Some(state.name().to_owned()), Some(is.name().to_owned()));
    }
    if let Some(revision) = expected.revision {
        compare("revision", Some(revision.to_string()), actual.map(|entry| entry.revision.0.to_string()));
    }
    if let Some(data) = &expected.data {
        let stands = actual.filter(|entry| entry.state != record::DecisionState::Withdrawn);
        let is = stands.map(|entry| shown(&entry.data.unpack()));
        match (data, is) {
            (Value::Map(expected), Some(Value::Map(actual))) => {
                compare_members("data", expected, &actual, &mut compare);
            }
            (expected, is) if is.as_ref().is_some_and(|is| is.equals(expected)) => {}
            (expected, is) => compare("data", Some(json::to_string(expected)), is.as_ref().map(json::to_string)),
        }
    }
    differences
}

fn compare_members(
    path: &str,
    expected: &Map,
    actual: &Map,
    compare: &mut impl FnMut(&str, Option<String>, Option<String>),
) {
    let mut names: Vec<&str> = expected.iter().chain(actual.iter()).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (a, b) = (expected.get(name), actual.get(name));
        if !a.zip(b).is_some_and(|(a, b)| a.equals(b)) {
            compare(&format!("{path}.{name}"), a.map(json::to_string), b.map(json::to_string));
        }
    }
}

/// A value as documents show it, in which a timestamp is a string.
fn shown(value: &Value) -> Value {
    json::parse(json::to_string(value).as_bytes(), DATA_DEPTH_MAX).unwrap_or(Value::Null)
}
