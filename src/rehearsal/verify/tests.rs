//! The oracle and the followers against the rules themselves: what `decide` and `evolve` make of random events must be what
//! is computed anew, and every kind of damage to it must be told.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::adopted::Under;
use super::findings::{Findings, Kind};
use super::followed::Followed;
use super::holes::{self, Measure};
use super::options::{Effects, Options};
use crate::config;
use crate::model::dealings::{Dealings, Effect, EffectStage, View};
use crate::model::event::{Event, TimeGiven};
use crate::model::ids::{EntityKey, Lsn, Revision, Version};
use crate::model::json;
use crate::model::packed::Packed;
use crate::model::record::{DecisionState, Record};
use crate::model::state::{FieldState, State};
use crate::model::system::{DeadLetter, Origin, SystemState};
use crate::model::time::Timestamp;
use crate::model::value::{Map, Value};
use crate::rules::{Came, Machine, Ruleset, compile};

/// A field for every way to merge, with and without `by`, and decisions of every sort.
const RULES: &str = r#"
[entity.t]
key = "event.subject"
[entity.t.fields]
first = { on = "*", take = "first", value = "event.data.v" }
latest = { on = "A", take = "latest", value = "event.data.v" }
ordered = { on = "*", take = "latest", value = "event.data.v", order_by = "event.data.o" }
least = { on = "*", take = "min", value = "event.data.n" }
most = { on = "*", take = "max", value = "event.data.n" }
sum = { on = "*", take = "sum", value = "event.data.n" }
count = { on = "B", take = "count" }
set = { on = "*", take = "set", value = "event.data.v" }
list = { on = "*", take = "list", value = "event.data" }
newest = { on = "*", take = "list", value = "event.data.v", keep = 3, order_by = "event.data.o" }
when = { on = "*", take = "max", value = "event.time" }
by_first = { on = "*", take = "first", value = "event.data.v", by = "event.data.o" }
by_latest = { on = "*", take = "latest", value = "event.data.v", by = "event.type" }
by_sum = { on = "A", take = "sum", value = "event.data.n", by = "event.data.v" }
[entity.t.derived]
large = "t.sum > 10"
[entity.t.complete]
fields = ["latest", "count", "large"]
[entity.t.decision.Large]
when = "t.large"
data = { sum = "t.sum", latest = "t.latest" }
[entity.t.decision.Each]
by = "t.set"
when = "t.count > 1"
data = { n = "t.count" }
[entity.t.decision.Once]
policy = "once"
when = "t.count > 0"
data = { n = "t.count" }
"#;

fn ruleset(text: &str) -> Ruleset {
    let mut loaded = config::load_str(text, &|_| None);
    let config = loaded.config.take().unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.files)));
    let types = compile(&config.entities, &loaded.files, &mut loaded.diagnostics);
    Ruleset::new(types.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.files))), &[], 512)
}

fn second(n: i64) -> Timestamp {
    Timestamp::from_nanos((1_763_632_800 + i128::from(n)) * 1_000_000_000).unwrap()
}

fn event(id: usize, source: &str, kind: &str, at: i64, data: &str) -> Event {
    Event {
        source: source.into(),
        id: id.to_string().into(),
        kind: kind.into(),
        time: second(at),
        time_given: TimeGiven::BySender,
        subject: Some("k".into()),
        data: Some(json::parse(data.as_bytes(), 9).unwrap()),
        extensions: Map::default(),
    }
}

/// The records that the rules make of events, and the state in the end.
fn run(ruleset: &std::sync::Arc<Ruleset>, events: &[Event]) -> (Vec<Record>, State) {
    let mut machine = Machine::new(ruleset.clone());
    let mut records = Vec::new();
    for (n, event) in (0..).zip(events) {
        for taken in ruleset.admit(event).unwrap_or_default() {
            if let Came::Counted(decided) = machine.apply(taken, second(n)) {
                records.push(Record::decode(&decided.record.encode()).unwrap());
            }
        }
    }
    let state = machine.states().get(&EntityKey::new("t", "k")).cloned();
    (records, state.unwrap_or_default())
}

