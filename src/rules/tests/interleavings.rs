//! Random webs of entities, in random interleavings of events, letters, time, calls and restarts: all come to what the oracle
//! says, no decision says two things under one id, and nothing that is called once is called twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use proptest::prelude::*;

use super::web::{self, EventSpec, Member, Oracle, Web};
use super::{event, ruleset, second};
use crate::model::dealings::{Call, Dealings, EffectOutcome, EffectStage};
use crate::model::event::Event;
use crate::model::ids::EntityKey;
use crate::model::outgoing::decision_id;
use crate::model::packed::Packed;
use crate::model::record::{DecisionState, Record};
use crate::model::state::{LsnBook, State};
use crate::model::time::Timestamp;
use crate::model::value::{Map, Value};
use crate::rules::{Around, Came, Decided, Document, Machine, Rest, Ruleset, evolve};

/// Everything that was decided and called.
#[derive(Default)]
struct Heard {
    records: Vec<Record>,
    calls: Vec<(EntityKey, Box<str>, u32)>,
}

impl Around for Heard {
    fn answer(&mut self, call: &Call) -> Option<EffectOutcome> {
        self.calls.push((call.entity.clone(), call.effect.clone(), call.run));
        Some(EffectOutcome { stage: EffectStage::Succeeded, status: Some(200), response: None, error: None })
    }

    fn hear(&mut self, decided: &Decided) {
        assert!(decided.errors.is_empty(), "{:?} of {:?}", decided.errors, decided.record);
        self.records.push(decided.record.clone());
    }
}

/// What happens next, read out of random numbers.
struct Schedule<'a> {
    machine: Machine,
    heard: Heard,
    rules: &'a Ruleset,
    now: Timestamp,
}

impl Schedule<'_> {
    fn event(&mut self, event: &Event) {
        for taken in self.rules.admit(event).unwrap() {
            if let Came::Counted(decided) = self.machine.apply(taken, self.now) {
                self.heard.hear(&decided);
            }
        }
    }

    /// One of the letters under way arrives; `how` it does: as the only one, twice, or instead of the earlier ones of its
    /// link.
    fn letter(&mut self, which: usize, how: u8) {
        let count = self.machine.letters().len();
        if count == 0 {
            return;
        }
        let at = which % count;
        if how == 0 {
            let copy = self.machine.letters()[at].clone();
            return self.machine.arrive(copy, &mut self.heard);
        }
        let Some(letter) = self.machine.take_letter(at) else { return };
        if how == 1 {
            let same = |known: &&crate::model::outbox::Outgoing| {
                known.receipt().link == letter.link() && known.to == letter.to
            };
            let from = |it: &crate::model::outbox::Outgoing| match &it.letter {
                crate::model::outbox::Letter::Message(received) => received.from.clone(),
                crate::model::outbox::Letter::Event { .. } => it.to.clone(),
            };
            let earlier = |known: &crate::model::outbox::Outgoing| {
                same(&known) && from(known) == from(&letter) && known.version < letter.version
            };
            while let Some(at) = self.machine.letters().iter().position(earlier) {
                self.machine.take_letter(at);
            }
        }
        self.machine.arrive(letter, &mut self.heard);
    }

    fn step(&mut self, [what, which]: [u8; 2], events: &[Event], next: &mut usize) {
        match what % 8 {
            0 | 1 if *next < events.len() => {
                *next += 1;
                self.event(&events[*next - 1]);
            }
            0..=3 => self.letter(which.into(), what / 8 % 4),
            4 => {
                self.now = second((self.now.since(second(0))).whole_seconds() + i64::from(which) * 20);
                while self.machine.wake(self.now, &mut self.heard) {}
            }
            5 => {
                if let Some(call) = self.machine.take_call()
                    && let Some(outcome) = self.heard.answer(&call)
                {
                    self.machine.end(&call, outcome, &mut self.heard);
                }
            }
            6 if *next > 0 => self.event(&events[usize::from(which) % *next]),
            _ => self.machine.reload().unwrap(),
        }
    }
}

fn run(rules: &Arc<Ruleset>, events: &[Event], steps: &[[u8; 2]]) -> (Machine, Heard) {
    let (machine, heard) = (Machine::new(rules.clone()), Heard::default());
    let mut schedule = Schedule { machine, heard, rules, now: second(0) };
    let mut next = 0;
    for step in steps {
        schedule.step(*step, events, &mut next);
    }
    events[next..].iter().for_each(|event| schedule.event(event));
    let Schedule { mut machine, mut heard, .. } = schedule;
    assert_eq!(machine.finish(&mut heard), Rest::Reached);
    (machine, heard)
}

