//! Two thousand mutants of a data folder, each with one thing changed behind Turnstile's back: a bit, a byte, a sector, a
//! page, the length of a file. Each is opened and read to the last key, identity and record. Either somebody is told,
//! with a message that says what to do, or all is as it was, and stays so when it is written on. There is no third way:
//! no panic, no hang, no room made for what is not there, and above all no wrong state.

mod common;
#[path = "damage/folder.rs"]
mod folder;
#[path = "damage/mutant.rs"]
mod mutant;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use folder::{Image, Reader, images};
use mutant::Mutant;
use rand::SeedableRng;
use rand::rngs::StdRng;

const MUTANTS: u64 = 2_000;
/// Mutants spend most of their time waiting for the disk to sync.
const WORKERS: u64 = 4;
/// What counts as a hang. A mutant takes some 30 ms; a machine with more to do may stall for a while.
const HANG: Duration = Duration::from_secs(5);
/// What the process may take beyond what it has when an undamaged folder was read: caches, threads. A length that
/// damage made up would be far more.
const GROWTH_BYTES_MAX: u64 = 1 << 30;
/// What every message has one of: it tells what to do.
const ADVICE: [&str; 4] = ["restore", "bring back", "start again", "then restart"];

/// Panics so far, also those that were caught.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// What became of a mutant.
enum Verdict {
    Detected,
    Harmless,
    Wrong(String),
}

#[test]
fn two_thousand_mutants_are_told_of_or_harmless() {
    // Other seeds may be tried by hand.
    let seed = std::env::var("DAMAGE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        print(panic);
    }));
    let images = images();
    let readers: Vec<_> = images.iter().map(|image| Reader::new(&image.keys)).collect();
    let before = virtual_bytes_peak();
    let (verdicts, tried) = crossbeam_channel::bounded(1);
    let mut tally: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (verdicts, images, readers) = (verdicts.clone(), &images, &readers);
            scope.spawn(move || {
                for number in (worker..MUTANTS).step_by(WORKERS as usize) {
                    let which = (number / WORKERS) as usize % images.len();
                    let (image, reader) = (&images[which], &readers[which]);
                    let mutant = Mutant::new(image, &mut StdRng::seed_from_u64(seed << 32 | number));
                    let started = Instant::now();
                    let verdict = watched(&mutant, image, reader);
                    if verdicts.send((number, mutant, verdict, started.elapsed())).is_err() {
                        return;
                    }
                }
            });
        }
        drop(verdicts);
        for (number, mutant, verdict, took) in tried {
            slowest = slowest.max(took);
            let [detected, harmless] = tally.entry(mutant.kind()).or_default();
            match verdict {
                Verdict::Detected => *detected += 1,
                Verdict::Harmless => *harmless += 1,
                Verdict::Wrong(what) => panic!("DAMAGE_SEED={seed}, mutant {number} ({mutant}): {what}"),
            }
        }
    });
    for (kind, [detected, harmless]) in &tally {
        println!("{kind}: {detected} detected, {harmless} harmless");
        assert!(*detected >= 20, "mutants of this kind hit something that is read");
    }
    println!("slowest {slowest:?}, {} bytes more", virtual_bytes_peak().saturating_sub(before));
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "nothing panics, also where it would be caught");
    assert!(virtual_bytes_peak().saturating_sub(before) < GROWTH_BYTES_MAX, "no room is made for what is not there");
}

/// Tries a mutant on a thread of its own, so that a hang is seen.
fn watched(mutant: &Mutant, image: &Image, reader: &Reader<'_>) -> Verdict {
    let (done, finished) = crossbeam_channel::bounded(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let tried = catch_unwind(AssertUnwindSafe(|| attempt(mutant, image, reader)));
            let _ = done.send(tried.unwrap_or_else(|_| Verdict::Wrong("it panicked".to_owned())));
        });
        finished.recv_timeout(HANG).unwrap_or_else(|_| {
            // The thread cannot be ended, and the scope would wait for it.
            eprintln!("mutant {mutant}: no end after {HANG:?}");
            std::process::abort();
        })
    })
}

fn attempt(mutant: &Mutant, image: &Image, reader: &Reader<'_>) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    image.unpack(folder.path());
    mutant.apply(folder.path());
    match reader.read(folder.path()) {
        Err(message) => told(&message),
        Ok(found) if found != image.truth => Verdict::Wrong(found.difference(&image.truth)),
        Ok(_) => goes_on(reader, folder.path(), image),
    }
}

/// What is harmless now must not come to light when the folder is written on.
fn goes_on(reader: &Reader<'_>, folder: &Path, image: &Image) -> Verdict {
    match reader.write(folder).and_then(|()| reader.read(folder)) {
        Err(message) => told(&message),
        Ok(found) if found.content != image.truth.content => Verdict::Wrong(found.difference(&image.truth)),
        Ok(_) => Verdict::Harmless,
    }
}

fn told(message: &str) -> Verdict {
    let names_what = message.contains(".redb") || message.contains("journal");
    if names_what && ADVICE.iter().any(|advice| message.contains(advice)) {
        Verdict::Detected
    } else {
        Verdict::Wrong(format!("the message says too little: {message}"))
    }
}

/// The most address space that the process ever had, in bytes; 0 where it cannot be told.
fn virtual_bytes_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}
