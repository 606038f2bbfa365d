//! Actors come and go, and nothing that was sent to them is lost or done twice.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Folder, Harness, Wiring, added, order, wait_until};
use crate::actors::History;
use crate::model::event::Event;
use crate::model::identities::Identities;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::{Input, Record};
use crate::model::refusal::Code;
use crate::model::settle::EventOutcome;
use crate::model::state::State;
use crate::model::system::{SinkProgress, SystemState};
use crate::model::time::Timestamp;
use crate::rules::{self, Ruleset, Verdict};

/// Events of one source, interleaved over keys; some come twice.
fn interleaved(seed: u64, count: usize, keys: u64) -> Vec<Event> {
    let mut random = StdRng::seed_from_u64(seed);
    let event = |n: u64| added(&format!("e{n}"), &format!("k{}", n % keys), (n % 7) as i64);
    (0..count).map(|_| event(random.random_range(0..count as u64))).collect()
}

/// The states that the rules alone make of `events`, at the times that the journal's records tell.
fn folded(ruleset: &Ruleset, events: &[Event], journal: &[(Lsn, Record)]) -> HashMap<EntityKey, State> {
    let mut times: HashMap<EntityKey, Vec<Timestamp>> = HashMap::new();
    for (_, record) in journal.iter().rev() {
        times.entry(record.entity.clone()).or_default().push(record.now);
    }
    let mut states: HashMap<EntityKey, State> = HashMap::new();
    for taken in events.iter().flat_map(|event| ruleset.admit(event).unwrap()) {
        let key = taken.entity.clone();
        let state = states.entry(key.clone()).or_default();
        let prior = state.identities.get(taken.identity).map(|seen| seen.payload);
        // A duplicate has no time of its own, and needs none.
        let now = times[&key].last().copied().unwrap_or_default();
        if let Verdict::Record(decided) = rules::decide(state, taken, prior, now) {
            rules::evolve(state, &decided.record);
            times.get_mut(&key).unwrap().pop();
        }
    }
    assert!(times.values().all(Vec::is_empty), "the journal has no record more than the events make");
    states
}

/// If this failed, an input that came while an actor stopped would be lost, or done twice, or answered never.
#[test]
fn inputs_survive_the_coming_and_going_of_actors() {
    for (seed, live_max, shards) in [(1, 1, 1), (2, 2, 1), (3, 3, 2)] {
        let folder = Folder::new();
        let mut harness = Harness::start(&folder, Wiring { shards, live_max, ..Wiring::default() });
        let events = interleaved(seed, 4000, 60);
        let mut random = StdRng::seed_from_u64(seed);
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(random.random_range(1..=rest.len().min(9)));
            harness.deliver(batch);
            if random.random_bool(0.05) {
                harness.all_told();
            }
            if random.random_bool(0.05) {
                // Whoever reads is told of committed states, whatever the actor is doing.
                let key = order(&format!("k{}", random.random_range(0..60)));
                if let Some(snapshot) = harness.read(&key) {
                    assert_eq!(snapshot.lsns.version, snapshot.state.version);
                }
            }
            rest = later;
        }
        harness.all_told();
        let outcomes = (1..=events.len() as u64).map(|line| harness.told(line).unwrap());
        let counted = outcomes.filter(|outcome| matches!(outcome, EventOutcome::Accepted(_))).count();
        let journal = harness.records();
        assert_eq!(journal.len(), 2 * counted, "one record for each of the two takers");
        for (entity, state) in folded(&harness.ruleset, &events, &journal) {
            assert_eq!(harness.read(&entity).unwrap().state.encode(), state.encode(), "{entity}");
        }
        let most = (live_max * shards) as i64;
        wait_until("only so many actors are left", || harness.live() <= most);
        assert!(harness.handed_bytes() > 0, "what is not stored waits in memory");
        harness.checkpoint();
        wait_until("what is stored does not wait any more", || harness.handed_bytes() == 0);
    }
}

/// If this failed, keys that were heard of once would stay in memory for ever.
#[test]
fn idle_actors_are_stopped_and_known_again_when_needed() {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring { idle: Duration::from_millis(1), ..Wiring::default() });
    let events: Vec<_> = (0..50).map(|n| added(&format!("e{n}"), &format!("k{n}"), n)).collect();
    harness.settle(&events);
    wait_until("all actors are stopped", || harness.live() == 0);
    assert_eq!(harness.settle(&events[..1]), [EventOutcome::Duplicate(Lsn(1)).max_lsn(&harness)]);
    assert_eq!(harness.read(&order("k7")).unwrap().state.version.0, 1);
}

trait MaxLsn {
    fn max_lsn(self, harness: &Harness) -> Self;
}

