//! A disk that fills up or fails under load: nothing is acknowledged that is not kept, the message says what to do, and
//! once the disk is mended a restart has everything.

mod common;

use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use common::around::{self, Around, SmallDisk};
use common::orders::STRUCTURED;
use common::steps::{self, Lane, Published, under_load};
use common::{Setup, from_env, wait_for};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const LANES: usize = 4;
/// Steps of a lane: together their records are more than the small disks hold.
const STEPS: usize = 5_000;
/// Sizes of disks, in KiB: from hardly enough to start to hardly too small.
const SMALL_KIB: std::ops::Range<u64> = 3_000..7_000;
const LARGE_KIB: u64 = 256 * 1024;
/// The exit code after an I/O error.
const EXIT_IO: i32 = 3;
/// How long the process may live on after a sync has failed.
const END_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Few files that grow, or many that come and go.
const TUNINGS: [&str; 2] = [
    "[limits]\ndisk_free_min = \"0B\"",
    "[limits]\ndisk_free_min = \"0B\"\n[journal]\nsegment_bytes = \"1MiB\"\ncommit_bytes_max = \"64KiB\"\n\
     [checkpoint]\njournal_bytes = \"64KiB\"\n[actors]\nmax_live = 5\nidle = \"50ms\"",
];

fn lanes(random: &mut StdRng) -> Vec<Lane> {
    (0..LANES).map(|n| Lane::new(&format!("lane-{n}"), STEPS, &[], random)).collect()
}

/// A full disk at other points in each round: the journal's commit, its next segment, a checkpoint.
#[test]
fn no_space_left() {
    let mut random = StdRng::seed_from_u64(from_env("DISK_SEED", 1));
    for round in 0..from_env("DISK_ROUNDS", 4) {
        let kib = random.random_range(SMALL_KIB);
        let how = format!("round {round}, {kib} KiB");
        let lanes = lanes(&mut random);
        let mut server = Setup::new(steps::RULES).tables(TUNINGS[round % TUNINGS.len()]).write();
        let Some(disk) = SmallDisk::new(&server.path("data"), kib) else { return };
        server.start();
        let mut published = Published::default();
        under_load(&mut server, &lanes, |server, address| {
            assert_eq!(server.wait_for_exit().code(), Some(EXIT_IO), "{how}: {}", server.stderr());
            let log = server.stderr();
            assert!(log.contains("No space left on device"), "{how}: it says why: {log}");
            assert!(log.contains("nothing is acknowledged from here on"), "{how}: it says what that means: {log}");
            published.look(server, &how);
            disk.resize(LARGE_KIB);
            server.start();
            for lane in &lanes {
                lane.check_acked(server, &how);
            }
            *address.lock().unwrap_or_else(PoisonError::into_inner) = server.tcp();
            wait_for("everything is acknowledged", || lanes.iter().all(Lane::is_acked).then_some(()));
        });
        for lane in &lanes {
            lane.check_acked(&server, &how);
        }
        let expected = LANES * STEPS * 2;
        wait_for("the sink has every revision", || (server.decisions_file().len() >= expected).then_some(()));
        steps::check_file(&server);
        published.check_all_there(&server);
    }
}

/// Long before the disk is full nothing more is admitted, and it goes on by itself when there is space again.
#[test]
fn admission_closes_before_the_disk_is_full_and_opens_again() {
    let mut server = Setup::new(steps::RULES).tables("[limits]\ndisk_free_min = \"16MiB\"").write();
    let Some(_disk) = SmallDisk::new(&server.path("data"), 64 * 1024) else { return };
    server.start();
    let step = |n: u64| {
        format!(
            r#"{{"id":"{n}","type":"Step","subject":"a","time":"2026-11-20T10:00:00Z","data":{{"lane":"l","n":{n},"total":{n}}}}}"#
        )
    };
    let post = |n| server.post("/v1/events", STRUCTURED, step(n));
    post(1).expect(202);
    let filler = server.path("data/filler");
    std::fs::write(&filler, vec![1; 50 << 20]).expect("there is space for it");
    let mut n = 1;
    let busy = wait_for("admission closes", || {
        n += 1;
        Some(post(n)).filter(|response| response.status != 202)
    });
    assert_eq!(busy.problem(429), "busy");
    assert!(busy.text().contains("limits.disk_free_min"), "it says which limit: {}", busy.text());
    let mut client = server.client();
    client.send(step(n));
    assert_eq!(server.entity("track", "a")["events"], n - 1, "what was refused is not there, and can still be read");
    std::fs::remove_file(filler).expect("it can be deleted");
    assert!(client.settle(1).refused.is_empty(), "the line that waited is taken");
    post(n + 1).expect(202);
    assert_eq!(server.entity("track", "a")["events"], n + 1);
}

/// After a sync that failed nobody knows what the disk holds: the process ends at once, and what it acknowledged before is
/// there.
#[test]
fn a_sync_that_fails_ends_the_process() {
    let mut random = StdRng::seed_from_u64(2);
    for (round, n) in [40, 77].into_iter().enumerate() {
        let how = format!("sync {n} fails");
        let lanes = lanes(&mut random);
        let mut server = Setup::new(steps::RULES).tables(TUNINGS[round % TUNINGS.len()]).write();
        let log = server.path("syncs.log");
        let Some(failing) = around::failing_disk(n, &log) else { return };
        server.set_around(failing);
        server.start();
        under_load(&mut server, &lanes, |server, address| {
            assert_eq!(server.wait_for_exit().code(), Some(EXIT_IO), "{how}: {}", server.stderr());
            let ended = SystemTime::UNIX_EPOCH.elapsed().expect("a time").as_secs_f64();
            let failed = around::first_failure(&log).expect("a sync failed");
            let lived_on = ended - failed;
            assert!(lived_on <= END_AFTER_FAILURE.as_secs_f64(), "{how}: it lived on for {lived_on} s");
            assert!(server.stderr().contains("nothing is acknowledged from here on"), "{how}: {}", server.stderr());
            server.set_around(Around::default());
            server.start();
            for lane in &lanes {
                lane.check_acked(server, &how);
            }
            *address.lock().unwrap_or_else(PoisonError::into_inner) = server.tcp();
            wait_for("everything is acknowledged", || lanes.iter().all(Lane::is_acked).then_some(()));
        });
        for lane in &lanes {
            lane.check_acked(&server, &how);
        }
    }
}