fn events_of(specs: &[EventSpec], web: &Web) -> (Vec<(Timestamp, EventSpec)>, Vec<Event>) {
    let count = web.0.len();
    let specs = specs.iter().map(|spec| EventSpec { kind: spec.kind % count, ..spec.clone() });
    let timed: Vec<_> = specs.map(|spec| (second(60 * spec.minute), spec)).collect();
    let events = timed.iter().enumerate().map(|(n, (time, spec))| {
        let mut data = format!("\"s\":{}", spec.number);
        let to = spec.to.map(|to| to.json(|key| format!("{key:?}")));
        let members = [("v", spec.value.json(|it| it.to_string()))].into_iter().chain(["a", "b"].into_iter().zip(to));
        for (name, json) in members.filter_map(|(name, json)| Some((name, json?))) {
            let _ = write!(data, ",\"{name}\":{json}");
        }
        let (kind, key) = (spec.kind, spec.key);
        event(&format!(r#"{{"id":"{n}","type":"E{kind}","time":"{time}","subject":"{key}","data":{{{data}}}}}"#))
    });
    let events = events.collect();
    (timed, events)
}

fn check(web: &Web, oracle: &Oracle<'_>, rules: &Ruleset, machine: &Machine) {
    let entities: Vec<(usize, &str)> = oracle.entities().collect();
    let there = machine.states().iter().filter(|(_, state)| state.exists()).map(|(entity, _)| entity.clone());
    let expected = entities.iter().map(|(kind, key)| EntityKey::new(format!("t{kind}"), key));
    assert_eq!(there.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    for (entity, (kind, key)) in
        machine.states().iter().filter(|(_, state)| state.exists()).map(|(it, _)| it).zip(oracle.entities())
    {
        let (state, of) = (&machine.states()[entity], &web.0[kind]);
        let document = Document::new(rules.get(entity.kind()).unwrap(), key, state, &LsnBook::default());
        let shown = |group: &str, name: &str| match document.get(group) {
            Some(Value::Map(members)) => members.get(name).map(Packed::new),
            _ => None,
        };
        let of_oracle = |member| oracle.member((kind, key), member).as_ref().map(Packed::new);
        assert_eq!(shown("fields", "v"), of_oracle(Member::Value), "v of {entity}");
        for at in 0..of.derived.len() {
            assert_eq!(shown("derived", &format!("d{at}")), of_oracle(Member::Derived(at)), "d{at} of {entity}");
        }
        let deadline = state.dealings.as_deref().and_then(|dealings| dealings.deadline("late"));
        assert!(deadline.is_none_or(|deadline| deadline.times.has_passed), "{deadline:?}");
        let late = deadline.map(|deadline| Packed::new(&Value::Timestamp(deadline.times.at)));
        assert_eq!(late, of_oracle(Member::Late), "late of {entity}");
        let waits = (0..of.references.len())
            .filter(|at| oracle.target((kind, key), *at).is_some_and(|(_, is_there)| !is_there));
        assert_eq!(
            state.dealings.as_deref().map_or(0, Dealings::waiting),
            waits.map(|at| 1 << at).sum::<u64>(),
            "{entity} waits"
        );
        check_conclusions(oracle, (kind, key), of, entity, state);
        assert_eq!(document.get("errors"), Some(&Value::Map(Map::default())));
    }
}

fn check_conclusions(
    oracle: &Oracle<'_>,
    of_oracle: (usize, &'static str),
    of: &web::TypeSpec,
    entity: &EntityKey,
    state: &State,
) {
    for (at, spec) in of.decisions.iter().enumerate().filter(|(_, spec)| !spec.is_once) {
        let name = format!("D{at}");
        let entries = state.ledger.iter().filter(|it| *it.name == *name && it.state != DecisionState::Withdrawn);
        let says: BTreeMap<_, _> =
            entries.map(|it| (it.element.as_ref().map(ToString::to_string), it.data.clone())).collect();
        let expected = oracle.decision(of_oracle, spec);
        let expected: BTreeMap<_, _> = expected.into_iter().map(|(element, it)| (element, Packed::new(&it))).collect();
        assert_eq!(says, expected, "{name} of {entity}");
    }
    if let Some(spec) = of.effect.as_ref().filter(|spec| !spec.is_once) {
        let last = state.dealings.as_deref().and_then(|dealings| dealings.effect("call"));
        let asked = oracle.form(of_oracle, spec.says).filter(|_| oracle.holds(of_oracle, spec.when));
        if let Some(says) = asked {
            let last = last.and_then(|last| last.request.select(&["json", "says"]));
            assert_eq!(last.as_ref().map(Packed::new), Some(Packed::new(&says)), "the call of {entity}");
        }
    }
}

fn check_course(web: &Web, machine: &Machine, heard: &Heard) {
    let mut ids = BTreeSet::new();
    let mut states: BTreeMap<EntityKey, State> = BTreeMap::new();
    for record in &heard.records {
        for made in &record.decisions {
            assert!(ids.insert(decision_id(&record.entity, made)), "{made:?} of {} has its id twice", record.entity);
        }
        evolve(states.entry(record.entity.clone()).or_default(), record);
    }
    states.retain(|_, state| state.version.0 > 0);
    let live = machine.states().iter().filter(|(_, state)| state.version.0 > 0);
    assert!(states.iter().eq(live), "records alone come to other states");
    let mut called = BTreeSet::new();
    for (entity, effect, run) in &heard.calls {
        assert!(called.insert((entity, effect, run)), "{effect} of {entity} is called twice for one request");
        let kind: usize = entity.kind()[1..].parse().unwrap();
        let is_once = web.0[kind].effect.as_ref().is_some_and(|effect| effect.is_once);
        assert!(!is_once || *run == 1, "{effect} of {entity} is asked for again");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// If this failed, what entities come to would depend on who was faster, or a restart would change it.
    #[test]
    fn any_interleaving_comes_to_what_the_oracle_says(
        web in web::web(),
        specs in web::events(),
        shuffle in prop::collection::vec(any::<prop::sample::Index>(), 10),
        schedules in prop::collection::vec(prop::collection::vec(any::<[u8; 2]>(), 0..60), 2..4),
    ) {
        let rules = Arc::new(ruleset(&web.text()));
        let (timed, mut events) = events_of(&specs, &web);
        let oracle = Oracle::new(&web, &timed);
        for steps in [vec![]].iter().chain(&schedules) {
            let (machine, heard) = run(&rules, &events, steps);
            check(&web, &oracle, &rules, &machine);
            check_course(&web, &machine, &heard);
            for (at, other) in shuffle.iter().enumerate().take(events.len()) {
                let other = other.index(events.len());
                events.swap(at, other);
            }
        }
    }
}
