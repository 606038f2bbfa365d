//! What followed from a record: decisions, references, deadlines, effects, and what others are told.

use super::{number, object, some, text};
use crate::model::outgoing::{decision_id, effect_id};
use crate::model::packed::Packed;
use crate::model::record::{DeadlineSet, DecisionRevision, DecisionState, Notice, Record};
use crate::model::value::Value;
use crate::rules::entity_rules::EntityRules;

/// The members that tell of it.
pub(super) fn followed(rules: &EntityRules, record: &Record) -> Vec<(&'static str, Value)> {
    let entity = &record.entity;
    let decisions = record.decisions.iter().zip(0..).map(|(it, place)| decision(record, it, place)).collect();
    let references = record.references.iter().map(|set| {
        object([
            ("reference", text(&set.reference)),
            ("type", text(&set.kind)),
            ("from", set.from.clone().map(Value::String)),
            ("to", Some(set.to.clone().map_or(Value::Null, Value::String))),
        ])
    });
    let effects = record.effects.iter().map(|asked| {
        object([
            ("effect", text(&asked.name)),
            ("id", text(&effect_id(entity, &asked.name, asked.run))),
            ("run", Some(number(u64::from(asked.run)))),
            ("request", Some(asked.request.unpack())),
        ])
    });
    let names = |names: &[Box<str>]| names.iter().cloned().map(Value::String).collect();
    let missing = rules.missing_names(record.missing).map(Value::string).collect();
    let lists = [
        some("decisions", decisions),
        some("references", references.collect()),
        some("deadlines", record.deadlines.iter().map(deadline).collect()),
        some("effects", effects.collect()),
        some("notices", record.notices.iter().map(notice).collect()),
        some("settling", names(&record.settling)),
        some("stopped", names(&record.stopped)),
        some("missing", missing),
    ];
    lists.into_iter().flatten().collect()
}

/// A revision with the id under which it leaves.
fn decision(record: &Record, made: &DecisionRevision, place: u16) -> Value {
    let data = (made.state != DecisionState::Withdrawn).then(|| made.data.unpack());
    object([
        ("id", text(&decision_id(&record.entity, made))),
        ("decision", text(&made.name)),
        ("element", made.element.clone().map(Value::String)),
        ("revision", Some(number(u64::from(made.revision.0)))),
        ("state", text(made.state.as_str())),
        ("time", Some(Value::Timestamp(made.time))),
        ("correlation", text(&made.correlation)),
        ("comes_back", record.feedback.contains(&place).then_some(Value::Bool(true))),
        ("data", data),
    ])
}

fn deadline(set: &DeadlineSet) -> Value {
    let due = set.to.filter(|to| to.due != to.at).map(|to| Value::Timestamp(to.due));
    let at = set.to.map_or(Value::Null, |to| Value::Timestamp(to.at));
    object([("deadline", text(&set.name)), ("at", Some(at)), ("due", due)])
}

fn notice(notice: &Notice) -> Value {
    object([
        ("type", text(&notice.by.kind)),
        ("reference", text(&notice.by.reference)),
        ("shown", Some(Packed::unpack(&notice.shown))),
    ])
}
