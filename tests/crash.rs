//! Kill -9, twenty times while data comes in: what was acknowledged stays, what was not can be sent again, and each
//! decision revision stands in the sink's file once.

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use common::dataset::{ALL, instant};
use common::tcp::deliver_some;
use common::{Server, Setup, wait_for};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

const KILLS: usize = 20;
const CONNECTIONS: usize = 8;
/// Unacknowledged lines of the connections, in turn; small enough that kills fall into the middle of the data.
const WINDOWS: [usize; 4] = [8, 16, 32, 64];

/// With the defaults, nearly everything is recovered from the journal.
#[test]
fn twenty_kills_change_nothing() {
    survive("", 7);
}

/// With the smallest limits there are checkpoints, new segments and passivations between and during the kills.
#[test]
fn twenty_kills_change_nothing_with_checkpoints_segments_and_passivation_all_the_time() {
    survive(
        "[journal]\nsegment_bytes = \"1MiB\"\ncommit_bytes_max = \"64KiB\"\nretention = \"0s\"\n\
         [checkpoint]\njournal_bytes = \"64KiB\"\ndirty_bytes_max = \"1MiB\"\n\
         [actors]\nshards = 2\nmax_live = 40\nidle = \"50ms\"\n",
        8,
    );
}

fn survive(tuning: &str, seed: u64) {
    // Other seeds may be tried by hand.
    let seed = std::env::var("CRASH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(seed);
    let mut random = StdRng::seed_from_u64(seed);
    let mut lines = Vec::new();
    for dataset in ALL {
        let Some(events) = dataset.lines() else { return };
        lines.extend(events.iter().cloned().chain(events.iter().cloned()));
    }
    lines.shuffle(&mut random);
    let total = lines.len();
    let mut parts = vec![VecDeque::new(); CONNECTIONS];
    for (n, line) in lines.into_iter().enumerate() {
        parts[n % CONNECTIONS].push_back(line);
    }

    let rules: String = ALL.iter().map(|dataset| dataset.rules).collect();
    let mut server = Setup::new(&rules).tables(tuning).start();
    let address = Mutex::new(server.tcp());
    let (acked, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for (n, part) in parts.iter_mut().enumerate() {
            let (address, acked, over) = (&address, &acked, &over);
            scope.spawn(move || {
                while !part.is_empty() && !over.load(Ordering::SeqCst) {
                    let address = *address.lock().unwrap_or_else(PoisonError::into_inner);
                    deliver_some(address, part, WINDOWS[n % WINDOWS.len()], acked);
                    std::thread::sleep(common::POLL); // a server that is down is not asked all the time
                }
            });
        }
        let ends = EndsWaiting(&over);
        for kill in 0..KILLS {
            // Somewhere in its share of the data, as the client sees it: where that finds the server is chance.
            let share = total / (KILLS + 1);
            let threshold = kill * share + random.random_range(1..=share);
            wait_for("the deliveries go on", || (acked.load(Ordering::SeqCst) >= threshold).then_some(()));
            server.kill();
            for _ in 0..random.random_range(0..2) {
                server.start_and_kill();
            }
            server.start();
            *address.lock().unwrap_or_else(PoisonError::into_inner) = server.tcp();
        }
        wait_for("everything is acknowledged", || (acked.load(Ordering::SeqCst) == total).then_some(()));
        drop(ends);
    });

    for dataset in ALL {
        dataset.check(&server, "after 20 kills");
    }
    let revisions = wait_for("the sink has every revision", || complete_revisions(&server));
    check_file(&server, &revisions);

    // A stop in good order, and once more from what is stored.
    assert_eq!(server.terminate().code(), Some(0), "SIGTERM ends it in good order");
    let before = server.decisions_file();
    server.start();
    for dataset in ALL {
        dataset.check(&server, "after the stop");
    }
    assert_eq!(server.decisions_file(), before, "a restart repeats no decision in the file");
}

/// Tells the deliveries to end when the test does, so that a failure is not a hang.
struct EndsWaiting<'a>(&'a AtomicBool);

impl Drop for EndsWaiting<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Entity type and key, then the decision's name.
type Slot = (String, String, String);

/// Latest revision and data of each decision, from the documents; none while the file has fewer lines than revisions.
fn complete_revisions(server: &Server) -> Option<BTreeMap<Slot, (u64, Value)>> {
    let mut revisions = BTreeMap::new();
    for dataset in ALL {
        for entity in server.entities(dataset.entity, 1000) {
            for (name, decision) in entity["decisions"].as_object().expect("decisions") {
                let revision = decision["revision"].as_u64().unwrap_or(0);
                let key = entity["key"].as_str().expect("a key").to_owned();
                let slot = (dataset.entity.to_owned(), key, name.clone());
                revisions.insert(slot, (revision, decision["data"].clone()));
            }
        }
    }
    let expected: u64 = revisions.values().map(|(revision, _)| revision).sum();
    (server.decisions_file().len() as u64 >= expected).then_some(revisions)
}

/// Each id once; per decision the revisions 1, 2, 3 … in the order of the file, their times rising; the last one says
/// what the entity says.
fn check_file(server: &Server, revisions: &BTreeMap<Slot, (u64, Value)>) {
    let mut ids = BTreeSet::new();
    let mut last: BTreeMap<Slot, (u64, i64, Value)> = BTreeMap::new();
    for line in server.decisions_file() {
        let id = line["id"].as_str().expect("an id").to_owned();
        let revision = line["revision"].as_u64().or_else(|| line["revision"].as_str()?.parse().ok());
        let revision = revision.unwrap_or_else(|| panic!("no revision in {line}"));
        let parts: Vec<&str> = id.split('/').collect();
        let [entity, key, name, number] = parts[..] else { panic!("{id} is not type/key/name/revision") };
        let subject = line["subject"].as_str().expect("a subject");
        assert_eq!((key, number), (common::percent(subject).as_str(), revision.to_string().as_str()), "{line}");
        assert_eq!(line["type"], name, "the type is the decision's name: {line}");
        assert_eq!(line["source"], format!("/turnstile/{entity}"), "{line}");
        let time = instant(line["time"].as_str().expect("a time")).expect("RFC 3339");
        let slot = (entity.to_owned(), subject.to_owned(), name.to_owned());
        let (before, time_before, _) = last.get(&slot).cloned().unwrap_or((0, i64::MIN, Value::Null));
        assert_eq!(revision, before + 1, "revisions of {slot:?} come in order, without a gap");
        assert!(time > time_before, "the time of {id} is later than its predecessor's");
        assert!(ids.insert(id.clone()), "{id} stands in the file twice");
        last.insert(slot, (revision, time, line["data"].clone()));
    }
    for (slot, (revision, data)) in revisions {
        let (in_file, _, data_in_file) = last.remove(slot).unwrap_or((0, 0, Value::Null));
        assert_eq!(in_file, *revision, "the file ends with the entity's revision of {slot:?}");
        assert_eq!(data_in_file, *data, "the last revision of {slot:?} says what the entity says");
    }
    assert!(last.is_empty(), "decisions in the file that no entity knows: {:?}", last.keys());
}
