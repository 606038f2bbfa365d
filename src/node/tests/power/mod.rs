//! Power cuts: a node runs on a simulated disk, on one thread and in simulated time; after every cut, during recovery too,
//! all that was acknowledged is there once, no decision that was published has changed, and the files open.

mod faults;
mod oracle;
mod process;
mod workload;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use workload::{operations, run, shorten};
use world::Seen;

/// Disks to be checked, unless the environment says otherwise.
const IMAGES: u64 = 2000;
const IMAGES_PER_CUT: u64 = 12;
/// While a failing run is made short, more moments are tried, since each run has others.
const IMAGES_PER_CUT_SHORTENING: u64 = 30;

/// A number that the environment may set.
pub(super) fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// If this failed, a power cut would lose what was acknowledged, double it, change a published decision, or leave files that
/// do not open. `POWER_IMAGES` asks for more disks than usual, `POWER_SEED` for others.
#[test]
fn a_power_cut_loses_nothing() {
    let images_min = from_environment("POWER_IMAGES", IMAGES);
    let seeds = AtomicU64::new(from_environment("POWER_SEED", 1));
    let images = AtomicU64::new(0);
    let total = Mutex::new(Seen::default());
    let work = || {
        while images.load(Ordering::Relaxed) < images_min {
            let seed = seeds.fetch_add(1, Ordering::Relaxed);
            let ops = operations(seed);
            match run(&ops, IMAGES_PER_CUT) {
                Ok(ran) => {
                    images.fetch_add(ran.images, Ordering::Relaxed);
                    total.lock().unwrap().add(&ran);
                }
                Err(failure) => {
                    println!("POWER_SEED={seed}: {}\nlooking for fewer operations", failure.what);
                    let (short, what) = shorten(ops, failure, IMAGES_PER_CUT_SHORTENING);
                    panic!("POWER_SEED={seed}: {} operations fail: {short:#?}\n{what}", short.len());
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (0..std::thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(work)));
    });
    let all = total.into_inner().unwrap();
    println!("{all:?}");
    assert!(all.images >= images_min);
    assert!(all.recoveries_cut * 5 > all.images, "a recovery was cut seldom: {all:?}");
    assert!(all.watermark > 50 && all.trimmed > 50 && all.acknowledged > all.images, "little happened: {all:?}");
}

/// A seed that fails is of no use unless it fails again.
#[test]
fn a_seed_makes_the_same_run() {
    for seed in 1..4 {
        let ops = operations(seed);
        assert_eq!(run(&ops, 3).unwrap(), run(&ops, 3).unwrap());
    }
}
