//! Random rules and events: what is merged, derived and finally decided depends on the set of events only.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::generate::{self, DerivedSpec, RulesSpec};
use super::{Came, Machine, oracle, ruleset, second};
use crate::model::codec;
use crate::model::event::Event;
use crate::model::ids::{EntityKey, IdentityHash};
use crate::model::packed::Packed;
use crate::model::record::DecisionState;
use crate::model::state::State;
use crate::model::value::{Map, Value};
use crate::rules::{completeness, evolve};

/// Events in the order they come, some of them again; the clock stands still now and then, and even goes back.
fn run(spec: &RulesSpec, events: &[Event]) -> Machine {
    let mut machine = Machine::new(ruleset(&spec.text()));
    for (n, event) in events.iter().enumerate() {
        let came = machine.handle(event, second([0, 0, 5, 3, 9][n % 5]));
        assert!(came.is_err() || came == Ok(vec![Came::Counted]) || came == Ok(vec![Came::Duplicate]), "{came:?}");
    }
    machine
}

/// The events that no rule refuses, by key, each once.
fn accepted<'e>(machine: &Machine, events: &'e [Event]) -> BTreeMap<EntityKey, Vec<&'e Event>> {
    let mut accepted: BTreeMap<EntityKey, Vec<&Event>> = BTreeMap::new();
    for event in events {
        for taken in machine.rules.admit(event).unwrap_or_default() {
            accepted.entry(taken.entity).or_default().push(event);
        }
    }
    accepted
}

/// What rules see of an entity: its fields, then its derived values.
fn expected_members(spec: &RulesSpec, events: &[&Event]) -> (Vec<Option<Value>>, Vec<Option<Value>>) {
    let shown: Vec<_> = spec.fields.iter().map(|field| oracle::field(spec, field, events)).collect();
    let mut read: Vec<_> = shown
        .iter()
        .zip(&spec.fields)
        // A map whose every entry was taken away is there, and empty.
        .map(|(value, field)| value.clone().or_else(|| field.start()))
        .collect();
    let mut previous = None;
    for derived in &spec.derived {
        let has = |at: &usize| Value::Bool(read[*at].is_some());
        let value = match derived {
            DerivedSpec::Has(a) => Some(has(a)),
            DerivedSpec::OrNone(a) => Some(read[*a].clone().unwrap_or(Value::string("none"))),
            DerivedSpec::Same(a) => read[*a].as_ref().map(|_| Value::Bool(true)),
            DerivedSpec::Both(a, b) => Some(Value::Bool(read[*a].is_some() && read[*b].is_some())),
            DerivedSpec::Pick(a, b) if has(a) == Value::Bool(true) => read[*b].clone(),
            DerivedSpec::Pick(..) => Some(Value::string("no")),
            DerivedSpec::NotPrevious => Some(Value::Bool(previous.as_ref().is_none_or(Option::is_none))),
        };
        previous = Some(value.clone());
        read.push(value);
    }
    (shown, read)
}

/// What each `revise` decision says in the end.
fn expected_decisions(spec: &RulesSpec, read: &[Option<Value>]) -> Vec<Option<Value>> {
    let content = spec.decisions.iter().map(|decision| {
        if decision.when.is_some_and(|at| read[at].is_none()) {
            return None;
        }
        match decision.data.as_slice() {
            [only] if decision.is_one_value => read[*only].clone(),
            data => {
                let entries = data.iter().filter_map(|at| Some((format!("m{at}").into(), read[*at].clone()?)));
                Some(Value::Map(entries.collect::<Map>()))
            }
        }
    });
    content.collect()
}

/// What a decision of the ledger says, if it stands.
fn standing(state: &State, name: &str) -> Option<Packed> {
    let entry = state.decision(name, None)?;
    (entry.state != DecisionState::Withdrawn).then(|| entry.data.clone())
}

fn packed(value: Option<&Value>) -> Option<Packed> {
    value.map(Packed::new)
}

fn check(spec: &RulesSpec, events: &[Event], again: &[Index], shuffled: &[Event]) {
    let one = run(spec, events);
    let mut repeated = shuffled.to_vec();
    for index in again {
        let event = index.get(shuffled).clone();
        repeated.insert(index.index(repeated.len() + 1), event);
    }
    let other = run(spec, &repeated);

    let accepted = accepted(&one, events);
    assert_eq!(one.states.keys().collect::<Vec<_>>(), accepted.keys().collect::<Vec<_>>());
    assert_eq!(other.states.keys().collect::<Vec<_>>(), accepted.keys().collect::<Vec<_>>());
    for (entity, events) in &accepted {
        let (state, same) = (&one.states[entity], &other.states[entity]);
        assert_eq!(codec::encode(1, &state.fields), codec::encode(1, &same.fields), "fields of {entity}");
        assert_eq!(state.missing, same.missing, "what is missing of {entity}");
        assert_identities(&one, state, same, events);
        let (shown, read) = expected_members(spec, events);
        for machine in [&one, &other] {
            assert_document(spec, machine, entity, &shown, &read);
        }
        let contents = expected_decisions(spec, &read);
        for (n, (decision, content)) in spec.decisions.iter().zip(&contents).enumerate() {
            if !decision.is_once {
                let expected = packed(content.as_ref());
                for state in [state, same] {
                    assert_eq!(standing(state, &format!("D{n}")), expected, "D{n} of {entity}");
                }
            }
        }
    }
    for machine in [&one, &other] {
        assert_revisions(machine);
        assert_replay(machine);
    }
}

