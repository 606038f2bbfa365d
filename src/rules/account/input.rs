//! What an entity was given to handle, as it is told.

use super::{number, object, text};
use crate::model::dealings::EffectOutcome;
use crate::model::event::TimeGiven;
use crate::model::mandate::Mandate;
use crate::model::packed::Packed;
use crate::model::record::{Content, EventInput, Input, Received, Record};
use crate::model::value::Value;

/// The input of a record; `kind` says which of its members to expect.
pub(super) fn input(record: &Record) -> Value {
    match &record.input {
        Input::Event(input) => event(record, input),
        Input::Message(received) => message(received),
        Input::Due { name, at } => {
            object([("kind", text("deadline")), ("deadline", text(name)), ("at", Some(Value::Timestamp(*at)))])
        }
        Input::Quiet { decision, since } => {
            object([("kind", text("quiet")), ("decision", text(decision)), ("since_version", Some(number(since.0)))])
        }
        Input::Started { effect, run, attempt } => object([
            ("kind", text("effect_started")),
            ("effect", text(effect)),
            ("run", Some(number(u64::from(*run)))),
            ("attempt", Some(number(u64::from(*attempt)))),
        ]),
        Input::Ended { effect, run, outcome } => ended(effect, *run, outcome),
        Input::Forgotten(Mandate { by, why }) => {
            object([("kind", text("forgotten")), ("by", text(by)), ("why", text(why))])
        }
        Input::Progress(_) | Input::Window(_) | Input::DeadLetter(_) | Input::Cursor(_) | Input::Forget(_) => {
            object([("kind", text("system"))])
        }
    }
}

/// An event with what says how late it came: `late` is the time between the event's time and its arrival, below zero for
/// one that came before its time.
fn event(record: &Record, input: &EventInput) -> Value {
    let event = &input.event;
    let is_given = input.time.is_some() || event.time_given == TimeGiven::BySender;
    let late = is_given.then(|| Value::Duration(record.now.since(input.time())));
    object([
        ("kind", text("event")),
        ("source", text(&event.source)),
        ("id", text(input.id())),
        ("event_id", input.id.as_ref().map(|_| Value::string(event.id.clone()))),
        ("type", text(&event.kind)),
        ("time", Some(Value::Timestamp(input.time()))),
        ("time_given", text(if is_given { "sender" } else { "receipt" })),
        ("late", late),
        ("subject", event.subject.clone().map(Value::String)),
        ("data", event.data.as_ref().map(Packed::unpack)),
        ("extensions", event.extensions.as_ref().map(Packed::unpack)),
        ("hops", (input.hops > 0).then(|| number(u64::from(input.hops)))),
    ])
}

fn message(received: &Received) -> Value {
    let Received { from, version, correlation, content, .. } = received;
    let (says, reference, shown) = match content {
        Content::Watch { reference } => ("watch", reference, None),
        Content::Unwatch { reference } => ("unwatch", reference, None),
        Content::Notice { reference, shown } => ("notice", reference, Some(shown.unpack())),
        Content::Gone { reference } => ("gone", reference, None),
    };
    object([
        ("kind", text("message")),
        ("says", text(says)),
        ("reference", text(reference)),
        ("from_type", text(from.kind())),
        ("from_key", text(from.key())),
        ("from_version", Some(number(version.0))),
        ("correlation", correlation.clone().map(Value::String)),
        ("shown", shown),
    ])
}

fn ended(effect: &str, run: u32, outcome: &EffectOutcome) -> Value {
    object([
        ("kind", text("effect_ended")),
        ("effect", text(effect)),
        ("run", Some(number(u64::from(run)))),
        ("state", text(outcome.stage.as_str())),
        ("status", outcome.status.map(|status| number(u64::from(status)))),
        ("response", outcome.response.as_ref().map(Packed::unpack)),
        ("error", outcome.error.clone().map(Value::String)),
    ])
}
