//! Pauses over crashes and passivation: nothing that is held is lost, applied early, or applied in another order.

use super::fixtures::{Folder, added, order};
use super::harness::{Harness, Wiring};
use crate::model::ids::EntityKey;
use crate::model::mandate::Mandate;
use crate::model::record::Input;
use crate::model::settle::{EventOutcome, Noted};
use crate::model::state::State;

fn mandate() -> Mandate {
    Mandate { by: "ann".into(), why: "a test".into() }
}

fn state(harness: &Harness, key: &str) -> State {
    harness.read(&order(key)).map(|snapshot| snapshot.state).unwrap_or_default()
}

fn held(harness: &Harness, key: &str) -> usize {
    state(harness, key).pause().map_or(0, |pause| pause.held.len())
}

fn pause(harness: &Harness, key: &str) -> Noted {
    harness.block_on(harness.shards.step(order(key), Input::Paused(mandate()))).unwrap()
}

fn resume(harness: &Harness, key: &str) -> Noted {
    harness.block_on(harness.shards.step(order(key), Input::Resumed(mandate()))).unwrap()
}

#[track_caller]
fn until(harness: &Harness, what: &str, condition: impl Fn(&Harness) -> bool) {
    super::harness::wait_until(what, || condition(harness));
}

/// The ids of an order's events in the order in which they were applied.
fn applied(harness: &Harness, key: &str) -> Vec<String> {
    let records = harness.records();
    let of_key = records.iter().filter(|(_, record)| record.entity == order(key));
    of_key.filter_map(|(_, record)| record.input.event()).map(|input| input.event.id.to_string()).collect()
}

/// Events `e0` to `e(n-1)` of `k`, in slices that do not fit into one.
fn events(from: usize, to: usize) -> Vec<crate::model::event::Event> {
    (from..to).map(|n| added(&format!("e{n}"), "k", 1)).collect()
}

fn ids(to: usize) -> Vec<String> {
    (0..to).map(|n| format!("e{n}")).collect()
}

/// If this failed, a crash while events are held, or while they are released, would lose some or shuffle them.
#[test]
fn held_events_survive_crashes_and_are_released_in_order() {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring::default());
    harness.settle(&events(0, 3));
    assert!(matches!(pause(&harness, "k"), Noted::Recorded(_)));
    assert_eq!(pause(&harness, "k"), Noted::Nothing, "paused already");
    let outcomes = harness.settle(&events(0, 200));
    assert!(matches!(outcomes[0], EventOutcome::Duplicate(_)) && matches!(outcomes[3], EventOutcome::Accepted(_)));
    assert_eq!((state(&harness, "k").events, held(&harness, "k")), (3, 197));
    harness.checkpoint();
    drop(harness);

    // What is stored is still held, and what comes goes behind it.
    let crashed = folder.copy();
    let mut harness = Harness::start(&crashed, Wiring::default());
    assert_eq!(held(&harness, "k"), 197);
    until(&harness, "the gauges are right after a start", |harness| {
        let metrics = &harness.types["order"];
        (metrics.paused.get(), metrics.held.get()) == (1, 197)
    });
    harness.settle(&events(200, 300));
    until(&harness, "they are counted", |harness| harness.types["order"].held.get() == 297);
    // The commit of the resumption passes, and of what is released one more.
    let written = harness.commits_written();
    harness.allow_commits(Some(2));
    assert!(matches!(resume(&harness, "k"), Noted::Recorded(_)));
    until(&harness, "something is released", |harness| harness.commits_written() == written + 3);
    let crashed_again = crashed.copy();
    harness.allow_commits(None);
    until(&harness, "all is released", |harness| held(harness, "k") == 0);
    assert_eq!(applied(&harness, "k"), ids(300));
    drop(harness);

    let harness = Harness::start(&crashed_again, Wiring::default());
    until(&harness, "the rest is released after the crash", |harness| {
        state(harness, "k").events == 300 && held(harness, "k") == 0
    });
    assert_eq!(applied(&harness, "k"), ids(300));
    let state = state(&harness, "k");
    assert!(state.dealings.is_none(), "nothing is left of the pause");
    let metrics = &harness.types["order"];
    until(&harness, "the gauges are empty again", |_| (metrics.paused.get(), metrics.held.get()) == (0, 0));
    assert_eq!(metrics.entities.get(), 1);
}

/// If this failed, a paused type would hold events of others, or a resumed one keep what it holds; or an event that came
/// while the rest was being released would overtake it.
#[test]
fn a_type_is_paused_as_a_whole_and_released_by_itself() {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring { live_max: 2, ..Wiring::default() });
    let say = |harness: &Harness, input: Input| {
        let said = harness.block_on(harness.pauses.change(&harness.shards, "order", input));
        said.unwrap().is_paused
    };
    assert!(say(&harness, Input::Paused(mandate())));
    let each: Vec<_> = (0..600).map(|n| added(&format!("e{n}"), &format!("k{}", n % 150), 1)).collect();
    harness.settle(&each);
    assert_eq!((state(&harness, "k7").events, held(&harness, "k7")), (0, 4));
    until(&harness, "they are counted", |harness| harness.types["order"].held.get() == 600);
    let tally = harness.read(&EntityKey::new("tally", "k7")).unwrap();
    assert_eq!(tally.state.events, 4, "another type");
    assert!(matches!(pause(&harness, "k8"), Noted::Recorded(_)));
    harness.checkpoint();
    drop(harness);

    let crashed = folder.copy();
    let mut harness = Harness::start(&crashed, Wiring { live_max: 2, ..Wiring::default() });
    assert!(harness.pauses.is_paused("order"), "a pause survives");
    until(&harness, "all that hold are known again", |harness| harness.types["order"].held.get() == 600);
    let listed = harness.block_on(harness.shards.paused(Some("order"), Some(&order("k8")), 3));
    let keys: Vec<&str> = listed.iter().map(|(key, _)| key.key()).collect();
    assert_eq!(keys, ["k80", "k81", "k82"]);
    assert!(!say(&harness, Input::Resumed(mandate())));
    harness.settle(&[added("late", "k7", 1)]);
    until(&harness, "all but the key that is paused itself", |harness| harness.types["order"].held.get() == 4);
    assert_eq!(applied(&harness, "k7"), ["e7", "e157", "e307", "e457", "late"]);
    assert_eq!((state(&harness, "k8").events, held(&harness, "k8")), (0, 4));
    assert!(matches!(resume(&harness, "k8"), Noted::Recorded(_)));
    until(&harness, "that one, too", |harness| held(harness, "k8") == 0);
    assert_eq!(applied(&harness, "k8"), ["e8", "e158", "e308", "e458"]);
}

/// If this failed, one paused key could grow without bound.
#[test]
fn what_is_held_is_bounded_and_the_entity_takes_events_again_once_it_is_released() {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring { entity_bytes_max: 20_000, ..Wiring::default() });
    pause(&harness, "k");
    let outcomes = harness.settle(&events(0, 2000));
    let refused = outcomes.iter().find_map(|outcome| match outcome {
        EventOutcome::Refused(refusal) => Some(refusal.message.clone()),
        _ => None,
    });
    let why = refused.expect("not all of them fit");
    assert!(why.contains("held events among them until it is resumed"), "{why}");
    let counted = held(&harness, "k");
    assert!((50..1900).contains(&counted), "{counted}");
    resume(&harness, "k");
    until(&harness, "all is released", |harness| held(harness, "k") == 0);
    assert_eq!(applied(&harness, "k"), ids(counted));
    assert!(matches!(harness.settle(&events(1999, 2000))[..], [EventOutcome::Accepted(_)]));
}
