//! A full disk, and a disk whose sync fails: nothing is acknowledged that is not kept, the message says what it is, and when
//! the fault is over a restart finds everything.

use super::oracle::{SINK_CANNOT_WRITE, ensure};
use super::workload::{Op, life};
use super::world::World;
use crate::disk::simulated::SimDisk;
use crate::vital;

const WORKLOADS: u64 = 10;
const POINTS_IN_A_WORKLOAD: u64 = 25;
const IMAGES_PER_CUT: u64 = 1;

/// What a run met, if its fault came to pass.
enum Met {
    Nothing,
    Fault,
}

/// Runs with a fault until something fails, starts again while the fault lasts and after it, and does the rest.
fn survive(ops: &[Op], fault: impl Fn(&SimDisk), expected: &str) -> Result<Met, String> {
    let mut world = World::new(IMAGES_PER_CUT);
    fault(world.disk());
    let Some((nth, message)) =
        ops.iter().enumerate().find_map(|(nth, op)| world.step(*op).err().map(|message| (nth, message)))
    else {
        return Ok(Met::Nothing);
    };
    let is_clear = |message: &str| message.contains(expected) || message == SINK_CANNOT_WRITE;
    ensure!(is_clear(&message), "it said: {message}");
    if let Err(message) = world.restart() {
        ensure!(is_clear(&message), "started again, it said: {message}");
    }
    world.disk().mend();
    world.restart()?;
    ops[nth + 1..].iter().try_for_each(|op| world.step(*op))?;
    world.step(Op::Commit)?;
    world.step(Op::Cut { seed: nth as u64 })?;
    Ok(Met::Fault)
}

/// Runs every workload once without a fault, to know how far `reached` goes, then with the fault at points up to there. At
/// `met_min` of them something must fail; elsewhere the sink meets the fault, and tries again.
fn at_many_points(met_min: u64, reached: fn(&SimDisk) -> u64, fault: fn(&SimDisk, u64), expected: &str) {
    let mut met = 0;
    for seed in 0..WORKLOADS {
        let ops = life(seed);
        let mut whole = World::new(IMAGES_PER_CUT);
        let most = ops.iter().map(|op| {
            whole.step(*op).unwrap();
            reached(whole.disk())
        });
        let most = most.max().unwrap();
        for nth in 0..POINTS_IN_A_WORKLOAD {
            let point = nth * most / POINTS_IN_A_WORKLOAD;
            let ran = vital::guarded(|| survive(&ops, |disk| fault(disk, point), expected));
            match ran.unwrap_or_else(|panic| Err(format!("it panicked: {panic}"))) {
                Ok(Met::Fault) => met += 1,
                Ok(Met::Nothing) => {}
                Err(failure) => panic!("workload {seed}, fault at {point} of {most}: {failure}"),
            }
        }
    }
    assert!(met >= met_min, "only {met} faults came to pass");
}

/// If this failed, a full disk would lose what was acknowledged, be taken for damage, or leave a folder that does not open
/// again when there is room.
#[test]
fn a_full_disk_loses_nothing() {
    at_many_points(200, SimDisk::pages, SimDisk::limit_pages, "No space left on device");
}

/// If this failed, something would be acknowledged after a sync that failed, or be lost that was acknowledged before it.
#[test]
fn a_failed_sync_is_final_and_loses_nothing() {
    at_many_points(150, SimDisk::syncs, SimDisk::fail_sync, "Input/output error");
}
