//! What of an entity is told outside has a stable name: decisions, deadlines, effects; and what caused them.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::event::{Event, TimeGiven};
use super::ids::{EntityKey, Revision};
use super::record::{DecisionRevision, DecisionState, Input, Record};
use super::trace::TraceContext;
use super::value::{Map, Value};

/// So much of a fingerprint names rules as a cause, in bytes.
const RULES_CAUSE_BYTES: usize = 6;

/// A decision's id: `type/key/name[/element]/revision`, every part percent-encoded outside `[A-Za-z0-9_~-]`.
pub fn decision_id(entity: &EntityKey, decision: &DecisionRevision) -> String {
    id(entity, &decision.name, decision.element.as_deref(), decision.revision)
}

/// An effect's id, which its calls carry as `Idempotency-Key`: `type/key/name/run`, encoded alike.
pub fn effect_id(entity: &EntityKey, name: &str, run: u32) -> String {
    id(entity, name, None, Revision(run))
}

fn id(entity: &EntityKey, name: &str, element: Option<&str>, number: Revision) -> String {
    let mut id = String::new();
    for part in [entity.kind(), entity.key(), name].into_iter().chain(element) {
        encode(&mut id, part);
        id.push('/');
    }
    let _ = write!(id, "{}", number.0);
    id
}

/// Percent-encodes everything outside `[A-Za-z0-9_~-]`.
pub fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'~' | b'-' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

/// Who says what an entity decided.
pub fn source(server: &str, entity: &EntityKey) -> String {
    format!("/{server}/{}", entity.kind())
}

/// What caused a record: an event's id, that of whatever made another entity send a message, a deadline's name, an effect's
/// id, new rules. None where nothing but time did.
pub fn cause_of(record: &Record) -> Option<Cow<'_, str>> {
    match &record.input {
        Input::Event(input) | Input::Released(input) => Some(Cow::Borrowed(&input.event.id)),
        Input::Message(received) => Some(Cow::Borrowed(&received.cause)),
        Input::Due { name, .. } => {
            let mut id = String::new();
            for part in [record.entity.kind(), record.entity.key()] {
                encode(&mut id, part);
                id.push('/');
            }
            encode(&mut id, name);
            Some(Cow::Owned(id))
        }
        Input::Started { effect, run, .. }
        | Input::Ended { effect, run, .. }
        | Input::Resolved { effect, run, .. }
        | Input::AskedAgain { effect, run, .. } => Some(Cow::Owned(effect_id(&record.entity, effect, *run))),
        Input::Rules { fingerprint } => {
            let mut id = String::from("rules:");
            fingerprint.iter().take(RULES_CAUSE_BYTES).for_each(|byte| {
                let _ = write!(id, "{byte:02x}");
            });
            Some(Cow::Owned(id))
        }
        Input::Forgotten(_) => {
            let mut id = String::from("forgotten:");
            encode(&mut id, record.entity.kind());
            id.push('/');
            encode(&mut id, record.entity.key());
            Some(Cow::Owned(id))
        }
        // What the system keeps, and what is held, decides nothing.
        _ => None,
    }
}

/// The decision as expressions read it: `event`, with the same attributes.
pub fn decision_event(server: &str, record: &Record, decision: &DecisionRevision) -> Event {
    let mut extensions = Map::default();
    extensions.insert("revision", Value::Int(i64::from(decision.revision.0)));
    extensions.insert("decisionstate", Value::string(decision.state.as_str()));
    if let Some(element) = &decision.element {
        extensions.insert("element", Value::string(element.clone()));
    }
    if let Some(cause) = cause_of(record) {
        extensions.insert("causationid", Value::string(&*cause));
    }
    extensions.insert("correlationid", Value::string(decision.correlation.clone()));
    for (name, value) in TraceContext::of_record(record).iter().flat_map(TraceContext::headers) {
        extensions.insert(name, Value::string(value));
    }
    Event {
        source: source(server, &record.entity).into(),
        id: decision_id(&record.entity, decision).into(),
        kind: decision.name.as_ref().into(),
        time: decision.time,
        time_given: TimeGiven::BySender,
        subject: Some(record.entity.key().into()),
        data: (decision.state != DecisionState::Withdrawn).then(|| decision.data.unpack()),
        extensions,
    }
}
