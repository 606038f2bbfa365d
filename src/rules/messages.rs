//! What a record gives an entity to tell others: which entities it looks at, what its watchers see, decisions that are
//! events to itself.

use super::evolve::given_correlation;
use crate::model::dealings::Watch;
use crate::model::ids::EntityKey;
use crate::model::outbox::{Letter, Outgoing};
use crate::model::outgoing::{cause_of, decision_event};
use crate::model::packed::Packed;
use crate::model::record::{Content, Input, Received, Record};
use crate::model::state::State;

/// The letters of `record`, after which its entity is in `state`. `server` is the name in decisions' source.
pub fn messages(server: &str, state: &State, record: &Record) -> Vec<Outgoing> {
    let mut letters = Vec::new();
    if !concerns_others(record) {
        return letters;
    }
    let cause: Box<str> = cause_of(record).unwrap_or_default().into();
    let correlation = match &record.input {
        Input::Event(input) => given_correlation(&input.event),
        Input::Message(received) => received.correlation.clone(),
        _ => None,
    };
    let mut tell = |to: EntityKey, content: Content| {
        let (from, version, cause) = (record.entity.clone(), record.version, cause.clone());
        let correlation = correlation.clone();
        let received = Received { from, version, cause, correlation, hops: record.input.hops(), content };
        letters.push(Outgoing { to, version, letter: Letter::Message(Box::new(received)) });
    };
    for set in &record.references {
        let reference = || set.reference.clone();
        if let Some(from) = &set.from {
            tell(EntityKey::new(&set.kind, &**from), Content::Unwatch { reference: reference() });
        }
        if let Some(to) = &set.to {
            tell(EntityKey::new(&set.kind, &**to), Content::Watch { reference: reference() });
        }
    }
    let dealings = state.dealings.as_deref();
    for notice in &record.notices {
        let Some(watched) = dealings.and_then(|dealings| dealings.watched_by(&notice.by)) else { continue };
        for watcher in watched.watchers.iter().filter(|watcher| watcher.is_watching) {
            tell(EntityKey::new(&notice.by.kind, &*watcher.key), shown(&notice.by, &notice.shown));
        }
    }
    if record.input.ending().is_some() {
        for watched in dealings.iter().flat_map(|dealings| &dealings.watched) {
            for watcher in watched.watchers.iter().filter(|watcher| watcher.is_watching) {
                let reference = watched.by.reference.clone();
                tell(EntityKey::new(&watched.by.kind, &*watcher.key), Content::Gone { reference });
            }
        }
    }
    if let Input::Message(received) = &record.input
        && let Content::Watch { reference } = &received.content
    {
        let by = Watch { kind: received.from.kind().into(), reference: reference.clone() };
        let is_told = record.notices.iter().any(|notice| notice.by == by);
        let watched = dealings.and_then(|dealings| dealings.watched_by(&by)).filter(|_| !is_told);
        if let Some(content) = watched.and_then(|watched| watched.content.as_ref()) {
            tell(received.from.clone(), shown(&by, content));
        }
    }
    let hops = record.input.hops().saturating_add(1);
    for decision in record.feedback.iter().filter_map(|place| record.decisions.get(usize::from(*place))) {
        let event = Box::new(decision_event(server, record, decision).packed());
        let letter = Letter::Event { event, hops };
        letters.push(Outgoing { to: record.entity.clone(), version: record.version, letter });
    }
    letters
}

/// Whether a record gives anything to tell.
fn concerns_others(record: &Record) -> bool {
    let may_tell = matches!(record.input, Input::Message(_)) || record.input.ending().is_some();
    may_tell || !(record.references.is_empty() && record.notices.is_empty() && record.feedback.is_empty())
}

fn shown(by: &Watch, shown: &Packed) -> Content {
    Content::Notice { reference: by.reference.clone(), shown: shown.clone() }
}