fn assert_identities(machine: &Machine, state: &State, same: &State, events: &[&Event]) {
    assert_eq!((state.events, same.events), (events.len() as u64, events.len() as u64));
    for event in events {
        for taken in machine.rules.admit(event).unwrap() {
            for state in [state, same] {
                let seen = state.identities.get(taken.identity).map(|seen| seen.payload);
                assert_eq!(seen, Some(event.payload_hash()), "the identity of {event:?}");
            }
        }
    }
    assert_eq!(state.identities.get(IdentityHash::of("never", "seen")), None);
}

fn assert_document(
    spec: &RulesSpec,
    machine: &Machine,
    entity: &EntityKey,
    shown: &[Option<Value>],
    read: &[Option<Value>],
) {
    let document = machine.document(entity.kind(), entity.key());
    let Some(Value::Map(fields)) = document.get("fields") else { panic!("no fields") };
    let Some(Value::Map(derived)) = document.get("derived") else { panic!("no derived values") };
    for (n, expected) in shown.iter().enumerate() {
        assert_eq!(packed(fields.get(&format!("f{n}"))), packed(expected.as_ref()), "f{n} of {entity}");
    }
    for (n, expected) in read[spec.fields.len()..].iter().enumerate() {
        assert_eq!(packed(derived.get(&format!("d{n}"))), packed(expected.as_ref()), "d{n} of {entity}");
    }
    assert_eq!(document.get("errors"), Some(&Value::Map(Map::default())));
    let rules = machine.rules.get("e").unwrap();
    let is_emptied = |at: usize| spec.fields[at].by.is_some() && shown[at] == Some(Value::Map(Map::default()));
    let present = spec.complete.iter().filter(|at| shown[**at].is_some() && !is_emptied(**at));
    let expected = match spec.complete.len() {
        0 => 1.0,
        all => present.count() as f64 / all as f64,
    };
    assert!((completeness(rules, &machine.states[entity]) - expected).abs() < f64::EPSILON);
}

/// Revisions count from 1 without a gap, each once, at rising times; what is withdrawn stood before.
fn assert_revisions(machine: &Machine) {
    let mut last = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for (entity, made) in machine.decisions() {
        assert!(ids.insert((entity, &made.name, made.revision)), "{entity} {} has a revision twice", made.name);
        let before = last.insert((entity, &made.name), made);
        assert_eq!(made.revision.0, before.map_or(0, |before| before.revision.0) + 1);
        assert!(before.is_none_or(|before| before.time < made.time), "{before:?} {made:?}");
        let stood = before.is_some_and(|before| before.state != DecisionState::Withdrawn);
        assert_eq!(stood, made.state != DecisionState::Made, "{before:?} {made:?}");
        assert!(before.is_none_or(|before| before.data != made.data || before.state != made.state));
    }
}

/// Evolving by the records alone comes to the live states, and these to their stored form and back.
fn assert_replay(machine: &Machine) {
    let mut states: BTreeMap<EntityKey, State> = BTreeMap::new();
    for record in &machine.records {
        evolve(states.entry(record.entity.clone()).or_default(), record);
    }
    assert_eq!(states, machine.states);
    for state in states.values() {
        let bytes = state.encode();
        let stored = State::decode(&bytes).unwrap();
        assert_eq!(&stored, state);
        assert_eq!(stored.encode(), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// If this failed, what an entity shows would depend on the order in which its events came.
    #[test]
    fn any_order_and_repetition_comes_to_what_the_oracle_says(
        spec in generate::rules(),
        (events, shuffled) in generate::events().prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
        again in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        check(&spec, &events, &again, &shuffled);
    }
}

#[test]
fn many_events_of_one_key_are_told_apart_beyond_what_is_searched_one_by_one() {
    let rules = "[entity.e]\nkey = \"event.data.k\"\n[entity.e.fields]\nn = { on = \"*\", take = \"count\" }\n";
    let mut machine = Machine::new(ruleset(rules));
    for round in [Came::Counted, Came::Duplicate] {
        for n in 0..1000 {
            let event = super::event(&format!(r#"{{"id":"{n}","type":"A","data":{{"k":1}}}}"#));
            assert_eq!(machine.handle(&event, second(n)), Ok(vec![round]));
        }
    }
    assert_eq!(machine.shown("e", "1", "fields"), r#"{"n":1000}"#);
    assert_replay(&machine);
}
