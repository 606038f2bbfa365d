//! Checkpoints under load, and what a crash leaves of them: recovery must come to the very states that were live.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Folder, Harness, Wiring, added, event, order, wait_until};
use crate::actors::{History, Kept};
use crate::model::codec;
use crate::model::event::Event;
use crate::model::identities::{IDENTITIES_IN_STATE_MAX, Identities};
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::settle::EventOutcome;
use crate::model::state::LedgerEntry;
use crate::model::time::Timestamp;

/// Everything known of every entity in the journal: the state with or without its identities, and where its records
/// are.
pub(super) fn all_known(harness: &Harness, with_identities: bool) -> HashMap<EntityKey, Vec<u8>> {
    let entities = harness.records().into_iter().map(|(_, record)| record.entity);
    entities
        .map(|entity| {
            let mut snapshot = harness.read(&entity).unwrap();
            if !with_identities {
                snapshot.state.identities = Identities::default();
            }
            let history = History { store: &harness.store, entity: &entity, book: &snapshot.lsns };
            let lsns = history.after(Lsn::ZERO, usize::MAX).unwrap();
            let made = |entry: &LedgerEntry| snapshot.lsns.lsn_of(entry.version);
            let decisions: Vec<Option<Lsn>> = snapshot.state.ledger.iter().map(made).collect();
            (entity, codec::encode(1, &(snapshot.state, lsns, decisions)))
        })
        .collect()
}

/// Fails if a record up to the watermark is in no row, or a row does not know where its records are.
fn check_watermark(harness: &Harness) {
    let watermark = harness.store.watermark().unwrap();
    let mut last: HashMap<EntityKey, Version> = HashMap::new();
    for (lsn, record) in harness.records() {
        if lsn <= watermark {
            last.insert(record.entity, record.version);
        }
    }
    for (entity, version) in last {
        let row = harness.store.get(&entity).unwrap().unwrap_or_else(|| panic!("{entity} is not stored"));
        assert!(row.version >= version, "{entity}: version {} is stored, {} is committed", row.version.0, version.0);
        let stored = Kept::load(&harness.store, &entity).unwrap().unwrap();
        assert!(stored.book.version >= version, "{entity}: the row lacks positions below the watermark");
        for entry in stored.entity.state().ledger.iter().filter(|entry| entry.version <= version) {
            assert!(stored.book.lsn_of(entry.version).is_some(), "{entity}: {} has no position", entry.name);
        }
    }
}

fn batch(round: usize) -> Vec<Event> {
    (0..40)
        .map(|n| added(&format!("e{round}-{n}"), &format!("k{}", (round * 7 + n * n) % 30), (n % 50) as i64))
        .collect()
}

/// If this failed, a crash would lose what was acknowledged, or a checkpoint would hide that something is missing.
#[test]
fn checkpoints_under_load_lose_nothing_in_a_crash() {
    for live_max in [1000, 4] {
        let folder = Folder::new();
        let mut harness = Harness::start(&folder, Wiring { shards: 2, live_max, ..Wiring::default() });
        let stopped = AtomicBool::new(false);
        let checkpointer = harness.take_checkpointer();
        std::thread::scope(|scope| {
            let stopped = &stopped;
            let checkpoints = scope.spawn(move || {
                let mut checkpoints = 0;
                while !stopped.load(Ordering::Relaxed) || checkpoints < 3 {
                    checkpointer.checkpoint(None).unwrap();
                    checkpoints += 1;
                }
                checkpointer
            });
            for round in 0..60 {
                harness.deliver(&batch(round));
                if round % 6 == 0 {
                    check_watermark(&harness);
                }
            }
            harness.all_told();
            stopped.store(true, Ordering::Relaxed);
            harness.give_checkpointer(checkpoints.join().unwrap());
        });
        harness.settle(&batch(60));
        check_watermark(&harness);
        let live = all_known(&harness, false);
        let left = folder.copy();
        drop(harness);
        let recovered = Harness::start(&left, Wiring::default());
        assert!(recovered.replayed >= 80, "the last batch was in no checkpoint");
        assert!(all_known(&recovered, false) == live, "live_max = {live_max}");
        recovered.checkpoint();
        check_watermark(&recovered);
    }
}

/// A crash between two transactions of a checkpoint leaves rows of different ages, some ahead of the watermark.
#[test]
fn rows_ahead_of_the_watermark_are_brought_together() {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring::default());
    harness.settle(&batch(0));
    harness.checkpoint();
    let watermark = harness.store.watermark().unwrap();
    harness.settle(&batch(1));
    harness.checkpoint_partly(20);
    harness.settle(&batch(2));
    assert_eq!(harness.store.watermark().unwrap(), watermark);
    assert!(harness.store.highest_lsn().unwrap() > watermark);
    let live = all_known(&harness, true);
    let left = folder.copy();
    drop(harness);
    // Twice, since what recovery makes of it must not differ when it is done again.
    for _ in 0..2 {
        let recovered = Harness::start(&left, Wiring::default());
        assert_eq!(recovered.replayed, 160);
        let tail: usize = recovered.records()[80..].iter().map(|(_, record)| record.encode().len()).sum();
        assert_eq!(recovered.replayed_bytes, tail as u64, "the tail that the next checkpoint is due for");
        assert!(all_known(&recovered, true) == live);
        recovered.checkpoint_partly(30);
    }
}

