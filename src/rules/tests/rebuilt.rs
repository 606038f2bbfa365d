//! Other rules over the events of an entity that was: it is as if they had always been, and what was said stays said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::generate::{self, RulesSpec};
use super::{Machine, ruleset, second};
use crate::model::codec;
use crate::model::dealings::{EffectOutcome, EffectStage};
use crate::model::event::Event;
use crate::model::ids::EntityKey;
use crate::model::json;
use crate::model::packed::Packed;
use crate::model::record::{DecisionState, Input, Record};
use crate::model::state::State;
use crate::rules::{Rebuilt, Ruled, Ruleset, adopt, evolve};

type States = BTreeMap<EntityKey, State>;

/// What other rules make of states and of the records that made them; and the records that say so.
fn rebuild(old: &States, records: &[Record], rules: &Ruleset) -> (States, Vec<Record>) {
    let mut made: BTreeMap<EntityKey, Rebuilt> = BTreeMap::new();
    for record in records {
        let Input::Event(counted) = &record.input else { continue };
        for kind in rules.types() {
            let taken = rules.take_again(&kind.name, &record.entity, counted, &counted.event.unpack());
            let Ok(Some(taken)) = taken else { continue };
            made.entry(taken.entity.clone()).or_default().count(taken, record.now);
        }
    }
    let (mut states, mut said) = (States::new(), Vec::new());
    let keys: BTreeSet<EntityKey> = old.keys().chain(made.keys()).cloned().collect();
    for key in keys {
        let before = old.get(&key).cloned().unwrap_or_default();
        let rebuilt = made.remove(&key).unwrap_or_default();
        let kind = rules.get(key.kind()).unwrap();
        let Ruled { state, record, .. } = adopt(kind, &key, rebuilt.carrying(&before), second(1000));
        assert_eq!(state.version.0, before.version.0 + u64::from(record.is_some()), "{key}");
        again_says_nothing(kind, &key, &state);
        said.extend(record);
        states.insert(key, state);
    }
    (states, said)
}

/// What was begun again after it was cut short must find nothing to say, or it would say things twice.
fn again_says_nothing(rules: &Arc<crate::rules::EntityRules>, key: &EntityKey, state: &State) {
    let again = adopt(rules, key, state.clone(), second(2000));
    assert_eq!((again.record, &again.state), (None, state), "{key}");
}

/// What stands, by decision.
fn standing(state: &State) -> BTreeMap<&str, &Packed> {
    let stands = state.ledger.iter().filter(|entry| entry.state != DecisionState::Withdrawn);
    stands.map(|entry| (&*entry.name, &entry.data)).collect()
}

fn check(a: &RulesSpec, b: &RulesSpec, events: &[Event]) {
    let mut first = Machine::new(ruleset(&a.text()));
    let accepted: Vec<&Event> = events.iter().filter(|event| first.handle(event, second(5)).is_ok()).collect();
    let (rules_a, rules_b) = (ruleset(&a.text()), ruleset(&b.text()));
    let mut direct = Machine::new(ruleset(&b.text()));
    for event in accepted {
        // What the other rules refuse does not count under them.
        let _ = direct.handle(event, second(5));
    }

    let (states, said) = rebuild(first.states(), &first.records, &rules_b);
    same(b, &states, direct.states());
    let once = |state: &State| {
        let is_once = |name: &str| b.decisions.iter().enumerate().any(|(n, it)| it.is_once && name == format!("D{n}"));
        state.ledger.iter().filter(|entry| is_once(&entry.name)).cloned().collect::<Vec<_>>()
    };
    for (key, before) in first.states() {
        let after = once(&states[key]);
        assert!(once(before).iter().all(|entry| after.contains(entry)), "what was said once stays: {key}");
    }
    let (back, said_again) = rebuild(&states, &first.records, &rules_a);
    same(a, &back, first.states());
    let mut contents = BTreeMap::new();
    for record in first.records.iter().chain(&said).chain(&said_again) {
        for made in &record.decisions {
            let content = (made.state.as_str(), made.data.clone(), made.time);
            let known = contents.insert((record.entity.clone(), made.name.clone(), made.revision), content);
            assert_eq!(known, None, "a revision is said once: {} {}", record.entity, made.name);
        }
    }
}

