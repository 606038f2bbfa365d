//! What a source was given and refused, tried again: the dead letter's bytes go the way they went the first time, so that
//! the event has the same identity and counts once however often it is tried.

use std::collections::HashMap;
use std::sync::Arc;

use super::admission::{Admission, Patience, SourceMetrics};
use super::decode::Decoder;
use super::http::{BUSY_PATIENCE, Request, post};
use super::nats::Received;
use crate::model::event::Event;
use crate::model::refusal::{Code, Refusal};
use crate::model::settle::EventOutcome;
use crate::model::system::{DeadLetter, Form, Origin};
use crate::model::time::Timestamp;
use crate::model::value::Value;

/// The sources whose dead letters can be tried again.
pub struct Again {
    admission: Arc<Admission>,
    /// By name.
    decoders: HashMap<String, Decoder>,
}

impl Again {
    /// For sources with these decoders.
    pub fn new(admission: Arc<Admission>, decoders: HashMap<String, Decoder>) -> Self {
        Again { admission, decoders }
    }

    /// Brings the event to its entities; what became of it, once that is durable.
    pub async fn retry(&self, letter: &DeadLetter) -> EventOutcome {
        let Origin::Source { name, position } = &letter.origin else {
            return EventOutcome::Refused(Refusal::new(Code::Internal, "it is no dead letter of a source"));
        };
        let event = match self.decoders.get(&**name) {
            Some(decoder) => read(letter, position, decoder),
            None => Err(Refusal::new(Code::Unmatched, format!("no source with dead letters is called `{name}` now"))),
        };
        let request = Request { events: vec![(1, event)], is_batch: false };
        let metrics = SourceMetrics::new(&self.admission.metrics, name);
        let patience = Patience::Until(BUSY_PATIENCE);
        let mut posted = post(&self.admission, &metrics, request, letter.body.len(), patience).await;
        let outcome = posted.outcomes.pop().map(|(_, outcome)| outcome);
        outcome.unwrap_or_else(|| EventOutcome::Refused(Refusal::new(Code::Internal, "nothing came of it")))
    }
}

fn read(letter: &DeadLetter, position: &str, decoder: &Decoder) -> Result<Event, Refusal> {
    let now = Timestamp::now();
    match &letter.form {
        Form::Row { times } => decoder.event(row(decoder.parse(&letter.body)?, times), now),
        Form::Message { subject } => Received::again(position, subject, &letter.body).event(decoder, now),
        Form::Decision | Form::Partial => Err(Refusal::new(
            Code::InvalidValue,
            "the dead letter does not hold all that came, so it cannot be tried again; have the source bring it again",
        )),
    }
}

/// A row as its source gave it: text does not tell times from other strings.
fn row(columns: Value, times: &[u16]) -> Value {
    let Value::Map(columns) = columns else { return columns };
    let typed = (0..).zip(columns).map(|(at, (name, value))| {
        let time = value.as_str().filter(|_| times.contains(&at)).and_then(Timestamp::parse);
        (name, time.map_or(value, Value::Timestamp))
    });
    Value::Map(typed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::json;

    /// If this failed, rules would find a string where the row had a time, or the other way round.
    #[test]
    fn times_of_a_row_are_times_again() {
        let text = r#"{"a":"2026-11-20T10:00:00Z","b":5,"c":"2026-11-20T10:00:00Z"}"#;
        let Value::Map(columns) = row(json::parse(text.as_bytes(), 8).unwrap(), &[2]) else { panic!("a row") };
        assert!(matches!(columns.get("a"), Some(Value::String(_))));
        assert_eq!(columns.get("c"), Some(&Value::Timestamp(Timestamp::parse("2026-11-20T10:00:00Z").unwrap())));
        assert_eq!(columns.get("b"), Some(&Value::Int(5)));
    }
}
