//! One key that everybody speaks to: what it gets itself, and what it costs the others.

use turnstile::cli::bench::{Pace, Workload};

use super::bed::{self, Source};
use super::figures::{Figures, Unit, Wanted, millis};
use super::speed::per_second;
use super::turnstile::Turnstile;

/// Keys that stand for many.
const MANY: u64 = 100_000;
/// Checkpoints come often, so that what one key's costs shows.
const TABLES: &str = "[checkpoint]\njournal_bytes = \"64MiB\"";
/// Events of which a rate is taken.
const EVENTS: usize = 400_000;
/// Events on the hot key before its rate is taken again.
const LONG_LIFE: usize = 1_000_000;
/// The others' events a second, far below what the server takes.
const OTHERS_RATE: f64 = 5_000.0;
/// What no answer at all counts as.
const UNANSWERED_MILLIS: f64 = 60_000.0;
const OTHERS_SECONDS: f64 = 8.0;

fn workload(hot: f64) -> Workload {
    Workload { hot, duplicates: 0.0, ..bed::uniform(MANY) }
}

/// The rates of many keys and of one, and the others' latency beside either.
pub fn hot(figures: &mut Figures) {
    let server = Turnstile::start(TABLES);
    let mut many = Source::new(&workload(0.0), "m");
    let mut one = Source::new(&workload(1.0), "h");
    let rate = |source: &mut Source, events| {
        let loads = Turnstile::loads(&source.take(events));
        match server.try_run(&loads) {
            Ok(measured) => per_second(&loads, &measured),
            Err(why) => {
                eprintln!("  counted as 0: {why}");
                0.0
            }
        }
    };
    rate(&mut many, EVENTS);
    let many_rate = rate(&mut many, EVENTS);
    figures.add("many keys (100,000)", Unit::PerSecond, Wanted::Nothing, many_rate);
    let young = rate(&mut one, EVENTS);
    figures.add("one key", Unit::PerSecond, Wanted::Nothing, young);
    figures.add("one key / many keys", Unit::Times, Wanted::AtLeast(0.5), young / many_rate);
    rate(&mut one, LONG_LIFE - EVENTS);
    let old = rate(&mut one, EVENTS);
    figures.add("one key after 1,000,000 events", Unit::PerSecond, Wanted::Nothing, old);
    figures.add("one key after 1,000,000 events / many keys", Unit::Times, Wanted::AtLeast(0.5), old / many_rate);
    drop(server);
    let alone = beside(None);
    figures.add("others' acknowledgement p99, alone", Unit::Millis, Wanted::Nothing, alone);
    let beside_many = beside(Some((0.0, many_rate)));
    figures.add("others' p99 beside many keys at full load", Unit::Millis, Wanted::Nothing, beside_many);
    let beside_one = beside(Some((1.0, young)));
    figures.add("others' p99 beside one key at full load", Unit::Millis, Wanted::Nothing, beside_one);
    let ratio = beside_one / beside_many;
    figures.add("others' p99, beside one key / beside many", Unit::Times, Wanted::AtMost(2.0), ratio);
}

/// The others' p99 while half of the connections send as fast as they can, with a share to one key. That takes so many
/// events a second that they do not end before the others do.
fn beside(noise: Option<(f64, f64)>) -> f64 {
    let server = Turnstile::start("");
    let others = Source::new(&workload(0.0), "o").take((OTHERS_RATE * OTHERS_SECONDS) as usize);
    let others = Turnstile::loads(&others);
    std::thread::scope(|scope| {
        if let Some((share, rate)) = noise {
            let events = Source::new(&workload(share), "n").take((rate * OTHERS_SECONDS * 1.3) as usize);
            let loads = events.loads(4, turnstile::cli::bench::Rendered::cloud_event);
            let server = &server;
            scope.spawn(move || {
                if let Err(why) = server.try_run(&loads) {
                    eprintln!("  what is beside the others ended: {why}");
                }
            });
        }
        let pace = Pace { pipeline: usize::MAX / 2, batch: 1, rate: Some(OTHERS_RATE) };
        match server.try_paced(&others, pace) {
            Ok(measured) => millis(&measured.latencies, 0.99),
            Err(why) => {
                eprintln!("  counted as {UNANSWERED_MILLIS} ms: {why}");
                UNANSWERED_MILLIS
            }
        }
    })
}