/// Fields, counted events and what `revise` decisions say are as if the rules had always been.
fn same(spec: &RulesSpec, states: &States, expected: &States) {
    let existing = states.iter().filter(|(_, state)| state.exists()).map(|(key, _)| key);
    assert_eq!(existing.collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (key, expected) in expected {
        let state = &states[key];
        assert_eq!(codec::encode(1, &state.fields), codec::encode(1, &expected.fields), "fields of {key}");
        assert_eq!(state.identities, expected.identities, "identities of {key}");
        let counted = |state: &State| (state.events, state.missing, state.correlation.clone());
        assert_eq!(counted(state), counted(expected), "{key}");
        for (n, _) in spec.decisions.iter().enumerate().filter(|(_, decision)| !decision.is_once) {
            let name = format!("D{n}");
            let name = name.as_str();
            assert_eq!(standing(state).get(name), standing(expected).get(name), "{name} of {key}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// If this failed, a change of rules would leave states that no events make, or say one revision twice.
    #[test]
    fn changed_rules_come_to_what_they_would_have_from_the_start(
        a in generate::rules(),
        b in generate::rules(),
        events in generate::events(),
    ) {
        check(&a, &b, &events);
    }
}

/// Two types; `more` comes after the second one.
fn web(more: &str) -> String {
    format!(
        r#"
[entity.shop]
key = "event.subject"
fields = {{ name = {{ on = "Shop", take = "latest", value = "event.data.name" }}, city = {{ on = "Shop", take = "latest", value = "event.data.city" }} }}
[entity.order]
key = "event.subject"
fields = {{ shop = {{ on = "Order", take = "latest", value = "event.data.shop" }}, at = {{ on = "Order", take = "min", value = "event.time" }}, paid = {{ on = "Paid", take = "count" }} }}
{more}
"#
    )
}

const ORDER: &str = r#"
ref.seller = { entity = "shop", key = "order.shop" }
deadline.unpaid = { at = "order.at + duration('1h')", unless = "order.paid > 0" }
decision.Named = { data = { shop = "seller.name" } }
decision.First = { policy = "once", data = { shop = "order.shop" } }
effect.pack = { request = { url = "http://h/{order.shop}" } }
"#;

/// A call that ended; an order that waits for its time.
fn used() -> Machine {
    let mut machine = Machine::new(ruleset(&web(ORDER)));
    let stage = EffectStage::Succeeded;
    machine.heard.answers = [EffectOutcome { stage, status: Some(200), response: None, error: None }].into();
    machine.go(&[(0, r#"Shop s {"name":"S","city":"C"}"#), (1, r#"Order o {"shop":"s"}"#)]);
    machine
}

fn changed(more: &str) -> (States, Vec<Record>) {
    let machine = used();
    rebuild(machine.states(), &machine.records, &ruleset(&web(more)))
}

fn said<'r>(records: &'r [Record], kind: &str) -> &'r Record {
    records.iter().find(|record| record.entity.kind() == kind).unwrap()
}

/// If this failed, new rules would repeat a call, or a view or a deadline would outlive its rule.
#[test]
fn what_was_done_stays_done_and_what_is_no_more_is_let_go() {
    let edited = ORDER.replace("seller.name", "seller.city").replace("http://h/", "http://other/");
    let (states, records) = changed(&edited.replace("pack = {", "pack = { policy = \"revise\","));
    let order = &states[&EntityKey::new("order", "o")];
    assert_eq!(records.iter().filter(|record| !record.effects.is_empty()).count(), 0, "the call was made");
    assert_eq!(order.decision("First", None).unwrap().revision.0, 1);
    let shop = said(&records, "shop");
    assert_eq!(json::to_string(&shop.notices[0].shown.unpack()), r#"{"city":"C"}"#, "it sees something else now");

    let (states, records) =
        changed(&edited.replace("effect.pack", "effect.ship").replace("deadline.unpaid", "deadline.late"));
    let record = said(&records, "order");
    assert_eq!(record.effects.iter().map(|it| (&*it.name, it.run)).collect::<Vec<_>>(), [("ship", 1)]);
    let deadlines: Vec<_> = record.deadlines.iter().map(|it| (&*it.name, it.to.is_some())).collect();
    assert_eq!(deadlines, [("unpaid", false), ("late", true)]);
    let dealings = states[&EntityKey::new("order", "o")].dealings.clone().unwrap();
    assert!(dealings.effect("pack").is_some(), "what became of a call is known for ever");

    let (states, records) = changed("decision.First = { policy = \"once\", data = { x = \"1\" } }");
    let record = said(&records, "order");
    let refers: Vec<_> = record.references.iter().map(|it| (&*it.kind, it.from.as_deref(), it.to.as_deref())).collect();
    assert_eq!(refers, [("shop", Some("s"), None)]);
    assert_eq!(record.decisions, [], "a decision without a rule stays what it was");
    assert_eq!(states[&EntityKey::new("order", "o")].ledger.len(), 2);
    let mut replayed = used().states()[&EntityKey::new("order", "o")].clone();
    evolve(&mut replayed, record);
    assert_eq!(replayed.dealings, states[&EntityKey::new("order", "o")].dealings, "the record says all of it");
}

/// If this failed, an entity whose events belong to another key now would go on saying what it said.
#[test]
fn an_entity_without_events_takes_back_what_it_said() {
    let machine = used();
    let rules =
        web(ORDER).replace("[entity.order]\nkey = \"event.subject\"", "[entity.order]\nkey = \"event.data.shop\"");
    let (states, records) = rebuild(machine.states(), &machine.records, &ruleset(&rules));
    let gone = EntityKey::new("order", "o");
    assert!(!states[&gone].exists() && states[&EntityKey::new("order", "s")].exists());
    let record = records.iter().find(|record| record.entity == gone).unwrap();
    let decisions: Vec<_> = record.decisions.iter().map(|it| (&*it.name, it.revision.0, it.state)).collect();
    assert_eq!(decisions, [("Named", 3, DecisionState::Withdrawn)]);
    assert_eq!((record.references.len(), record.deadlines.len()), (1, 1));
    assert_eq!(states[&gone].decision("First", None).unwrap().state, DecisionState::Made);
}