impl MaxLsn for EventOutcome {
    /// An event's outcome tells the position of its later taker.
    fn max_lsn(self, harness: &Harness) -> Self {
        let of = |kind: &str| harness.read(&EntityKey::new(kind, "k0")).unwrap().lsns.last;
        match self {
            EventOutcome::Duplicate(_) => EventOutcome::Duplicate(of("order").max(of("tally"))),
            other => other,
        }
    }
}

/// If this failed, a burst of keys would stay in memory until each of them is idle for long.
#[test]
fn after_a_burst_only_so_many_actors_are_left() {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring { live_max: 10, ..Wiring::default() });
    harness.settle(&(0..500).map(|n| added(&format!("e{n}"), &format!("k{n}"), 1)).collect::<Vec<_>>());
    wait_until("only ten are left", || harness.live() == 10);
}

/// If this failed, an entity whose actor goes now and then would grow past every limit.
#[test]
fn an_entity_that_is_too_large_is_refused_however_often_its_actor_went() {
    let folder = Folder::new();
    let rules = "[entity.order]\nkey = \"event.data.key\"\n\
                 fields.all = { on = \"Added\", take = \"list\", value = \"event.data.n\" }";
    let wiring = Wiring { live_max: 1, entity_bytes_max: 4096, rules, ..Wiring::default() };
    let mut harness = Harness::start(&folder, wiring);
    let mut told = Vec::new();
    for n in 0..200 {
        told.extend(harness.settle(&[added(&format!("a{n}"), "a", 1)]));
        harness.settle(&[added(&format!("b{n}"), &format!("b{n}"), 1)]);
    }
    let too_large = |told: &EventOutcome| matches!(told, EventOutcome::Refused(why) if why.code == Code::TooLarge);
    let refused = told.iter().position(too_large).expect("it is too large at last");
    assert!(told[refused..].iter().all(too_large) && refused > 50, "after {refused}");
    let again = harness.settle(&[added("a0", "a", 1)]);
    assert!(matches!(again[..], [EventOutcome::Duplicate(_)]), "what was accepted once is refused now: {again:?}");
    let mut state = harness.read(&order("a")).unwrap().state;
    state.identities = Identities::default();
    assert!(state.encode().len() < 4096 * 5 / 4);
}

/// If this failed, a key that is in the news would be refused for ever, for nothing but being counted often.
#[test]
fn identities_do_not_make_an_entity_too_large() {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring { entity_bytes_max: 4096, ..Wiring::default() });
    let events: Vec<_> = (0..1000).map(|n| added(&format!("a{n}"), "a", 1)).collect();
    assert!(harness.settle(&events).iter().all(|told| matches!(told, EventOutcome::Accepted(_))));
}

/// If this failed, a sink would deliver again all that it ever delivered.
#[test]
fn a_sinks_progress_is_an_entity_like_others() {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring { live_max: 1, ..Wiring::default() });
    let sink = EntityKey::new("$sink", "out");
    let progress = |n| SinkProgress { delivered: Lsn(n), offset: 10 * n };
    for n in 1..=20 {
        let durable = harness.shards.note(sink.clone(), Input::Progress(progress(n)));
        assert!(harness.block_on(durable).unwrap() > Lsn::ZERO);
        harness.settle(&[added(&format!("e{n}"), &format!("k{n}"), 1)]);
        if n == 10 {
            harness.checkpoint();
        }
    }
    let noted = Some(Box::new(SystemState::Progress(progress(20))));
    assert_eq!(harness.read(&sink).unwrap().state.system, noted);
    let left = folder.copy();
    drop(harness);
    let harness = Harness::start(&left, Wiring::default());
    assert_eq!(harness.read(&sink).unwrap().state.system, noted);
}

/// If identities were lost when they move out of a busy key's state, its repeats would count twice.
#[test]
fn a_hot_key_counts_each_event_once() {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring::default());
    for _ in 0..2 {
        for batch in 0..12 {
            let events: Vec<_> = (0..500).map(|n| added(&format!("e{}", batch * 500 + n), "hot", 1)).collect();
            harness.settle(&events);
            if batch % 5 == 4 {
                harness.checkpoint();
            }
        }
    }
    let snapshot = harness.read(&order("hot")).unwrap();
    assert_eq!((snapshot.state.events, snapshot.lsns.duplicates()), (6_000, 6_000));
    // Where its records are is known as well, and after a crash, too.
    let records = harness.records().into_iter().filter(|(_, record)| record.entity == order("hot"));
    let expected: Vec<Lsn> = records.map(|(lsn, _)| lsn).collect();
    let left = folder.copy();
    for harness in [harness, Harness::start(&left, Wiring::default())] {
        let book = harness.read(&order("hot")).unwrap().lsns;
        let history = History { store: &harness.store, entity: &order("hot"), book: &book };
        assert!(history.after(Lsn::ZERO, usize::MAX).unwrap() == expected);
    }
}
