//! How a part of an outside list agrees with what is here: keys, values, and events that should have come.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::findings::{Findings, Kind};
use super::world::{VerifyError, World};
use crate::actors::Snapshot;
use crate::ingress::SOURCE_DEFAULT;
use crate::model::ids::{EntityKey, IdentityHash};
use crate::model::json;
use crate::model::state::State;
use crate::model::time::{Span, Timestamp};
use crate::model::value::Value;
use crate::rules::{Document, Ruleset};

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
    pub values: BTreeMap<String, Box<RawValue>>,
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
    for ((row, (rules, entity)), read) in batch.rows.iter().zip(about).zip(states) {
        let Some(Snapshot { state, lsns }) = read.filter(|read| read.state.exists()) else {
            findings.of(Kind::AgainstMissing, &entity, "nothing was heard of it");
            continue;
        };
        if !row.values.is_empty() {
            compare(&Document::new(rules, entity.key(), &state, &lsns), &entity, row, &mut findings);
        }
        if let Some(id) = &row.id {
            let source = row.source.as_deref().unwrap_or(SOURCE_DEFAULT);
            if !has_counted(world, &entity, &state, IdentityHash::of(source, id))? {
                findings.of(Kind::AgainstEvent, &entity, format!("event {id:?} of {source:?}"));
            }
        }
    }
    Ok(findings)
}

fn compare(document: &Document, entity: &EntityKey, row: &Row, findings: &mut Findings) {
    for (path, listed) in &row.values {
        // Of numbers, what was written is compared, not what a double makes of it.
        let expected = json::parse(listed.get().as_bytes(), DEPTH_MAX).ok();
        let is_same = |found: &Value| match &expected {
            Some(Value::String(text)) if row.text => reads_as(found, text),
            expected => expected.as_ref().is_some_and(|expected| says(found, expected)),
        };
        let found = at(document, path);
        let is_right = if found.is_empty() { expected == Some(Value::Null) } else { found.iter().any(is_same) };
        if !is_right {
            let found = found.first().map_or_else(|| "nothing".to_owned(), json::to_string);
            findings.of(Kind::AgainstValue, entity, format!("{path}: is {found}, the list has {listed}"));
        }
    }
}

/// What stands at a path: of a field, a derived value, or another member of the document; of all that are called so.
fn at(document: &Document, path: &str) -> Vec<Value> {
    let of = |group: &str, name: &str| match document.get(group) {
        Some(Value::Map(members)) => members.get(name).cloned(),
        _ => None,
    };
    let mut parts = path.split('.');
    let first = parts.next().unwrap_or_default();
    let begun = [of("fields", first), of("derived", first), document.get(first).cloned()];
    let within = |value, name: &str| match value {
        Value::Map(members) => members.get(name).cloned(),
        Value::List(items) => items.get(name.parse::<usize>().ok()?).cloned(),
        _ => None,
    };
    begun.into_iter().flatten().filter_map(|begun| parts.clone().try_fold(begun, within)).collect()
}

/// Whether a value is what JSON says, in which times and durations are text.
fn says(value: &Value, listed: &Value) -> bool {
    match (value, listed) {
        (Value::List(items), Value::List(listed)) => {
            items.len() == listed.len() && items.iter().zip(listed).all(|(item, listed)| says(item, listed))
        }
        (Value::Map(members), Value::Map(listed)) => {
            let is_listed = |(name, member)| listed.get(name).is_some_and(|listed| says(member, listed));
            members.len() == listed.len() && members.iter().all(is_listed)
        }
        (Value::Timestamp(_) | Value::Duration(_), Value::String(text)) => reads_as(value, text),
        (value, listed) => value == listed,
    }
}

/// Whether a value is what a cell of a table says.
fn reads_as(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => **found == *text,
        Value::Int(_) | Value::Double(_) | Value::Decimal(_) => json::number(text).is_some_and(|it| it == *value),
        Value::Timestamp(time) => Timestamp::parse(text) == Some(*time),
        Value::Duration(span) => Span::parse(text) == Some(*span),
        // Lists and maps, in what way they are written; a word.
        other => {
            let listed = json::parse(text.as_bytes(), DEPTH_MAX);
            listed.is_ok_and(|listed| says(other, &listed))
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
