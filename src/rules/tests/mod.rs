//! Tests of the rules as a whole: configuration text in, events through `admit`, `decide` and `evolve`, documents out.

mod admission;
mod convergence;
mod decisions;
mod documents;
mod effects;
mod elements;
mod expiry;
mod generate;
mod interleavings;
mod missing;
mod numbers;
mod oracle;
mod references;
mod times;
mod web;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::sync::Arc;

use super::{Around, Decided, Document, Rest, Ruleset, Taken, compile};
use crate::config;
use crate::model::dealings::{Call, EffectOutcome};
use crate::model::event::{Event, TimeGiven};
use crate::model::ids::EntityKey;
use crate::model::json;
use crate::model::record::{DecisionRevision, Record};
use crate::model::refusal::Refusal;
use crate::model::state::{LsnBook, State};
use crate::model::time::Timestamp;
use crate::model::value::{Map, Value};

/// The longest key that these tests' rules take.
const KEY_BYTES_MAX: usize = 512;

/// The rules of a configuration text.
fn ruleset(text: &str) -> Ruleset {
    let mut loaded = config::load_str(text, &|_| None);
    let config = loaded.config.take().unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.files)));
    let types = compile(&config.entities, &loaded.files, &mut loaded.diagnostics).unwrap_or_default();
    assert!(!loaded.diagnostics.has_errors(), "{}\n{text}", loaded.diagnostics.render(&loaded.files));
    Ruleset::new(types, &config.server.ignore, KEY_BYTES_MAX)
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// The time of the n-th second after the tests' beginning.
fn second(n: i64) -> Timestamp {
    Timestamp::from_nanos(time("2026-11-20T10:00:00Z").nanos() + i128::from(n) * 1_000_000_000).unwrap()
}

/// An event from the JSON a source would send; without `time` it is one that was given none.
fn event(text: &str) -> Event {
    let Value::Map(mut members) = json::parse(text.as_bytes(), 64).unwrap() else { panic!("{text}") };
    let mut text_of = |name: &str| members.remove(name).and_then(|value| value.as_str().map(str::to_owned));
    let (id, kind, source) = (text_of("id").unwrap(), text_of("type").unwrap(), text_of("source"));
    let (given, subject) = (text_of("time"), text_of("subject"));
    Event {
        source: source.as_deref().unwrap_or("default").into(),
        id: id.into(),
        kind: kind.into(),
        time: given.as_deref().map_or(second(0), time),
        time_given: if given.is_some() { TimeGiven::BySender } else { TimeGiven::AtReceipt },
        subject: subject.map(String::into_boxed_str),
        data: members.remove("data"),
        extensions: members.into_iter().collect::<Map>(),
    }
}

/// What came of an event at one entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Counted,
    Duplicate,
    Conflict,
}

/// The rules at work on states kept in memory, and every record made.
struct Machine {
    rules: Arc<Ruleset>,
    memory: super::Machine,
    heard: Heard,
}

/// What was decided, and how calls are answered.
#[derive(Default)]
struct Heard {
    records: Vec<Record>,
    /// Names of rules that went wrong, in the order they did.
    errors: Vec<Box<str>>,
    calls: Vec<String>,
    /// Answers to come; without one a call stays asked for.
    answers: VecDeque<EffectOutcome>,
}

impl Around for Heard {
    fn answer(&mut self, call: &Call) -> Option<EffectOutcome> {
        self.calls.push(format!("{}/{} {}", call.effect, call.run, json::to_string(&call.request.unpack())));
        self.answers.pop_front()
    }

    fn hear(&mut self, decided: &Decided) {
        let stored = Record::decode(&decided.record.encode()).unwrap();
        assert_eq!(stored, decided.record, "a record is stored as it is");
        self.records.push(stored);
        self.errors.extend(decided.errors.iter().cloned());
    }
}

impl Deref for Machine {
    type Target = Heard;

    fn deref(&self) -> &Heard {
        &self.heard
    }
}

impl Machine {
    fn new(rules: Ruleset) -> Self {
        let rules = Arc::new(rules);
        Machine { memory: super::Machine::new(rules.clone()), rules, heard: Heard::default() }
    }

    fn states(&self) -> &BTreeMap<EntityKey, State> {
        self.memory.states()
    }

    /// Handles an event as the actors do; what is kept of it is what its record is stored as.
    fn handle(&mut self, event: &Event, now: Timestamp) -> Result<Vec<Came>, Refusal> {
        let takers = self.rules.admit(event)?;
        Ok(takers.into_iter().map(|taken| self.take(taken, now)).collect())
    }

    fn take(&mut self, taken: Box<Taken>, now: Timestamp) -> Came {
        match self.memory.apply(taken, now) {
            super::Came::Counted(decided) => self.heard.hear(&decided),
            super::Came::Duplicate => return Came::Duplicate,
            super::Came::Conflict => return Came::Conflict,
        }
        Came::Counted
    }

    /// Lets all that follows by itself happen until the n-th second.
    fn advance(&mut self, n: i64) {
        assert_eq!(self.memory.advance(second(n), &mut self.heard), Rest::Reached);
    }

    /// Events such as `A k {"v":1}` (type, key, data) at these seconds, each with all that follows from it at once.
    fn go(&mut self, events: &[(i64, &str)]) {
        for (n, text) in events {
            self.advance(*n);
            let (kind, rest) = text.split_once(' ').unwrap();
            let (key, data) = rest.split_once(' ').unwrap_or((rest, "null"));
            let id = self.records.len();
            let time = second(*n);
            let text = format!(r#"{{"id":"{id}","type":"{kind}","time":"{time}","subject":"{key}","data":{data}}}"#);
            let came = self.handle(&event(&text), time).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
            assert!(came.iter().all(|came| *came == Came::Counted), "{text}: {came:?}");
            self.advance(*n);
        }
    }

    /// Handles events that must all count.
    fn count(&mut self, events: &[&str]) {
        for (n, text) in (0..).zip(events) {
            let came = self.handle(&event(text), second(n)).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
            assert!(came.iter().all(|came| *came == Came::Counted), "{text}: {came:?}");
        }
    }

    /// The document of an entity, as JSON.
    fn document(&self, kind: &str, key: &str) -> Document {
        let state = &self.states()[&EntityKey::new(kind, key)];
        Document::new(self.rules.get(kind).unwrap(), key, state, &LsnBook::default())
    }

    /// A member of an entity's document, as JSON.
    fn shown(&self, kind: &str, key: &str, member: &str) -> String {
        json::to_string(self.document(kind, key).get(member).unwrap())
    }

    /// Every decision revision so far.
    fn decisions(&self) -> impl Iterator<Item = (&EntityKey, &DecisionRevision)> {
        self.records.iter().flat_map(|record| record.decisions.iter().map(|decision| (&record.entity, decision)))
    }

    /// Every decision revision so far, in short: `Confirmed 1 made {"a":1}`.
    fn decision_lines(&self) -> Vec<String> {
        self.decisions()
            .map(|(_, made)| {
                let data = json::to_string(&made.data.unpack());
                format!("{} {} {} {data}", made.name, made.revision.0, made.state.as_str())
            })
            .collect()
    }
}

/// What is wrong with a configuration text.
fn diagnosed(text: &str) -> String {
    let mut loaded = config::load_str(text, &|_| None);
    if let Some(config) = &loaded.config {
        compile(&config.entities, &loaded.files, &mut loaded.diagnostics);
    }
    if loaded.diagnostics.has_errors() { loaded.diagnostics.render(&loaded.files) } else { String::new() }
}
