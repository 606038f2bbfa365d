//! Who is told what, and when: nothing before its commit, nothing later than that.

use std::sync::Arc;

use super::logged::keep_lines;
use super::{Folder, Harness, Wiring, added, order, wait_until};
use crate::model::event::Event;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::refusal::Code;
use crate::model::settle::EventOutcome;

fn start() -> (Folder, Harness) {
    let folder = Folder::new();
    let harness = Harness::start(&folder, Wiring::default());
    (folder, harness)
}

/// Answered before the original's commit, a sender would drop an event that a crash then takes away.
#[test]
fn a_duplicate_waits_for_the_commit_of_its_entity_and_no_longer() {
    let (_folder, mut harness) = start();
    harness.settle(&[added("0", "marker", 1)]);
    let written = harness.commits_written();
    harness.allow_commits(Some(0));
    let original = harness.deliver(&[added("1", "a", 1)]);
    wait_until("the original is written", || harness.commits_written() > written);
    // While the commit is on its way: the duplicate, and what will be in the next commit.
    let duplicate = harness.deliver(&[added("1", "a", 1)]);
    let other = harness.deliver(&[added("2", "b", 1)]);
    harness.handled("marker");
    assert_eq!([original, duplicate, other].map(|line| harness.told(line)), [None, None, None]);
    harness.allow_commits(Some(1));
    wait_until("the duplicate is told of", || harness.told(duplicate).is_some());
    assert_eq!(harness.told(original), Some(EventOutcome::Accepted(Lsn(4))));
    assert_eq!(harness.told(duplicate), Some(EventOutcome::Duplicate(Lsn(4))));
    assert_eq!(harness.told(other), None, "its commit is still on its way");
    // Nothing of its entity is under way, so it waits for nobody.
    let again = harness.deliver(&[added("1", "a", 1)]);
    wait_until("it is told at once", || harness.told(again) == Some(EventOutcome::Duplicate(Lsn(4))));
    assert_eq!(harness.told(other), None);
    harness.allow_commits(None);
    harness.all_told();
}

/// A reader who saw what a crash then takes away would act on what never was.
#[test]
fn a_read_waits_for_what_it_tells() {
    let (_folder, mut harness) = start();
    harness.settle(&[added("1", "a", 1)]);
    let written = harness.commits_written();
    harness.allow_commits(Some(0));
    harness.deliver(&[added("2", "a", 2)]);
    wait_until("it is written", || harness.commits_written() > written);
    let shards = harness.shards.clone();
    let (snapshot, ()) = harness.block_on(async {
        let entity = order("a");
        let reading = shards.read(&entity);
        let opening = async { harness.allow_commits(None) };
        tokio::join!(biased; reading, opening)
    });
    let snapshot = snapshot.unwrap();
    assert_eq!((snapshot.state.version.0, snapshot.lsns.version), (2, snapshot.state.version));
    assert_eq!(Some(snapshot.lsns.last), snapshot.lsns.lsn_of(snapshot.state.version));
    harness.all_told();
}

/// A rule that goes wrong must cost one event at one entity, never the actor or what it knows.
#[test]
fn a_panic_refuses_the_event_and_nothing_else() {
    let logged = keep_lines();
    let (_folder, mut harness) = start();
    let events = [added("1", "a", 1), added("panic 2", "a", 2), added("3", "a", 3), added("panic 4", "b", 4)];
    let told = harness.settle(&events);
    let code = |outcome: &EventOutcome| match outcome {
        EventOutcome::Refused(refusal) => Some(refusal.code),
        _ => None,
    };
    assert_eq!(told.iter().map(code).collect::<Vec<_>>(), [None, Some(Code::Internal), None, Some(Code::Internal)]);
    assert_eq!(harness.types["order"].failed.get(), 2);
    let line = logged("event_id", "panic 2");
    let member = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(["type", "key", "event_id", "correlationid"].map(member), ["order", "a", "panic 2", "1"]);
    assert_eq!(harness.read(&order("a")).unwrap().state.events, 2, "it goes on with what it knew");
    assert_eq!(harness.read(&EntityKey::new("tally", "a")).unwrap().state.events, 3, "other takers keep the event");
    assert!(harness.read(&order("b")).is_none(), "nothing is known of it");
    assert_eq!(harness.read(&EntityKey::new("tally", "b")).unwrap().state.events, 1);
    // Sent again, it is refused again; whoever counted it says so, and nothing counts twice.
    assert_eq!(harness.settle(&events[1..2]).iter().map(code).collect::<Vec<_>>(), [Some(Code::Internal)]);
    assert_eq!(harness.read(&EntityKey::new("tally", "a")).unwrap().state.events, 3);
}

/// If this failed, `?wait=…` would sleep through the change it waits for.
#[test]
fn watchers_hear_of_the_next_commit() {
    let (_folder, mut harness) = start();
    let watching: Vec<_> = (0..3).map(|_| harness.shards.watch(&order("a"))).collect();
    let mut elsewhere = harness.shards.watch(&order("b"));
    harness.settle(&[added("1", "a", 1)]);
    for changed in watching {
        harness.block_on(changed).unwrap();
    }
    assert!(elsewhere.try_recv().is_err());
    harness.settle(&[added("2", "b", 1)]);
    harness.block_on(elsewhere).unwrap();
}

/// If this failed, pages of entities would have holes or show some twice while a checkpoint runs.
#[test]
fn a_key_is_listed_as_unsaved_until_it_is_stored() {
    let (_folder, mut harness) = start();
    let events: Vec<Event> = (0..30).map(|n| added(&format!("e{n}"), &format!("k{n:02}"), 1)).collect();
    harness.settle(&events[..20]);
    let kind: Arc<str> = order("").kind().into();
    let unsaved = |harness: &Harness, after: Option<&str>, prefix: &str, limit| {
        let keys = harness.block_on(harness.shards.unsaved(&kind, after, prefix, limit));
        keys.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(unsaved(&harness, None, "", 3), ["k00", "k01", "k02"]);
    assert_eq!(unsaved(&harness, Some("k02"), "k0", 100), ["k03", "k04", "k05", "k06", "k07", "k08", "k09"]);
    assert_eq!(unsaved(&harness, Some("k1"), "k0", 100), [""; 0]);
    harness.checkpoint();
    harness.settle(&events);
    let stored: Vec<_> = harness.store.keys("order", None, "", 100).unwrap();
    assert_eq!(stored.len(), 20);
    assert_eq!(unsaved(&harness, None, "", 100), (20..30).map(|n| format!("k{n}")).collect::<Vec<_>>());
}
