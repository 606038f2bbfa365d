//! Entities that refer to each other on a whole node: however they are spread over shards, whatever is cut off by a crash
//! between a record and what it gives others to know, they end as the rules alone say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::fixtures::ruleset;
use super::power::from_environment;
use super::{Folder, Harness, Wiring, event};
use crate::model::event::Event;
use crate::model::ids::EntityKey;
use crate::model::json;
use crate::model::record::DecisionState;
use crate::model::state::{LsnBook, State};
use crate::model::time::Timestamp;
use crate::model::value::Value;
use crate::rules::{Around, Document, Machine, Ruleset};

/// A chain of three, two types in a circle, a type that refers to itself, decisions by element and back to the entity.
const TIED: &str = r#"
[entity.shipment]
key = "event.data.key"
[entity.shipment.fields]
segment = { on = "Ship", take = "latest", value = "event.data.value" }
[entity.routing]
key = "event.data.key"
[entity.routing.fields]
to = { on = "Route", take = "latest", value = "event.data.to" }
legs = { on = "Route", take = "set", value = "event.data.value" }
booked = { on = "Dispatch", take = "max", value = "event.revision" }
[entity.routing.ref.shipment]
entity = "shipment"
key = "routing.to"
[entity.routing.derived]
segment = "shipment.segment"
[entity.routing.decision.Dispatch]
when = "has(shipment.segment)"
data = "shipment.segment"
to = ["self"]
[entity.routing.decision.Leg]
by = "routing.legs"
data = "{'leg': element, 'segment': routing.segment}"
[entity.invoice]
key = "event.data.key"
[entity.invoice.fields]
to = { on = "Bill", take = "latest", value = "event.data.to" }
[entity.invoice.ref.routing]
entity = "routing"
key = "invoice.to"
[entity.invoice.decision.Book]
data = "{'segment': routing.segment}"
[entity.a]
key = "event.data.key"
[entity.a.fields]
v = { on = "A", take = "latest", value = "event.data.value" }
to = { on = "A", take = "latest", value = "event.data.to" }
[entity.a.ref.other]
entity = "b"
key = "a.to"
[entity.a.decision.Seen]
data = "other.v"
[entity.b]
key = "event.data.key"
[entity.b.fields]
v = { on = "B", take = "latest", value = "event.data.value" }
to = { on = "B", take = "latest", value = "event.data.to" }
[entity.b.ref.other]
entity = "a"
key = "b.to"
[entity.b.ref.next]
entity = "b"
key = "b.v"
[entity.b.decision.Seen]
data = "[other.v, next.to]"
"#;

const KEYS: [&str; 6] = ["k0", "k1", "k2", "k3", "k4", "k5"];

fn events(random: &mut StdRng, count: usize) -> Vec<Event> {
    let one = |n: usize| {
        let mut key = || KEYS[random.random_range(0..KEYS.len())];
        let (own, to, value) = (key(), key(), key());
        let kind = ["Ship", "Route", "Route", "Bill", "A", "B"][random.random_range(0..6)];
        let to = if random.random_ratio(1, 8) { "null".to_owned() } else { format!("{to:?}") };
        let data = format!(r#"{{"key":"{own}","to":{to},"value":"{value}"}}"#);
        let mut event = event(&format!("e{n}"), kind, &data);
        event.time = event.time.after(Duration::from_secs(random.random_range(0..1000)));
        event
    };
    (0..count).map(one).collect()
}

/// What of an entity does not depend on when it heard of things.
fn settled(ruleset: &Ruleset, entity: &EntityKey, state: &State) -> String {
    let Some(rules) = ruleset.get(entity.kind()) else { return String::new() };
    let document = Document::new(rules, entity.key(), state, &LsnBook::default());
    let mut fields = document.get("fields").cloned().unwrap_or(Value::Null);
    if let Value::Map(members) = &mut fields {
        // How often a decision came back is how many revisions it had.
        members.remove("booked");
    }
    let derived = document.get("derived").map(json::to_string).unwrap_or_default();
    let dealings = state.dealings.iter();
    let waits: BTreeMap<_, _> =
        dealings.flat_map(|it| &it.views).map(|it| (&it.reference, (&it.to, &it.content))).collect();
    let stands = state.ledger.iter().filter(|it| it.state != DecisionState::Withdrawn);
    let made: BTreeMap<_, _> = stands.map(|it| ((&it.name, &it.element), &it.data)).collect();
    format!("{} {derived} {waits:?} {made:?}", json::to_string(&fields))
}

fn all(ruleset: &Ruleset, read: impl Fn(&EntityKey) -> Option<State>) -> BTreeMap<EntityKey, String> {
    let kinds = ruleset.types().iter().flat_map(|rules| KEYS.map(|key| EntityKey::new(&rules.name, key)));
    let states = kinds.filter_map(|entity| Some((read(&entity).filter(State::exists)?, entity)));
    states.map(|(state, entity)| (entity.clone(), settled(ruleset, &entity, &state))).collect()
}

/// Nobody is called, nobody listens.
struct Alone;

impl Around for Alone {}

fn expected(ruleset: &Arc<Ruleset>, events: &[Event]) -> BTreeMap<EntityKey, String> {
    let mut machine = Machine::new(ruleset.clone());
    for event in events {
        for taken in ruleset.admit(event).unwrap() {
            machine.apply(taken, Timestamp::now());
        }
    }
    machine.finish(&mut Alone);
    all(ruleset, |entity| machine.states().get(entity).cloned())
}

/// If this failed, what an entity sees of another would depend on which thread it lives on, or a crash would lose the word of
/// one to the other.
#[test]
fn entities_end_as_the_rules_say_whatever_crashed_meanwhile() {
    for seed in 0..from_environment("TIES_SEEDS", 8) {
        let mut random = StdRng::seed_from_u64(seed);
        let rules = ruleset(TIED);
        let mut events = events(&mut random, 150);
        let expected = expected(&rules, &events);
        events.shuffle(&mut random);
        let folder = Folder::new();
        let mut left = events.as_slice();
        loop {
            let live_max = [3, 1000][random.random_range(0..2)];
            let wiring = Wiring { shards: random.random_range(1..5), live_max, rules: TIED, ..Wiring::default() };
            let mut harness = Harness::start(&folder, wiring);
            for _ in 0..random.random_range(1..4) {
                let (some, rest) = left.split_at(random.random_range(0..25).min(left.len()));
                harness.settle(some);
                left = rest;
                if random.random_ratio(1, 3) {
                    harness.checkpoint_partly(random.random_range(1..10));
                }
            }
            if left.is_empty() {
                let deadline = Instant::now() + Duration::from_secs(30);
                let found = || all(&rules, |entity| harness.read(entity).map(|snapshot| snapshot.state));
                while found() != expected {
                    let (found, what) = (found(), format!("seed {seed}, {} shards", wiring.shards));
                    assert!(Instant::now() < deadline, "{what}\n{}", difference(&found, &expected));
                    std::thread::sleep(Duration::from_millis(5));
                }
                break;
            }
            // An end without warning, while what was concluded last is on its way to others.
            drop(harness);
        }
    }
}

fn difference(found: &BTreeMap<EntityKey, String>, expected: &BTreeMap<EntityKey, String>) -> String {
    let mut text = String::new();
    for (entity, expected) in expected {
        if found.get(entity) != Some(expected) {
            let _ = writeln!(text, "{entity}:\n  found    {:?}\n  expected {expected:?}", found.get(entity));
        }
    }
    text
}
