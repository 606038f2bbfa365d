//! Pauses at random places: what has come to rest is what would have been without them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{event, generate, ruleset, second};
use crate::model::codec;
use crate::model::event::Event;
use crate::model::ids::EntityKey;
use crate::model::mandate::Mandate;
use crate::model::record::{Input, Record};
use crate::model::state::{LsnBook, State};
use crate::rules::{Ruleset, Verdict, decide, decide_inside, evolve, hold, release};

/// Something that happens to all entities between events.
#[derive(Clone, Copy, Debug)]
enum Step {
    Pause,
    Resume,
    /// The type is paused, or not.
    Type(bool),
    /// So many events are released, where that is possible.
    Release(u8),
    Reload,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Pause),
        Just(Step::Resume),
        any::<bool>().prop_map(Step::Type),
        (1..4_u8).prop_map(Step::Release),
        Just(Step::Reload),
    ]
}

/// Entities as a shard has them.
struct Shard<'a> {
    rules: &'a Ruleset,
    states: BTreeMap<EntityKey, State>,
    type_paused: bool,
    now: i64,
    records: Vec<Record>,
}

impl<'a> Shard<'a> {
    fn new(rules: &'a Ruleset) -> Self {
        Shard { rules, states: BTreeMap::new(), type_paused: false, now: 0, records: Vec::new() }
    }

    fn evolve(&mut self, record: &Record) {
        let record = Record::decode(&record.encode()).unwrap();
        evolve(self.states.get_mut(&record.entity).unwrap(), &record);
        self.records.push(record);
    }

    /// What came of the event at each of its takers.
    fn event(&mut self, event: &Event) -> Vec<&'static str> {
        self.now += 1;
        let takers = self.rules.admit(event).unwrap_or_default();
        let each = takers.into_iter().map(|taken| {
            let state = self.states.entry(taken.entity.clone()).or_default();
            let prior = state.identities.get(taken.identity).map(|seen| seen.payload);
            let decide = if self.type_paused { hold } else { decide };
            match decide(state, taken, prior, second(self.now)) {
                Verdict::Record(decided) => self.evolve(&decided.record),
                Verdict::Duplicate => return "duplicate",
                Verdict::Conflict => return "conflict",
            }
            "counted"
        });
        each.collect()
    }

    fn by_hand(&mut self, input: &Input) {
        self.now += 1;
        for entity in self.states.keys().cloned().collect::<Vec<_>>() {
            let rules = self.rules.get(entity.kind()).unwrap();
            let state = &self.states[&entity];
            if let Some(decided) = decide_inside(rules, entity, state, input.clone(), second(self.now)) {
                self.evolve(&decided.record);
            }
        }
    }

    /// Releases one event of an entity; whether there was one to release.
    fn release(&mut self, entity: &EntityKey) -> bool {
        self.now += 1;
        let Some(input) = self.states[entity].pause().and_then(|pause| pause.first()).cloned() else { return false };
        let rules = self.rules.get(entity.kind()).unwrap();
        let taken = self.rules.take_back(entity, &input.event.unpack(), input.hops).unwrap().unwrap();
        let decided = release(rules, entity.clone(), &self.states[entity], taken.merges, second(self.now));
        self.evolve(&decided.unwrap().record);
        true
    }

    fn step(&mut self, step: Step) {
        let mandate = || Mandate { by: "me".into(), why: "test".into() };
        match step {
            Step::Pause => self.by_hand(&Input::Paused(mandate())),
            Step::Resume => self.by_hand(&Input::Resumed(mandate())),
            Step::Type(is_paused) => self.type_paused = is_paused,
            Step::Release(_) if self.type_paused => {}
            Step::Release(events) => {
                for entity in self.states.keys().cloned().collect::<Vec<_>>() {
                    let _ = (0..events).all(|_| self.release(&entity));
                }
            }
            Step::Reload => {
                for state in self.states.values_mut() {
                    *state = State::decode(&state.encode()).unwrap();
                }
            }
        }
    }

    /// Everything is resumed and released.
    fn finish(&mut self) {
        self.step(Step::Type(false));
        self.step(Step::Resume);
        for entity in self.states.keys().cloned().collect::<Vec<_>>() {
            while self.release(&entity) {}
        }
    }
}

