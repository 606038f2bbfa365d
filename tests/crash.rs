//! Kill -9 and SIGTERM, again and again while data comes in on eight connections, a quarter of the kills during recovery:
//! what was acknowledged stays, what was not can be sent again, nothing is lost, counted twice or out of order, and each
//! decision revision stands in the sink's file once and never changes.

mod common;

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use common::dataset::{ALL, Dataset};
use common::steps::{self, Lane, Published, Slot, acked, under_load};
use common::{Server, Setup, from_env, wait_for};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

const CONNECTIONS: usize = 8;
/// Steps of each connection beside the real data, and for each end one is waited for.
const STEPS: usize = 500;
const STEPS_EACH_END: usize = 10;
/// Of so many kills one hits the recovery from the one before.
const RECOVERY_ONE_IN: usize = 4;
/// What `limits.drain` is by default.
const DRAIN: Duration = Duration::from_secs(10);

/// With the smallest limits there are checkpoints, new segments and passivations between and during the ends.
const BUSY: &str = "[journal]\nsegment_bytes = \"1MiB\"\ncommit_bytes_max = \"64KiB\"\nretention = \"0s\"\n\
                    [checkpoint]\njournal_bytes = \"64KiB\"\ndirty_bytes_max = \"1MiB\"\n\
                    [actors]\nshards = 2\nmax_live = 40\nidle = \"50ms\"\n";

/// With the defaults, nearly everything is recovered from the journal.
#[test]
fn kills_change_nothing() {
    survive("", &ends_by_kill(from_env("CRASH_KILLS", 15)), 7);
}

#[test]
fn kills_change_nothing_with_checkpoints_segments_and_passivation_all_the_time() {
    survive(BUSY, &ends_by_kill(from_env("CRASH_KILLS", 15)), 8);
}

/// A deployment is a SIGTERM under load: it ends in good order and in time, and loses as little as a kill.
#[test]
fn stops_change_nothing() {
    survive(BUSY, &vec![End::Stop; from_env("CRASH_STOPS", 15)], 9);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kill,
    /// A kill while it recovers from the end before.
    KillRecovering,
    Stop,
}

fn ends_by_kill(count: usize) -> Vec<End> {
    let end = |n| if n % RECOVERY_ONE_IN == RECOVERY_ONE_IN / 2 { End::KillRecovering } else { End::Kill };
    (0..count).map(end).collect()
}

fn survive(tuning: &str, ends: &[End], seed: u64) {
    let mut random = StdRng::seed_from_u64(from_env("CRASH_SEED", seed));
    let datasets: Vec<&Dataset> = ALL.into_iter().filter(|dataset| dataset.lines().is_some()).collect();
    let mut real: Vec<String> = datasets.iter().filter_map(|dataset| dataset.lines()).flatten().collect();
    real.extend(real.clone());
    real.shuffle(&mut random);
    let rules = datasets.iter().map(|dataset| dataset.rules).chain([steps::RULES]).collect::<String>();
    let lanes: Vec<Lane> = (0..CONNECTIONS)
        .map(|n| {
            let others: Vec<String> = real.iter().skip(n).step_by(CONNECTIONS).cloned().collect();
            Lane::new(&format!("lane-{n}"), STEPS + STEPS_EACH_END * ends.len(), &others, &mut random)
        })
        .collect();

    let mut server = Setup::new(&rules).tables(tuning).start();
    let mut published = Published::default();
    under_load(&mut server, &lanes, |server, address| {
        let total: usize = lanes.iter().map(Lane::len).sum();
        let waited_for = ends.iter().filter(|end| **end != End::KillRecovering).count();
        let share = total / (waited_for + 1);
        let mut threshold = 0;
        for (n, end) in ends.iter().enumerate() {
            let how = format!("after end {} of {}, {end:?}", n + 1, ends.len());
            match end {
                End::Kill | End::Stop => {
                    // Somewhere in its share of the data, as the client sees it: where that finds the server is chance.
                    let at = threshold + random.random_range(1..=share);
                    threshold += share;
                    wait_for("the deliveries go on", || (acked(&lanes) >= at).then_some(()));
                    if *end == End::Stop { stop(server, &how) } else { server.kill() }
                }
                End::KillRecovering => {
                    server.kill();
                    wait_for("a kill hits the recovery", || {
                        server.start_and_kill_recovering(random.random_range(0..100)).then_some(())
                    });
                }
            }
            published.look(server, &how);
            server.start();
            // Nobody sends yet: what is there now is what was there before.
            for lane in &lanes {
                lane.check_acked(server, &how);
            }
            *address.lock().unwrap_or_else(PoisonError::into_inner) = server.tcp();
        }
        wait_for("everything is acknowledged", || lanes.iter().all(Lane::is_acked).then_some(()));
    });

    check(&server, &datasets, &lanes, "after all ends");
    let revisions = wait_for("the sink has every revision", || complete_revisions(&server, &datasets));
    check_file(&server, &revisions);
    published.check_all_there(&server);

    // A stop in good order, and once more from what is stored.
    stop(&mut server, "the last stop");
    server.start();
    check(&server, &datasets, &lanes, "after the last stop");
    published.check_all_there(&server);
}

fn stop(server: &mut Server, how: &str) {
    let begun = Instant::now();
    assert_eq!(server.terminate().code(), Some(0), "{how}: SIGTERM ends it in good order");
    let took = begun.elapsed();
    assert!(took <= DRAIN, "{how}: it took {took:?}, longer than limits.drain");
}

fn check(server: &Server, datasets: &[&Dataset], lanes: &[Lane], how: &str) {
    for dataset in datasets {
        dataset.check(server, how);
    }
    for lane in lanes {
        // With every line acknowledged this is an exact count.
        lane.check_acked(server, how);
    }
}

/// Latest revision and data of each decision, from the documents; none while the file has fewer lines than revisions.
fn complete_revisions(server: &Server, datasets: &[&Dataset]) -> Option<BTreeMap<Slot, (u64, Value)>> {
    let mut revisions = BTreeMap::new();
    for kind in datasets.iter().map(|dataset| dataset.entity).chain(["track", "lane"]) {
        for entity in server.entities(kind, 1000) {
            for (name, decision) in entity["decisions"].as_object().expect("decisions") {
                let revision = decision["revision"].as_u64().unwrap_or(0);
                let key = entity["key"].as_str().expect("a key").to_owned();
                let slot = (kind.to_owned(), key, name.clone());
                revisions.insert(slot, (revision, decision["data"].clone()));
            }
        }
    }
    let expected: u64 = revisions.values().map(|(revision, _)| revision).sum();
    (server.decisions_file().len() as u64 >= expected).then_some(revisions)
}

/// The file is in order, and the last revision of each decision says what the entity says.
fn check_file(server: &Server, revisions: &BTreeMap<Slot, (u64, Value)>) {
    let mut last = steps::check_file(server);
    for (slot, (revision, data)) in revisions {
        let Some(in_file) = last.remove(slot) else {
            assert_eq!(*revision, 0, "{slot:?} is not in the file");
            continue;
        };
        assert_eq!(in_file.revision, *revision, "the file ends with the entity's revision of {slot:?}");
        assert_eq!(in_file.data, *data, "the last revision of {slot:?} says what the entity says");
    }
    assert!(last.is_empty(), "decisions in the file that no entity knows: {:?}", last.keys());
}
