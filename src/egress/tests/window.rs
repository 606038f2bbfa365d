//! What may be sent when, and how far all is finished.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{delivery, places};
use crate::egress::pauses::backoff;
use crate::egress::window::{HELD_MAX, Sending, Window};
use crate::model::ids::Lsn;
use crate::model::system::{OpenRecord, SinkWindow};

fn window(in_flight_max: usize, deliveries: &[(u64, u32, &str)]) -> Window {
    let mut window = Window::new(&SinkWindow::default(), in_flight_max);
    for (lsn, place, key) in deliveries {
        window.put(delivery(*lsn, *place, key));
        window.passed(Lsn(*lsn));
    }
    window
}

/// Everything that may be sent now.
fn sent(window: &mut Window, now: Instant) -> Vec<Sending> {
    std::iter::from_fn(|| window.next(now)).collect()
}

fn shown(sending: &[Sending]) -> Vec<(u64, u32)> {
    places(sending.iter().map(|sending| &sending.delivery))
}

fn open(records: &[(u64, u32)]) -> Vec<OpenRecord> {
    records.iter().map(|(lsn, finished)| OpenRecord { lsn: Lsn(*lsn), finished: *finished }).collect()
}

/// If this failed, a key's decisions could overtake each other, or too many sends would be under way.
#[test]
fn one_send_a_key_and_no_more_than_allowed() {
    let now = Instant::now();
    let mut window = window(2, &[(1, 0, "a"), (1, 1, "a"), (2, 0, "b"), (3, 0, "c"), (4, 0, "a")]);
    let first = sent(&mut window, now);
    assert_eq!(shown(&first), [(1, 0), (2, 0)]);
    window.finished(&first[0].delivery);
    let second = sent(&mut window, now);
    assert_eq!(shown(&second), [(3, 0)], "keys take turns");
    window.finished(&second[0].delivery);
    let third = sent(&mut window, now);
    assert_eq!(shown(&third), [(1, 1)]);
    assert_eq!(window.progress(), SinkWindow { read: Lsn(4), open: open(&[(1, 1), (2, 0), (4, 0)]) });
    assert_eq!(window.delivered(), Lsn(0));
    window.finished(&third[0].delivery);
    assert_eq!(window.delivered(), Lsn(1));
}

/// If this failed, one key that fails would hold up all others, or be tried at once and again.
#[test]
fn a_key_that_failed_rests_and_the_others_go_on() {
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    let mut window = window(8, &[(1, 0, "a"), (2, 0, "b"), (3, 0, "a"), (4, 0, "b")]);
    let first = sent(&mut window, now);
    window.failed(&first[0].delivery, at(5), "HTTP 500");
    window.finished(&first[1].delivery);
    assert!(window.is_failing());
    let second = sent(&mut window, at(4));
    assert_eq!(shown(&second), [(4, 0)], "`a` rests");
    assert_eq!(window.next_at(), Some(at(5)));
    let third = sent(&mut window, at(5));
    assert_eq!((shown(&third), third[0].failures), (vec![(1, 0)], 1), "the same once more, before what follows it");
    window.finished(&third[0].delivery);
    assert!(!window.is_failing());
    assert_eq!(sent(&mut window, at(5))[0].failures, 0, "what follows has not failed");
}

/// If this failed, a receiver that asks to be left alone would not be, or its wish would count against a delivery.
#[test]
fn a_pause_holds_for_everything_and_is_no_failure() {
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    let mut window = window(8, &[(1, 0, "a"), (2, 0, "b"), (3, 0, "b")]);
    let first = sent(&mut window, now);
    window.put_off(&first[0].delivery, at(60), "busy");
    window.finished(&first[1].delivery);
    assert_eq!(shown(&sent(&mut window, at(59))), []);
    assert_eq!(window.next_at(), Some(at(60)));
    let after = sent(&mut window, at(60));
    assert_eq!(shown(&after), [(3, 0), (1, 0)]);
    assert!(after.iter().all(|sending| sending.failures == 0));
    let stuck = window.stuck();
    assert_eq!((stuck.len(), stuck[0].0.lsn, stuck[0].1, &*stuck[0].2), (1, Lsn(1), 1, "busy"), "but it is seen");
    window.finished(&after[1].delivery);
    assert!(!window.is_failing());
}

