//! How a part of an outside list agrees with what is here: keys, values, and events that should have come.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;

use super::findings::{Findings, Kind};
use super::world::{VerifyError, World};
use crate::ingress::SOURCE_DEFAULT;
use crate::model::ids::{EntityKey, IdentityHash};
use crate::model::json;
use crate::model::state::{LsnBook, State};
use crate::model::value::Value;
use crate::rules::{Document, EntityRules, Ruleset};

/// Most rows that are compared at a time.
pub const ROWS_MAX: usize = 1_000;
/// How deep values may nest.
const DEPTH_MAX: usize = 128;

/// A part of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    pub rows: Vec<Row>,
}

/// What a list says of one entity.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub r#type: String,
    pub key: String,
    /// An event that it should have counted.
    pub id: Option<String>,
    /// Who sent that.
    pub source: Option<String>,
    /// What it should hold, by path: `payment.status`. JSON, or text as a table has it.
    #[serde(default)]
    pub values: BTreeMap<String, Json>,
    /// Values are text, and a number is what it reads as.
    #[serde(default)]
    pub text: bool,
}

/// Why a list cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum AgainstError {
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Failed(#[from] VerifyError),
}

/// Compares rows with what is here.
///
/// # Errors
/// There are too many, one names a type that is not declared, or what is here cannot be read.
pub fn against(world: &dyn World, ruleset: &Ruleset, batch: &Batch) -> Result<Findings, AgainstError> {
    if batch.rows.len() > ROWS_MAX {
        return Err(AgainstError::Invalid(format!("{} rows; at most {ROWS_MAX} at a time", batch.rows.len())));
    }
    let of = |row: &Row| {
        let unknown = || AgainstError::Invalid(format!("no entity type is called {:.80?}", row.r#type));
        ruleset.get(&row.r#type).ok_or_else(unknown).map(|rules| (rules, EntityKey::new(&row.r#type, &row.key)))
    };
    let about = batch.rows.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<EntityKey> = about.iter().map(|(_, entity)| entity.clone()).collect();
    let states = world.read(&keys)?;
    // As many as there are differences: whoever asks counts them.
    let mut findings = Findings::new(usize::MAX);
    for ((row, (rules, entity)), state) in batch.rows.iter().zip(about).zip(states) {
        let Some(state) = state.filter(State::exists) else {
            findings.of(Kind::AgainstMissing, &entity, "nothing was heard of it");
            continue;
        };
        compare(rules, &entity, row, &state, &mut findings);
        if let Some(id) = &row.id {
            let source = row.source.as_deref().unwrap_or(SOURCE_DEFAULT);
            if !has_counted(world, &entity, &state, IdentityHash::of(source, id))? {
                findings.of(Kind::AgainstEvent, &entity, format!("event {id:?} of {source:?}"));
            }
        }
    }
    Ok(findings)
}

fn compare(rules: &Arc<EntityRules>, entity: &EntityKey, row: &Row, state: &State, findings: &mut Findings) {
    if row.values.is_empty() {
        return;
    }
    let document = Document::new(rules, entity.key(), state, &LsnBook::default());
    for (path, expected) in &row.values {
        let found = at(&document, path);
        let is_same = match (&found, expected) {
            (None, expected) => expected.is_null(),
            (Some(found), Json::String(text)) if row.text => reads_as(found, text),
            (Some(found), expected) => {
                json::parse(expected.to_string().as_bytes(), DEPTH_MAX).is_ok_and(|it| it == *found)
            }
        };
        if !is_same {
            let found = found.map_or_else(|| "nothing".to_owned(), |found| json::to_string(&found));
            findings.of(Kind::AgainstValue, entity, format!("{path}: is {found}, the list has {expected}"));
        }
    }
}

/// What stands at a path: of a field, a derived value, or another member of the document.
fn at(document: &Document, path: &str) -> Option<Value> {
    let of = |group: &str, name: &str| match document.get(group) {
        Some(Value::Map(members)) => members.get(name).cloned(),
        _ => None,
    };
    let mut parts = path.split('.');
    let first = parts.next()?;
    let begun = of("fields", first).or_else(|| of("derived", first)).or_else(|| document.get(first).cloned())?;
    parts.try_fold(begun, |value, name| match value {
        Value::Map(members) => members.get(name).cloned(),
        Value::List(items) => items.get(name.parse::<usize>().ok()?).cloned(),
        _ => None,
    })
}

/// Whether a value is what a cell of a table says.
fn reads_as(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => **found == *text,
        Value::Int(_) | Value::Double(_) | Value::Decimal(_) => json::number(text).is_some_and(|it| it == *value),
        other => {
            let shown = json::to_string(other);
            shown == text || shown.trim_matches('"') == text
        }
    }
}

fn has_counted(
    world: &dyn World,
    entity: &EntityKey,
    state: &State,
    identity: IdentityHash,
) -> Result<bool, VerifyError> {
    if state.identities.get(identity).is_some() {
        return Ok(true);
    }
    Ok(state.identities.has_spilled() && world.store().identity(entity, identity)?.is_some())
}

/// Keys of a type in byte order, after one: those that are there themselves, at most `limit`.
///
/// # Errors
/// When they cannot be read.
pub fn keys(world: &dyn World, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<Arc<str>>, VerifyError> {
    // In this order: what is stored in between is found there.
    let mut keys = world.unsaved(kind, after, limit);
    keys.extend(world.store().keys(kind, after, "", limit)?);
    keys.sort_unstable();
    keys.dedup();
    keys.truncate(limit);
    Ok(keys)
}