/// What is found when the records are followed and compared with the state.
fn found(ruleset: &Ruleset, records: &[Record], state: &State) -> BTreeMap<&'static str, u64> {
    let mut findings = Findings::new(9);
    let mut followed: Option<Followed> = None;
    for (lsn, record) in (1..).zip(records) {
        let followed = followed.get_or_insert_with(|| Followed::new(ruleset, &record.entity, record.version));
        followed.follow(ruleset, Under::These, Lsn(lsn), record, &mut findings);
    }
    if let Some(followed) = followed {
        followed.compare(&EntityKey::new("t", "k"), state, &mut findings);
    }
    Kind::ALL.iter().map(|kind| (kind.word(), findings.count(*kind))).filter(|(_, count)| *count > 0).collect()
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let data = (
        prop_oneof![Just("null"), Just("1"), Just("1.0"), Just("\"a\""), Just("[1,\"b\"]"), Just("{\"a\":null}")],
        prop_oneof![Just("1"), Just("1.0"), Just("-2.50"), Just("7"), Just("12345678901234567890.5"), Just("null")],
        prop_oneof![Just("1"), Just("2"), Just("\"x\""), Just("null")],
    );
    let one = (0_usize..900, prop_oneof![Just("/a"), Just("/b")], prop_oneof![Just("A"), Just("B")], 0_i64..5, data);
    let one = one.prop_map(|(id, source, kind, at, (v, n, o))| {
        event(id, source, kind, at, &format!(r#"{{"v":{v},"n":{n},"o":{o}}}"#))
    });
    prop::collection::vec(one, 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// If this failed, either the rules or the oracle would merge wrongly, and a sound server be called damaged.
    #[test]
    fn what_the_rules_make_is_what_the_oracle_computes(events in events()) {
        let ruleset = std::sync::Arc::new(ruleset(RULES));
        let (records, state) = run(&ruleset, &events);
        prop_assert_eq!(found(&ruleset, &records, &state), BTreeMap::new());
    }
}

fn some() -> (std::sync::Arc<Ruleset>, Vec<Record>, State) {
    let ruleset = std::sync::Arc::new(ruleset(RULES));
    let events: Vec<Event> = (0..20)
        .map(|n| event(n, "/a", if n % 2 == 0 { "A" } else { "B" }, 5, &format!(r#"{{"v":{n},"n":{n},"o":{n}}}"#)))
        .collect();
    let (records, state) = run(&ruleset, &events);
    assert_eq!((records.len(), found(&ruleset, &records, &state).len()), (20, 0));
    (ruleset, records, state)
}

/// If this failed, damage to a state would pass for what the journal says.
#[test]
fn every_kind_of_damage_to_a_state_is_told() {
    fn check(expected: &str, damage: impl FnOnce(&mut State)) {
        let (ruleset, records, mut state) = some();
        damage(&mut state);
        let found = found(&ruleset, &records, &state);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [expected], "{found:?}");
    }
    check("field", |state| {
        let slot = state.fields.iter_mut().flatten().find(|field| matches!(field, FieldState::Count(_)));
        *slot.unwrap() = FieldState::Count(7);
    });
    check("field", |state| drop(state.fields.remove(0)));
    check("field", |state| {
        let taken = state.fields.iter_mut().flatten().find_map(|field| match field {
            FieldState::List(items) => items.pop(),
            _ => None,
        });
        assert!(taken.is_some());
    });
    check("events", |state| state.events += 1);
    check("completeness", |state| state.missing ^= 1);
    check("decision", |state| state.ledger[0].data = Packed::new(&Value::Int(5)));
    check("decision", |state| state.ledger[0].revision = Revision(99));
    check("decision", |state| drop(state.ledger.pop()));
    check("decision", |state| state.ledger[0].state = DecisionState::Withdrawn);
}

/// If this failed, a journal that lost or changed a record would pass for whole.
#[test]
fn every_break_in_the_records_is_told() {
    fn check(expected: &[&str], damage: impl FnOnce(&mut Vec<Record>)) {
        let (ruleset, mut records, state) = some();
        damage(&mut records);
        let found = found(&ruleset, &records, &state);
        for word in expected {
            assert!(found.contains_key(word), "{word} is not in {found:?}");
        }
    }
    check(&["chain", "events", "field"], |records| drop(records.remove(5)));
    check(&["chain"], |records| records[5].now = second(-9));
    check(&["revision"], |records| {
        let made = records.iter_mut().rev().find(|record| !record.decisions.is_empty()).unwrap();
        made.decisions[0].revision = Revision(1);
    });
    check(&["counted_twice", "events"], |records| {
        let mut again = records.last().unwrap().clone();
        again.version = Version(21);
        records.push(again);
    });
    check(&["not_taken"], |records| {
        let crate::model::record::Input::Event(input) = &mut records[5].input else { panic!("an event") };
        input.event.subject = Some("other".into());
    });
}

/// If this failed, an entity whose first records are gone would be called damaged.
#[test]
fn what_is_cut_is_compared_as_far_as_it_is_there() {
    let (ruleset, records, state) = some();
    assert_eq!(found(&ruleset, &records[7..], &state), BTreeMap::new());
}

/// If this failed, nobody would hear of what is missing, or would hear of it at once.
#[test]
fn holes_are_told_once_they_are_old() {
    let ruleset = ruleset(RULES);
    let effect = |stage| Effect {
        name: "call".into(),
        run: 1,
        request: Packed::new(&Value::Null),
        stage,
        attempts: 1,
        at: second(0),
        outcome: None,
    };
    let view = View {
        reference: "r".into(),
        place: 0,
        kind: "q".into(),
        to: "x".into(),
        since: second(0),
        version: Version(0),
        content: None,
    };
    let with = |dealings| State { events: 1, now: second(0), dealings: Some(Box::new(dealings)), ..State::default() };
    let letter = DeadLetter {
        origin: Origin::Source { name: "bus".into(), position: "7".into() },
        reason: "invalid_json".into(),
        detail: "no".into(),
        attempts: 1,
        entity: None,
        id: "e".into(),
        body: Vec::new(),
        form: crate::model::system::Form::Partial,
        mandate: None,
    };
    let cases = [
        (Kind::DeadLetter, State { system: Some(Box::new(SystemState::DeadLetter(letter))), ..State::default() }, true),
        (Kind::Incomplete, State { events: 1, now: second(0), missing: 1, ..State::default() }, false),
        (Kind::Waiting, with(Dealings { views: vec![view], ..Dealings::default() }), false),
        (
            Kind::EffectOpen,
            with(Dealings { effects: vec![effect(EffectStage::Started)], ..Dealings::default() }),
            false,
        ),
        (
            Kind::EffectUnknown,
            with(Dealings { effects: vec![effect(EffectStage::Unknown)], ..Dealings::default() }),
            true,
        ),
    ];
    for (kind, state, at_once) in cases {
        for (now, expected) in [(3600, at_once), (3601, true)] {
            let mut findings = Findings::new(9);
            let entity = EntityKey::new("t", "k");
            let rules = ruleset.get("t").map(|rules| &**rules);
            let options = Options::default();
            let measure = Measure { options: &options, effects: Effects::Called, now: second(now) };
            holes::look(rules, &entity, &state, None, measure, &mut findings);
            assert_eq!(findings.count(kind), u64::from(expected), "{} after {now} s", kind.word());
        }
    }
}
