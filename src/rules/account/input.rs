//! What an entity was given to handle, as it is told.

use super::{number, object, text};
use crate::model::dealings::EffectOutcome;
use crate::model::event::TimeGiven;
use crate::model::mandate::Mandate;
use crate::model::packed::Packed;
use crate::model::record::{Content, EventInput, Input, Received, Record};
use crate::model::time::Timestamp;
use crate::model::value::Value;

/// The input of a record; `kind` says which of its members to expect.
pub(super) fn input(record: &Record) -> Value {
    match &record.input {
        Input::Event(input) => event("event", input, Some(record.now)),
        Input::Held(input) => event("held", input, Some(record.now)),
        Input::Released(input) => event("released", input, None),
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
        Input::Resolved { effect, run, outcome, mandate } => {
            by_hand(ended(effect, *run, outcome), "effect_resolved", mandate)
        }
        Input::AskedAgain { effect, run, mandate } => {
            let asked = object([("effect", text(effect)), ("run", Some(number(u64::from(*run))))]);
            by_hand(asked, "effect_asked_again", mandate)
        }
        Input::Paused(mandate) => by_hand(object([]), "paused", mandate),
        Input::Resumed(mandate) => by_hand(object([]), "resumed", mandate),
        Input::Forgotten(mandate) => by_hand(object([]), "forgotten", mandate),
        Input::Rules { fingerprint } => {
            let short = fingerprint.iter().take(6).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            object([("kind", text("rules")), ("fingerprint", text(&short))])
        }
        Input::Progress(_)
        | Input::Window(_)
        | Input::DeadLetter(_)
        | Input::Cursor(_)
        | Input::Forget(_)
        | Input::RulesNoted(_)
        | Input::Closed(..)
        | Input::Tried { .. } => object([("kind", text("system"))]),
    }
}

/// The same, by somebody's hand.
fn by_hand(told: Value, kind: &str, Mandate { by, why }: &Mandate) -> Value {
    let Value::Map(mut members) = told else { return told };
    for (name, told) in [("kind", kind), ("by", by), ("why", why)] {
        members.insert(name, Value::string(told));
    }
    Value::Map(members)
}

/// An event with what says how late it came: `late` is the time between the event's time and its arrival, below zero for
/// one that came before its time.
fn event(kind: &str, input: &EventInput, arrived: Option<Timestamp>) -> Value {
    let event = &input.event;
    let is_given = input.time.is_some() || event.time_given == TimeGiven::BySender;
    let late = arrived.filter(|_| is_given).map(|arrived| Value::Duration(arrived.since(input.time())));
    object([
        ("kind", text(kind)),
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
