//! What takes long to measure: ten million keys, and ten gigabytes of data.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::bed::{self, Events, Source};
use super::figures::{Figures, Unit, Wanted};
use super::speed::{per_second, resident_bytes};
use super::turnstile::Turnstile;

const KEYS: u64 = 10_000_000;
const TABLES: &str = "[actors]\nmax_live = 100000";
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// Events are made and sent so many at a time.
const CHUNK: usize = 1_000_000;
/// The data folders at which commits are compared.
const SMALL_BYTES: u64 = 10 << 20;
const LARGE_BYTES: u64 = 10 << 30;
/// A load at which commits do not fill up.
const COMMIT_RATE: f64 = 10_000.0;
const COMMIT_SECONDS: f64 = 20.0;

/// The most memory while so many keys come, each once, and then two million events to any of them.
pub fn memory(figures: &mut Figures) {
    let server = Turnstile::start(TABLES);
    let ended = AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let watched = scope.spawn(|| {
            let mut most = 0.0_f64;
            while !ended.load(Ordering::Relaxed) {
                most = most.max(resident_bytes(&server.counters()));
                std::thread::sleep(SAMPLE_EVERY);
            }
            most
        });
        for chunk in 0..KEYS / CHUNK as u64 {
            server.run(&Turnstile::loads(&Events::one_a_key(chunk * CHUNK as u64, CHUNK)));
        }
        let mut source = Source::new(&bed::uniform(KEYS), "");
        server.run(&Turnstile::loads(&source.take(2 * CHUNK)));
        let loads = Turnstile::loads(&source.take(CHUNK));
        let rate = per_second(&loads, &server.run(&loads));
        figures.add("10,000,000 keys at random", Unit::PerSecond, Wanted::Nothing, rate);
        ended.store(true, Ordering::Relaxed);
        watched.join().expect("it watches to the end")
    });
    let most = most / f64::from(1 << 20);
    figures.add("memory with 10,000,000 keys, max_live = 100,000", Unit::Mebibytes, Wanted::AtMost(1_536.0), most);
}

/// What a commit takes in a small and in a large data folder, at the same load.
pub fn commits(figures: &mut Figures) {
    let server = Turnstile::start("");
    let mut source = Source::new(&bed::ORDERS, "z");
    let small = commit_millis(&server, &mut source, SMALL_BYTES);
    figures.add("commit with 10 MB of data", Unit::Millis, Wanted::Nothing, small);
    let large = commit_millis(&server, &mut source, LARGE_BYTES);
    figures.add("commit with 10 GB of data", Unit::Millis, Wanted::Nothing, large);
    figures.add("commit with 10 GB / with 10 MB", Unit::Times, Wanted::Nothing, large / small);
}

fn commit_millis(server: &Turnstile, source: &mut Source, bytes: u64) -> f64 {
    let chunk = CHUNK.min(bytes as usize / 300);
    while server.data_bytes() < bytes {
        server.run(&Turnstile::loads(&source.take(chunk)));
    }
    let total = || {
        let counters = server.counters();
        let name = |part| format!("turnstile_commit_duration_seconds_{part}");
        (counters.get(&name("sum")), counters.get(&name("count")))
    };
    let loads = Turnstile::loads(&source.take((COMMIT_RATE * COMMIT_SECONDS) as usize));
    let (sum, count) = total();
    server.run_at(&loads, COMMIT_RATE);
    let (sum_after, count_after) = total();
    (sum_after - sum) / (count_after - count) * 1_000.0
}