/// A copy that ran ahead of the journal must not be the last word on where its records are.
#[test]
fn a_copy_ahead_of_the_journal_is_followed_by_a_whole_one() {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring::default());
    harness.settle(&[added("1", "a", 1), added("m", "marker", 1)]);
    let written = harness.commits_written();
    harness.allow_commits(Some(0));
    harness.deliver(&[added("2", "a", 200)]);
    wait_until("it is written", || harness.commits_written() > written);
    harness.begin_slice();
    harness.handled("marker");
    assert!(harness.checkpointer().slices.is_empty(), "the copy waits for its record");
    harness.allow_commits(None);
    harness.all_told();
    harness.store_slice();
    assert_eq!(harness.store.get(&order("a")).unwrap().unwrap().version, Version(2));
    harness.checkpoint();
    check_watermark(&harness);
    let live = all_known(&harness, true);
    let left = folder.copy();
    drop(harness);
    let recovered = Harness::start(&left, Wiring::default());
    assert_eq!(recovered.replayed, 0);
    assert!(all_known(&recovered, true) == live);
}

fn heard(n: usize) -> Event {
    event(&format!("h{n}"), "Heard", r#"{"recent":"r"}"#)
}

/// If this failed, an old event sent again would count twice once its identity has left the state's row.
#[test]
fn identities_beyond_the_rows_own_are_known_for_ever() {
    let folder = Folder::new();
    let few = Wiring { live_max: 1, ..Wiring::default() };
    let mut harness = Harness::start(&folder, few);
    let count = 3 * IDENTITIES_IN_STATE_MAX;
    let events: Vec<Event> = (0..count).map(|n| added(&format!("e{n}"), "a", 1)).chain((0..count).map(heard)).collect();
    let is_duplicate = |told: &EventOutcome| matches!(told, EventOutcome::Duplicate(_));
    harness.settle(&events);
    let again = |harness: &mut Harness| {
        // Other keys in between, so that the actors go and come again.
        for (n, chunk) in events.chunks(40).enumerate() {
            assert!(harness.settle(chunk).iter().all(is_duplicate));
            harness.settle(&[added(&format!("other {n}"), &format!("b{n}"), 1)]);
        }
    };
    again(&mut harness);
    harness.checkpoint();
    again(&mut harness);
    assert!(harness.read(&order("a")).unwrap().state.identities.has_spilled());
    let more: Vec<_> = (0..count).map(|n| added(&format!("more{n}"), "a", 1)).collect();
    harness.settle(&more);
    harness.checkpoint_partly(usize::MAX);
    again(&mut harness);
    let left = folder.copy();
    drop(harness);
    let mut recovered = Harness::start(&left, few);
    again(&mut recovered);
    assert!(recovered.settle(&more).iter().all(is_duplicate));
    recovered.checkpoint();
    again(&mut recovered);
    let key = EntityKey::new("recent", "r");
    assert_eq!(recovered.read(&key).unwrap().state.events, count as u64);
    let conflict = event("h3", "Heard", r#"{"recent":"r","other":1}"#);
    assert!(matches!(recovered.settle(&[conflict])[..], [EventOutcome::Refused(_)]), "its payload is known, too");
    // What still is in the row is of the youngest.
    let row = recovered.store.get(&key).unwrap().unwrap();
    let stored = Kept::load(&recovered.store, &key).unwrap().unwrap().entity;
    assert_eq!(stored.state().identities.overflow().len(), 0);
    assert_eq!(row.version, stored.version());
}

/// An identity counts again once its window is over, wherever it is kept by then.
#[test]
fn identities_lapse_in_memory_and_in_the_store() {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring::default());
    let data = r#"{"brief":"b"}"#;
    let events: Vec<_> = (0..200).map(|n| event(&format!("b{n}"), "Mentioned", data)).collect();
    let key = EntityKey::new("brief", "b");
    for round in 1..=2 {
        let told = harness.settle(&events);
        assert!(told.iter().all(|told| matches!(told, EventOutcome::Accepted(_))), "round {round}");
        let now = harness.read(&key).unwrap().state.now;
        harness.checkpoint();
        let is_over = || Timestamp::now().since(now).as_seconds() > 1.01;
        wait_until("the window is over", is_over);
    }
    harness.settle(&events[..100]);
    let live = harness.read(&key).unwrap().state;
    assert_eq!(live.events, 500);
    assert!(live.identities.has_spilled() && live.identities.oldest().unwrap().at_ms == live.now.millis());
    let live = all_known(&harness, true);
    let left = folder.copy();
    drop(harness);
    assert!(all_known(&Harness::start(&left, Wiring::default()), true) == live);
}
