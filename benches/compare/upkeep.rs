//! What the server does besides: checkpoints, its journal, its memory, and coming back after a crash.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use turnstile::cli::bench::{Settled, Spread, Workload};

use super::bed::{self, Source};
use super::figures::{Figures, Unit, Wanted, millis};
use super::raw;
use super::speed::resident_bytes;
use super::turnstile::Turnstile;

const CHECKPOINT_TABLES: &str = "[checkpoint]\njournal_bytes = \"128MiB\"";
const CHECKPOINT_SECONDS: f64 = 20.0;
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
/// Just below the journal at which a checkpoint begins by default: the most there is to recover from.
const RECOVERED_EVENTS: usize = 3_400_000;
const TENTH_SECONDS: f64 = 30.0;
/// Orders that are there when the memory of further ones is measured, and these.
const ORDERS_BEFORE: usize = 50_000;
const ORDERS: usize = 100_000;

/// Acknowledgements while a checkpoint runs and while none does, at half of `full`.
pub fn checkpoints(figures: &mut Figures, full: f64) {
    let server = Turnstile::start(CHECKPOINT_TABLES);
    let mut source = Source::new(&bed::ORDERS, "c");
    server.run(&Turnstile::loads(&source.take(500_000)));
    let loads = Turnstile::loads(&source.take((full / 2.0 * CHECKPOINT_SECONDS) as usize));
    let ended = AtomicBool::new(false);
    let (settled, during) = std::thread::scope(|scope| {
        let watched = scope.spawn(|| watch(&server, &ended));
        let measured = server.run_at(&loads, full / 2.0);
        ended.store(true, Ordering::Relaxed);
        (measured.settled, watched.join().expect("it watches to the end"))
    });
    let [inside, outside] = split(&settled, &during);
    if inside.is_empty() || outside.is_empty() {
        eprintln!("  no checkpoint began and ended while it was measured: {} seen", during.len());
        return;
    }
    let (inside, outside) = (millis(&inside, 0.99), millis(&outside, 0.99));
    figures.add("acknowledgement p99 during checkpoints, half load", Unit::Millis, Wanted::Nothing, inside);
    figures.add("acknowledgement p99 outside of them", Unit::Millis, Wanted::Nothing, outside);
    figures.add("p99 during checkpoints / outside", Unit::Times, Wanted::AtMost(3.0), inside / outside);
}

/// When checkpoints ran: the counters tell when one has ended, and how long it took.
fn watch(server: &Turnstile, ended: &AtomicBool) -> Vec<(Instant, Instant)> {
    let counted = || {
        let counters = server.counters();
        let name = |part| format!("turnstile_checkpoint_duration_seconds_{part}");
        (counters.get(&name("count")), counters.get(&name("sum")))
    };
    let (mut count, mut sum) = counted();
    let mut ran = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let now = Instant::now();
        let (new_count, new_sum) = counted();
        if new_count > count {
            let took = Duration::from_secs_f64((new_sum - sum).max(0.0));
            ran.push((now.checked_sub(took + SAMPLE_EVERY).unwrap_or(now), now));
        }
        (count, sum) = (new_count, new_sum);
        std::thread::sleep(SAMPLE_EVERY);
    }
    ran
}

/// Latencies of what was settled during these times, and of the rest.
fn split(settled: &[Settled], during: &[(Instant, Instant)]) -> [Histogram<u64>; 2] {
    let mut parts = [0, 1].map(|_| Histogram::new_with_bounds(1, 600_000_000, 3).expect("these bounds are far apart"));
    for Settled { at, requests, latency } in settled {
        let outside = !during.iter().any(|(begin, end)| begin <= at && at <= end);
        parts[usize::from(outside)].saturating_record_n(latency.as_micros() as u64, u64::from(*requests));
    }
    parts
}

/// What a live order with all its parts takes, its actor included.
pub fn memory(figures: &mut Figures) {
    let server = Turnstile::start("");
    let spread = Spread::LifeCycle { open: 1 };
    let mut source = Source::new(&Workload { spread, duplicates: 0.0, ..bed::ORDERS }, "l");
    let mut resident = |orders: usize| {
        server.run(&Turnstile::loads(&source.take(orders * 5)));
        server.sinks_catch_up();
        resident_bytes(&server.counters())
    };
    let before = resident(ORDERS_BEFORE);
    let after = resident(ORDERS);
    let live = server.counters().sum("turnstile_actors_live");
    assert!(live >= (ORDERS_BEFORE + ORDERS) as f64, "all of them are live, and not {live}");
    let each = (after - before) / ORDERS as f64;
    figures.add("memory of a live order with all five parts", Unit::Bytes, Wanted::AtMost(2_560.0), each);
    figures.add("memory with 150,000 live orders", Unit::Mebibytes, Wanted::Nothing, after / f64::from(1 << 20));
}

/// Killed with as much journal as is ever left to recover from.
pub fn recovery(figures: &mut Figures) {
    let server = Turnstile::start("");
    server.run(&Turnstile::loads(&Source::new(&bed::ORDERS, "k").take(RECOVERED_EVENTS)));
    let fresh = Turnstile::start("").ready_after;
    let server = server.crash();
    let ready = server.ready_after.as_secs_f64();
    figures.add("ready after SIGKILL", Unit::Seconds, Wanted::AtMost(15.0), ready);
    let replaying = (ready - fresh.as_secs_f64()).max(0.001);
    let rate = server.replayed as f64 / replaying;
    figures.add("records replayed", Unit::PerSecond, Wanted::AtLeast(400_000.0), rate);
}

/// What the journal takes when commits are small, at a tenth of `full`.
pub fn tenth(figures: &mut Figures, full: f64) {
    let server = Turnstile::start("");
    let rate = full / 10.0;
    let events = Source::new(&bed::ORDERS, "t").take((rate * TENTH_SECONDS) as usize);
    let latencies = server.run_at(&Turnstile::loads(&events), rate).latencies;
    let ratio = server.journal_bytes() as f64 / raw::bytes(&events).len() as f64;
    figures.add(
        "tenth of the load: journal on disk / bytes of accepted events",
        Unit::Times,
        Wanted::AtMost(1.8),
        ratio,
    );
    figures.add("tenth of the load: acknowledgement p99", Unit::Millis, Wanted::Nothing, millis(&latencies, 0.99));
}