/// If this failed, a sink that is done with would go on sending, or would be said to have finished what it has not.
#[test]
fn a_closed_window_sends_nothing_and_keeps_its_place() {
    let now = Instant::now();
    let mut window = window(8, &[(1, 0, "a"), (2, 0, "b")]);
    let first = sent(&mut window, now);
    window.finished(&first[1].delivery);
    window.close(&first[0].delivery);
    assert!(!window.has_room() && window.next(now).is_none() && window.next_at().is_none());
    assert_eq!(window.progress(), SinkWindow { read: Lsn(2), open: open(&[(1, 0)]) });
}

/// If this failed, an endpoint that is down would fill the memory.
#[test]
fn it_holds_so_many_and_no_more() {
    let now = Instant::now();
    let mut window = window(1, &[]);
    for lsn in 1..=HELD_MAX as u64 {
        assert!(window.has_room());
        window.put(delivery(lsn, 0, "a"));
    }
    assert!(!window.has_room());
    let sending = window.next(now).unwrap();
    window.finished(&sending.delivery);
    assert!(window.has_room());
}

/// If this failed, keys that failed together would come back together, or wait for ever.
#[test]
fn pauses_grow_to_the_longest_and_differ() {
    let (first, longest) = (Duration::from_secs(1), Duration::from_mins(10));
    for (failures, least, most) in [(1, 500, 1000), (2, 1000, 2000), (5, 8000, 16_000), (30, 300_000, 600_000)] {
        let pauses: HashSet<_> =
            (0..50).map(|n| backoff(first, longest, failures, &format!("id/{n}")).as_millis()).collect();
        assert!(pauses.iter().all(|pause| (least..=most).contains(pause)), "{failures}: {pauses:?}");
        assert!(pauses.len() > 40, "{failures}: {pauses:?}");
    }
    assert_eq!(backoff(first, longest, u32::MAX, "x"), backoff(first, longest, u32::MAX, "x"));
}

proptest! {
    /// If this failed, a crash would lose decisions or change their order. Records of a few keys are put in and finished
    /// at random; at a random moment all is forgotten but the progress, and the rest is put in again. The oracle: each
    /// key's deliveries in the order of the journal, each at least once, and none again that was noted as finished.
    #[test]
    fn nothing_is_lost_or_overtaken_by_a_crash(
        records in prop::collection::vec((0_usize..4, 1_u32..4), 1..40),
        choices in prop::collection::vec((0_usize..8, any::<bool>()), 200),
        crash_at in 0_usize..120,
    ) {
        let now = Instant::now();
        let all: Vec<_> = records
            .iter()
            .zip(1_u64..)
            .flat_map(|((key, count), lsn)| (0..*count).map(move |place| (lsn, place, ["a", "b", "c", "d"][*key])))
            .collect();
        let mut finished: Vec<(u64, u32)> = Vec::new();
        let mut progress = SinkWindow::default();
        let mut choices = choices.into_iter().cycle();
        for steps in [crash_at, usize::MAX] {
            let mut window = Window::new(&progress, 3);
            for (lsn, place, key) in &all {
                let done = progress.open_at(Lsn(*lsn)).unwrap_or(if Lsn(*lsn) <= progress.read { u32::MAX } else { 0 });
                if *place >= done {
                    prop_assert!(!finished.contains(&(*lsn, *place)), "{lsn}.{place} was noted and comes again");
                    window.put(delivery(*lsn, *place, key));
                }
                window.passed(Lsn(*lsn));
            }
            let mut flying: Vec<Sending> = Vec::new();
            for _ in 0..steps {
                flying.extend(sent(&mut window, now));
                if flying.is_empty() {
                    break;
                }
                let (at, fails) = choices.next().unwrap();
                let sending = flying.swap_remove(at % flying.len());
                if fails && sending.failures < 3 {
                    window.failed(&sending.delivery, now, "HTTP 500");
                } else {
                    window.finished(&sending.delivery);
                    finished.push((sending.delivery.lsn.0, sending.delivery.place));
                }
            }
            progress = window.progress();
        }
        let mut by_key: HashMap<&str, Vec<(u64, u32)>> = HashMap::new();
        for (lsn, place, key) in &all {
            by_key.entry(key).or_default().push((*lsn, *place));
        }
        for expected in by_key.values() {
            let came: Vec<_> = finished.iter().filter(|came| expected.contains(came)).copied().collect();
            prop_assert_eq!(&came, expected);
        }
        prop_assert_eq!(progress, SinkWindow::through(Lsn(records.len() as u64)));
    }
}
