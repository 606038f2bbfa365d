//! Real data through the real binary: whatever the order, the repetition and the number of connections, what comes out
//! is what an independent computation found.

mod common;

use common::dataset::{BPIC2012, Dataset, SCMS, VAST_BADGES};
use common::{Setup, deliver};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

const SEED: u64 = 20_261_120;
const CONNECTIONS: usize = 8;
/// Far fewer live entities and events under way than there are, and a checkpoint whenever one may begin.
const LITTLE_ROOM: &str = "[actors]\nmax_live = 10\nidle = \"1ms\"\n[limits]\nin_flight_records_max = 64\n\
                           [checkpoint]\njournal_bytes = \"64KiB\"\ndirty_bytes_max = \"1MiB\"";

/// Delivers with `arrange` on a fresh server, over as many connections as it gives parts, and compares with the truth.
fn run(dataset: &Dataset, how: &str, tuning: &str, arrange: impl FnOnce(Vec<String>) -> Vec<Vec<String>>) {
    let Some(lines) = dataset.lines() else { return };
    let distinct = lines.iter().collect::<std::collections::BTreeSet<_>>().len() as u64;
    let server = Setup::new(dataset.rules).tables(tuning).start();
    let parts = arrange(lines);
    let address = server.tcp();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts.iter().map(|part| scope.spawn(move || deliver(address, part))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a delivery")).collect()
    });
    let (mut sent, mut acked, mut duplicates) = (0, 0, 0);
    for (part, outcome) in parts.iter().zip(&outcomes) {
        assert!(outcome.refused.is_empty(), "{} {how}: refused {:?}", dataset.name, outcome.refused);
        sent += part.len() as u64;
        acked += outcome.acked;
        duplicates += outcome.duplicates;
    }
    assert_eq!(acked, sent, "{} {how}: every line is acknowledged", dataset.name);
    assert_eq!(sent - duplicates, distinct, "{} {how}: each event counts once", dataset.name);
    dataset.check(&server, how);
}

fn shuffled_twice(lines: Vec<String>) -> Vec<Vec<String>> {
    let mut twice = [lines.clone(), lines].concat();
    twice.shuffle(&mut StdRng::seed_from_u64(SEED));
    let mut parts = vec![Vec::new(); CONNECTIONS];
    for (n, line) in twice.into_iter().enumerate() {
        parts[n % CONNECTIONS].push(line);
    }
    parts
}

fn in_every_order(dataset: &Dataset) {
    run(dataset, "in file order", "", |lines| vec![lines]);
    run(dataset, "reversed", "", |lines| vec![lines.into_iter().rev().collect()]);
    run(dataset, "shuffled, twice, over 8 connections", "", shuffled_twice);
    run(dataset, "shuffled, twice, over 8 connections, with little room", LITTLE_ROOM, shuffled_twice);
}

/// Wrong sums, dates or punctuality here mean that merging depends on order or loses exactness.
#[test]
fn shipments_come_out_as_computed_from_the_tables() {
    in_every_order(&SCMS);
}

/// A wrong last event or outcome here means that feeds which overtake each other still race.
#[test]
fn loan_applications_come_out_as_computed_from_the_log() {
    in_every_order(&BPIC2012);
}

/// A wrong number of reads here means that duplicates count.
#[test]
fn badge_days_come_out_as_computed_from_the_reads() {
    in_every_order(&VAST_BADGES);
}
