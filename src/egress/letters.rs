//! Dead letters as they are told of: what failed, where it came from, and what it was.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::model::event::{Event, TimeGiven};
use crate::model::json;
use crate::model::record::{Input, Record};
use crate::model::system::{DeadLetter, Origin};
use crate::model::value::Map;

/// The type of the event that tells a sink of a dead letter.
pub const DEAD_LETTER_EVENT: &str = "turnstile.dead_letter";
/// No body that is told of is deeper: it is text.
const DEPTH_MAX: usize = 16;

/// A dead letter's members; `id` is its own.
pub fn letter_document(id: &str, time: &str, letter: &DeadLetter) -> Value {
    let mut document = json!({
        "id": id,
        "time": time,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "bytes": letter.body.len(),
    });
    match &letter.origin {
        Origin::Sink { name, lsn, .. } => {
            document["sink"] = name.as_ref().into();
            document["lsn"] = lsn.0.into();
            document["decision"] = letter.id.as_ref().into();
        }
        Origin::Source { name, position } => {
            document["source"] = name.as_ref().into();
            document["position"] = position.as_ref().into();
            document["event"] = letter.id.as_ref().into();
        }
    }
    if let Some(entity) = &letter.entity {
        document["type"] = entity.kind().into();
        document["key"] = entity.key().into();
    }
    document
}

/// Adds what was given up: as text, or in base64 where it is none.
pub fn add_body(document: &mut Value, letter: &DeadLetter) {
    match std::str::from_utf8(&letter.body) {
        Ok(text) => document["body"] = text.into(),
        Err(_) => document["body_base64"] = STANDARD.encode(&letter.body).into(),
    }
}

/// The record's dead letter, if it makes one.
pub(super) fn letter_of(record: &Record) -> Option<&DeadLetter> {
    match &record.input {
        Input::DeadLetter(letter) => Some(letter),
        _ => None,
    }
}

/// The event that tells of a record's dead letter.
pub(super) fn letter_event(server: &str, record: &Record, letter: &DeadLetter) -> Event {
    let mut document = letter_document(record.entity.key(), &record.now.to_string(), letter);
    add_body(&mut document, letter);
    Event {
        source: format!("/{server}/dead-letters").into(),
        id: record.entity.key().into(),
        kind: DEAD_LETTER_EVENT.into(),
        time: record.now,
        time_given: TimeGiven::BySender,
        subject: Some(letter.id.as_ref().into()),
        // It is what was just written.
        data: json::parse(document.to_string().as_bytes(), DEPTH_MAX).ok(),
        extensions: Map::default(),
    }
}
