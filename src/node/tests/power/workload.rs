//! What a run does, and how a run that fails is made short.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::world::{Seen, World};
use crate::vital;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// A new event.
    Send { key: u8, n: i64 },
    /// An event that was sent before.
    Again { nth: usize },
    /// The writer makes a commit.
    Commit,
    /// The checkpointer copies so many entities.
    Checkpoint { entities: usize },
    /// The sink takes a step.
    Deliver,
    /// Time goes by.
    Wait { ms: u64 },
    /// States that are stored leave memory.
    Passivate,
    /// The process dies when it has touched the disk so many times more; the machine stays on.
    Kill { after: u64 },
    /// The power goes.
    Cut { seed: u64 },
}

/// Lives of the machine in one run.
const LIVES: usize = 3;
const OPS_IN_A_LIFE: usize = 110;
/// Enough for a few operations to be left; what is left after that is shown as it is.
const SHORTENING_RUNS_MAX: u32 = 150;

/// The operations of a seed.
pub fn operations(seed: u64) -> Vec<Op> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut ops = Vec::new();
    for _ in 0..LIVES {
        let count = random.random_range(0..OPS_IN_A_LIFE * 2);
        ops.extend(events_and_steps(&mut random, count));
        ops.push(Op::Cut { seed: random.random() });
    }
    ops
}

/// The operations of a life without an end.
pub fn life(seed: u64) -> Vec<Op> {
    events_and_steps(&mut StdRng::seed_from_u64(seed), OPS_IN_A_LIFE)
}

fn events_and_steps(random: &mut StdRng, count: usize) -> Vec<Op> {
    // Some lives have a busy writer, some a busy checkpointer.
    let (commits, checkpoints) = (random.random_range(5..40), random.random_range(5..40));
    let op = |_| match random.random_range(0..100 + commits + checkpoints) {
        0..60 => {
            // One key is hot.
            let key = random.random_range(0..8_u8).saturating_sub(random.random_range(0..8));
            Op::Send { key, n: random.random_range(-5..40) }
        }
        60..70 => Op::Again { nth: random.random_range(0..1000) },
        70..80 => Op::Deliver,
        80..93 => Op::Wait { ms: random.random_range(0..1500) },
        93..99 => Op::Passivate,
        99 => Op::Kill { after: random.random_range(0..300) },
        n if n < 100 + commits => Op::Commit,
        _ => Op::Checkpoint { entities: random.random_range(1..6) },
    };
    (0..count).map(op).collect()
}

/// What went wrong, and how many operations it took.
#[derive(Clone, Debug)]
pub struct Failure {
    pub what: String,
    pub after: usize,
}

/// Runs operations on a new machine.
pub fn run(ops: &[Op], images_per_cut: u64) -> Result<Seen, Failure> {
    let mut world = World::new(images_per_cut);
    for (nth, op) in ops.iter().enumerate() {
        let stepped = vital::guarded(|| world.step(*op)).unwrap_or_else(|panic| Err(format!("it panicked: {panic}")));
        stepped.map_err(|what| Failure { what, after: nth + 1 })?;
    }
    Ok(world.seen)
}

/// Leaves out operations while the rest still fails; returns what is left, and how that fails.
pub fn shorten(mut ops: Vec<Op>, mut failure: Failure, images_per_cut: u64) -> (Vec<Op>, String) {
    ops.truncate(failure.after);
    let mut chunk = ops.len().div_ceil(2);
    let mut runs_left = SHORTENING_RUNS_MAX;
    loop {
        let mut at = 0;
        while at < ops.len() && runs_left > 0 {
            runs_left -= 1;
            let mut fewer = ops.clone();
            fewer.drain(at..ops.len().min(at + chunk));
            match run(&fewer, images_per_cut) {
                Ok(_) => at += chunk,
                Err(other) => {
                    fewer.truncate(other.after);
                    (ops, failure) = (fewer, other);
                }
            }
        }
        if chunk == 1 || runs_left == 0 {
            return (ops, failure.what);
        }
        chunk = chunk.div_ceil(2);
    }
}