/// The events of an entity in the order in which they were applied.
fn applied(records: &[Record]) -> BTreeMap<EntityKey, Vec<String>> {
    let mut applied: BTreeMap<EntityKey, Vec<String>> = BTreeMap::new();
    for record in records {
        if let Some(input) = record.input.event() {
            applied
                .entry(record.entity.clone())
                .or_default()
                .push(format!("{}/{}", input.event.source, input.event.id));
        }
    }
    applied
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// If this failed, a pause would lose an event, apply one twice or in another order, or change what comes out.
    #[test]
    fn pauses_change_nothing_but_when(
        spec in generate::rules(),
        events in generate::events(),
        steps in prop::collection::vec(prop::collection::vec(steps(), 0..3), 40),
    ) {
        let rules = ruleset(&spec.text());
        let (mut plain, mut paused) = (Shard::new(&rules), Shard::new(&rules));
        for (n, event) in events.iter().chain(&events).enumerate() {
            paused.now = plain.now.max(paused.now);
            for step in &steps[n % steps.len()] {
                paused.step(*step);
            }
            prop_assert_eq!(plain.event(event), paused.event(event));
        }
        paused.finish();
        prop_assert_eq!(applied(&plain.records), applied(&paused.records));
        for (entity, state) in &plain.states {
            let other = &paused.states[entity];
            prop_assert_eq!(codec::encode(1, &state.fields), codec::encode(1, &other.fields), "fields of {}", entity);
            prop_assert_eq!((state.events, state.missing), (other.events, other.missing));
            prop_assert_eq!(&state.correlation, &other.correlation);
            prop_assert!(other.pause().is_none() && other.dealings.is_none());
            let data = |state: &State| -> Vec<_> {
                state.ledger.iter().map(|it| (it.name.clone(), it.revision, it.state, it.data.clone())).collect()
            };
            prop_assert_eq!(data(state), data(other), "decisions of {}", entity);
        }
    }
}

const RULES: &str =
    "[entity.order]\nkey = \"event.subject\"\n[entity.order.fields]\nn = { on = \"A\", take = \"sum\" }\n";

/// If this failed, a duplicate would be held as well, an entity would decide while it is paused, or forget by whom it was.
#[test]
fn what_is_held_counts_and_shows_who_paused_it() {
    let rules = ruleset(RULES);
    let mut shard = Shard::new(&rules);
    let sent = |id: &str, n: i64| {
        event(&format!(r#"{{"id":"{id}","type":"A","time":"2026-11-20T10:00:00Z","subject":"k","data":{n}}}"#))
    };
    assert_eq!(shard.event(&sent("1", 1)), ["counted"]);
    shard.step(Step::Pause);
    let before = shard.records.len();
    shard.step(Step::Pause);
    assert_eq!(shard.records.len(), before, "paused already");
    assert_eq!(shard.event(&sent("2", 2)), ["counted"]);
    assert_eq!(shard.event(&sent("2", 2)), ["duplicate"]);
    assert_eq!(shard.event(&sent("2", 3)), ["conflict"]);
    let key = EntityKey::new("order", "k");
    let shown = |shard: &Shard<'_>, member: &str| {
        let rules = shard.rules.get("order").unwrap();
        let document = crate::rules::Document::new(rules, "k", &shard.states[&key], &LsnBook::default());
        document.get(member).map(crate::model::json::to_string)
    };
    assert_eq!(shown(&shard, "fields").unwrap(), r#"{"n":1}"#);
    let paused = shown(&shard, "paused").unwrap();
    assert_eq!(paused, r#"{"by":"me","held":1,"since":"2026-11-20T10:00:02Z","why":"test"}"#);
    assert!(!shard.release(&key), "it is paused");
    shard.step(Step::Resume);
    assert_eq!(shard.event(&sent("3", 3)), ["counted"]);
    assert_eq!(shown(&shard, "paused").unwrap(), r#"{"held":2}"#, "held behind the others");
    shard.finish();
    assert_eq!((shown(&shard, "fields").unwrap(), shown(&shard, "paused")), (r#"{"n":6}"#.to_owned(), None));
}
